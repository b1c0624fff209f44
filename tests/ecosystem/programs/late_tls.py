"""gevent or truststore, switched on after a first https call: later calls use what they put in ssl's place."""

import json
import os
import ssl
import sys
import threading
import warnings

import trustme

from lunar_core import Lunar, LunarError

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}


def serve(authority):
    """An https server of one answer, in a process of its own: what is patched here must not reach it."""
    import subprocess

    folder = os.environ["FOLDER"]
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(f"{folder}/server.pem")
    authority.cert_pem.write_to_path(f"{folder}/authority.pem")
    program = (
        "import http.server, ssl, json\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_POST(self):\n"
        "        self.rfile.read(int(self.headers['content-length']))\n"
        "        body = json.dumps({'model': 'm', 'choices': [{'index': 0, 'finish_reason': 'stop',"
        " 'message': {'content': 'hi'}}]}).encode()\n"
        "        self.send_response(200); self.send_header('content-length', str(len(body)))\n"
        "        self.end_headers(); self.wfile.write(body)\n"
        "    def log_message(self, *_): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
        "context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)\n"
        f"context.load_cert_chain('{folder}/server.pem')\n"
        "server.socket = context.wrap_socket(server.socket, server_side=True)\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def ask(port):
    with Lunar("pk_test_1234", base_url=f"https://127.0.0.1:{port}", max_retries=0) as client:
        try:
            return client.chat.completions.create(**CALL).choices[0].message.content
        except LunarError as error:
            return str(error)


def use_gevent():
    from gevent import monkey

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)  # it is late on purpose
        monkey.patch_all()
    return lambda: True  # of an older context every call would end in a RecursionError


def use_truststore():
    import truststore

    handshakes = []

    class Counted(truststore.SSLContext):
        def wrap_socket(self, *args, **options):
            handshakes.append(1)
            return super().wrap_socket(*args, **options)

    truststore.inject_into_ssl()
    ssl.SSLContext = Counted
    return lambda: len(handshakes) > 0


def main():
    process, port = serve(trustme.CA())
    try:
        os.environ["SSL_CERT_FILE"] = f"{os.environ['FOLDER']}/authority.pem"
        first = ask(port)
        switch_on = use_gevent if sys.argv[1] == "gevent" else use_truststore
        is_used = switch_on()
        second = ask(port)
    finally:
        process.kill()
        process.wait()
    sys.stdout.write(json.dumps([first, second, is_used()]) + "\n")


threading.Thread(target=lambda: None).start()  # as a program has, that loads before it forks
main()
