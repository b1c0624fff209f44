"""What mlflow's traces show of routed calls that LlamaIndex makes, as one JSON object by endpoint."""

import asyncio
import json
import os
import sys
import tempfile

os.environ |= {
    "MLFLOW_TRACKING_URI": tempfile.mkdtemp(),
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
}

import mlflow
from ways_of_llama_index import WAYS, new_llm

mlflow.set_experiment("lunar")
mlflow.llama_index.autolog()


async def main():
    shown = {}
    for way, ask in WAYS.items():
        llm = new_llm()
        last = await ask(llm)
        trace = mlflow.get_trace(mlflow.get_last_active_trace_id())
        span = next(span for span in trace.data.spans if span.name == f"LunarLLM.{way}")
        shown[way] = {
            "model": span.get_attribute("mlflow.llm.model"),
            "cost": (span.get_attribute("mlflow.llm.cost") or {}).get("total_cost"),
            "stated": {
                name: last.additional_kwargs.get(name) for name in ("model", "total_cost_usd")
            },
            "has_key": os.environ["LUNAR_API_KEY"] in json.dumps(span.to_dict()),
        }
    sys.stdout.write(json.dumps(shown))


asyncio.run(main())
