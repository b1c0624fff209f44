"""What mlflow's traces show of routed calls that LangChain makes, as one JSON object by way."""

import asyncio
import json
import os
import sys
import tempfile

os.environ |= {
    "MLFLOW_TRACKING_URI": tempfile.mkdtemp(),
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}

import mlflow
from mlflow.langchain.langchain_tracer import MlflowLangchainTracer
from ways_of_langchain import WAYS, new_model, stated

mlflow.set_experiment("lunar")


async def main():
    shown = {}
    for way, ask in WAYS.items():
        message = await ask(new_model(), {"callbacks": [MlflowLangchainTracer()]})
        trace = mlflow.get_trace(mlflow.get_last_active_trace_id())
        span = next(span for span in trace.data.spans if span.span_type == "CHAT_MODEL")
        shown[way] = {
            "model": span.get_attribute("mlflow.llm.model"),
            "cost": (span.get_attribute("mlflow.llm.cost") or {}).get("total_cost"),
            "stated": stated(message),
            "has_key": os.environ["LUNAR_API_KEY"] in json.dumps(span.to_dict()),
        }
    sys.stdout.write(json.dumps(shown))


asyncio.run(main())
