"""Build the wheel, install it bare on every Python found here, and try each package in it: `make proof`.

    python scripts/proof.py [--python 3.12 …] [--set newest lowest] [--with langchain …]

Every combination gets a virtual environment of its own: the core alone, each framework without the
other, and both; with the newest dependencies that the wheel allows, and (on the Pythons that they
have wheels for) the lowest. In it, started where no source is in sight, each package is imported and
makes plain, streamed and async calls to a small server that is here for nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from typing_extensions import override

ROOT = Path(__file__).parents[1]
PACKAGES = ("lunar_core", "langchain_lunar", "llama_index_lunar")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
LOWEST_PYTHONS = ("3.10", "3.11")  # pydantic 2.8 has no wheels for later ones
COMBINATIONS: dict[str, tuple[str, ...]] = {
    "core": (),
    "langchain": ("langchain",),
    "llama-index": ("llama-index",),
    "both": ("langchain", "llama-index"),
}

CORE = """
import asyncio, lunar_core
from lunar_core import AsyncLunar, Ledger, Lunar
assert lunar_core.__version__ == {version!r}, lunar_core.__version__
ledger, hello = Ledger(), [{{"role": "user", "content": "Hello!"}}]
asked = {{"model": "gpt-4o-mini", "messages": hello}}
with Lunar("pk_live_proof", base_url={url!r}, observers=[ledger]) as client:
    answer = client.chat.completions.create(**asked)
    assert answer.choices[0].message.content == "Hello there!"
    stream = client.chat.completions.create(**asked, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream) == "Hello there!"

async def main():
    async with AsyncLunar("pk_live_proof", base_url={url!r}, observers=[ledger]) as client:
        await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "Hello there!"

asyncio.run(main())
assert str(ledger.total_cost) == "0.000180", ledger.total_cost
"""
PROGRAMS = {
    "lunar_core": CORE,
    "langchain_lunar": """
from langchain_lunar import ChatLunar
llm = ChatLunar(model="gpt-4o-mini", api_key="pk_live_proof", base_url={url!r})
answer = llm.invoke("Hello!")
assert answer.content == "Hello there!", answer
assert answer.response_metadata["total_cost_usd"] == 0.000045
assert "".join(chunk.content for chunk in llm.stream("Hello!")) == "Hello there!"
""",
    "llama_index_lunar": """
from llama_index_lunar import LunarLLM
llm = LunarLLM(model="gpt-4o-mini", api_key="pk_live_proof", api_base={url!r})
assert llm.complete("Hello!").text == "Hello there!"
assert "".join(part.delta for part in llm.stream_complete("Hello!")) == "Hello there!"
""",
}
EXTRA_OF = {"langchain_lunar": "langchain", "llama_index_lunar": "llama-index"}
MISSING = """
try:
    import {package}
    for name in {package}.__all__:
        getattr({package}, name)
except ImportError as error:
    assert "lunar-integrations[{extra}]" in str(error), f"names no extra: {{error!r}}"
else:
    raise AssertionError("imported without its framework")
"""


USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "total_tokens": 30,
    "total_cost_usd": 4.5e-05,
}


class Service(BaseHTTPRequestHandler):
    """Says hello, plain or streamed, at the price of the reference's example."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        streamed = bool(json.loads(self.rfile.read(length)).get("stream"))
        body = b"".join(self._events()) if streamed else json.dumps(self._completion()).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _completion(self) -> dict[str, object]:
        message = {"role": "assistant", "content": "Hello there!"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {
            "id": "chatcmpl-1",
            "model": "gpt-4o-mini",
            "choices": [choice],
            "usage": USAGE,
        }

    def _events(self) -> Iterator[bytes]:
        for delta in ({"role": "assistant", "content": "Hello"}, {"content": " there!"}):
            chunk = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta}]}
            yield f"data: {json.dumps(chunk)}\n\n".encode()
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}
        yield f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n".encode()

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


class ProofError(Exception):
    """A step that failed, with what it printed."""


def main() -> None:
    options = arguments()
    pythons = {version: path for version, path in found_pythons() if version in options.python}
    if not pythons:
        sys.exit(f"None of the Pythons {', '.join(options.python)} was found.")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            wheel = built(Path(folder))
        except ProofError as error:
            sys.exit(f"The build FAILED\n{error}")
        for version, python in pythons.items():
            for dependencies in options.set:
                if dependencies == "lowest" and version not in LOWEST_PYTHONS:
                    continue
                for name in options.combination:
                    started = time.monotonic()
                    try:
                        prove(python, wheel, name, dependencies=dependencies, url=url)
                        output = "ok"
                    except ProofError as error:
                        failures, output = failures + 1, f"FAILED\n{error}"
                    took = time.monotonic() - started
                    print(
                        f"{version:5} {dependencies:7} {name:12} {took:4.0f} s  {output}",
                        flush=True,
                    )
    missing = [version for version in options.python if version not in pythons]
    if missing:
        print(f"Not found here, so not tried: Python {', '.join(missing)}.")
    sys.exit(f"{failures} failed." if failures else None)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS, metavar="X.Y")
    parser.add_argument(
        "--set", nargs="+", choices=("newest", "lowest"), default=("newest", "lowest")
    )
    parser.add_argument(
        "--with", nargs="+", choices=COMBINATIONS, default=tuple(COMBINATIONS), dest="combination"
    )
    return parser.parse_args()


def found_pythons() -> Iterator[tuple[str, str]]:
    """Every version with an interpreter that works, on the PATH or among pyenv's."""
    for version in PYTHONS:
        candidates = [shutil.which(f"python{version}"), *pyenv_pythons(version), sys.executable]
        for path in filter(None, candidates):
            if starts_as(path, version):
                yield version, path
                break


def pyenv_pythons(version: str) -> list[str]:
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        return []
    root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout
    versions = Path(root.strip(), "versions").glob(f"{version}*/bin/python{version}")
    return [str(path) for path in sorted(versions)]


def starts_as(path: str, version: str) -> bool:
    """Whether ``path`` is that version and can make virtual environments: a pyenv shim may fail both."""
    program = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def built(folder: Path) -> Path:
    """Build the wheel from the source distribution, so that a file missing there is noticed. Returns its path."""
    run(sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(ROOT))
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    inside = zipfile.ZipFile(wheel).namelist()
    for package in PACKAGES:
        expect(f"{package}/py.typed" in inside, f"{wheel.name} has no {package}/py.typed")
    templates = (ROOT / "lunar_core").rglob("*.j2")
    for path in (template.relative_to(ROOT).as_posix() for template in templates):
        expect(path in inside, f"{wheel.name} has no {path}")
    strays = {name.partition("/")[0] for name in inside if ".dist-info/" not in name} - {*PACKAGES}
    expect(not strays, f"{wheel.name} brings {strays} along")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for part in ("pyproject.toml", "README.md", "LICENSE", "tests/conftest.py"):
        expect(part in names, f"{sdist.name} has no {part}")
    print(f"Built {wheel.name} and {sdist.name}.")
    return wheel


def prove(python: str, wheel: Path, name: str, *, dependencies: str, url: str) -> None:
    """Install one combination in an environment of its own, and try it."""
    extras = COMBINATIONS[name]
    with tempfile.TemporaryDirectory(dir=wheel.parent) as place:
        run(python, "-m", "venv", place)
        installed = next(Path(place).glob("[bS]*/python*"))
        requirement = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
        constraints = []
        if dependencies == "lowest":
            pinned = "lowest.txt" if extras else "lowest-core.txt"
            constraints = ["--constraint", str(ROOT / "requirements" / pinned)]
        pip = (str(installed), "-m", "pip", "--disable-pip-version-check", "--quiet")
        run(*pip, "install", "--only-binary", ":all:", requirement, *constraints)
        run(*pip, "check")
        for package in PACKAGES:
            extra = EXTRA_OF.get(package)
            program = MISSING if extra and extra not in extras else PROGRAMS[package]
            version = wheel.name.split("-")[1]
            filled = program.format(package=package, extra=extra, url=url, version=version)
            # Warnings are errors where all the code is ours.
            strict = () if extras else ("-W", "error")
            run(str(installed), "-I", *strict, "-c", filled, cwd=place)


def run(*command: str, cwd: str | None = None) -> None:
    outside = ("PYTHON", "PIP_CONSTRAINT", "LUNAR_", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    output = done.stdout + done.stderr
    expect(done.returncode == 0, f"{' '.join(command)[:300]}\n{output[-3_000:]}")


def expect(true: bool, otherwise: str) -> None:  # noqa: FBT001  # the assert of a program
    if not true:
        raise ProofError(otherwise)


if __name__ == "__main__":
    main()
