"""The sandbox in front of a model on this machine: real answers, made-up bills. Not a gateway for production."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lunar_core import Lunar, sandbox


class LocalModel(BaseHTTPRequestHandler):
    """Stands for Ollama, vLLM or llama.cpp here: any server that speaks OpenAI's chat completions."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "Hello from this machine."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to say."""


server = ThreadingHTTPServer(("127.0.0.1", 0), LocalModel)
threading.Thread(target=server.serve_forever, daemon=True).start()
upstream = f"http://127.0.0.1:{server.server_port}"  # of Ollama: http://127.0.0.1:11434/v1

# router="engine" lets the vendor's engine decide, where `pip install --no-deps opentracy` has a wheel.
with (
    sandbox.run(upstream=upstream, upstream_model="llama3.2") as box,
    Lunar(box.api_key, base_url=box.url) as client,
):
    answer = client.chat.completions.create(
        model="router", messages=[{"role": "user", "content": "What is a compiler?"}]
    )
    print(answer.choices[0].message.content)
    print("billed as the routed model, though it costs nothing:", answer.cost is not None)
server.shutdown()
