"""Run a command beside a PostgreSQL server of its own, and end the server with it.

    python scripts/postgres.py pytest tests/core/store

The server comes from Debian's package, which is installed if it is not there (as root, or by sudo without a
password). It listens on 127.0.0.1 alone, on a port that is free, in a folder that goes with it; the command finds it
in TEST_POSTGRES_URL. Where that can't be had, this fails and says so.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import debian

PATIENCE = 60
"""Seconds until the server answers."""


@contextmanager
def server() -> Iterator[str]:
    """Start a server, and yield its URL."""
    programs = debian.find_or_install(find_programs, "postgresql", "PostgreSQL")
    account = account_to_run_as()
    with tempfile.TemporaryDirectory(prefix="lunar-postgres-") as name:
        folder, password = Path(name), secrets.token_hex(16)
        secret = folder / "password"
        secret.write_text(password)
        for path in (folder, secret):
            shutil.chown(path, account)
        data, log = folder / "data", folder / "log"
        run(
            [programs / "initdb", "--pgdata", data, "--username=lunar", "--auth=scram-sha-256"],
            [f"--pwfile={secret}", "--encoding=UTF8", "--no-locale", "--no-sync"],
            account=account,
        )
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "off",  # it goes with its folder
        }
        options = [f"--{key}={value}" for key, value in settings.items()]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, *options],
                stdout=output,
                stderr=output,
                user=account,
                cwd=folder,
            )
        try:
            wait_for(process, programs, port, log)
            yield f"postgresql://lunar:{password}@127.0.0.1:{port}/postgres"
        finally:
            # "Fast": SIGTERM would wait for those who are connected.
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def find_programs() -> Path | None:
    """The folder of the newest server from Debian's packages, or of one on the path."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    program = shutil.which("initdb")
    return None if program is None else Path(program).parent


def account_to_run_as() -> int:
    """The id of the account to run the server: it refuses root, for which its package has made another account."""
    if os.geteuid() != 0:
        return os.geteuid()
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        sys.exit("PostgreSQL does not run as root, and there is no account named postgres")


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(*parts: list[object], account: int) -> None:
    """Run a command as another account; its output is shown only if it fails."""
    command = [str(word) for part in parts for word in part]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, user=account, cwd="/"
    )
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def wait_for(process: subprocess.Popen[bytes], programs: Path, port: int, log: Path) -> None:
    """Wait until the server takes connections."""
    until = time.monotonic() + PATIENCE
    question = [programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]
    while subprocess.run(question, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.1)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    with server() as url:
        command = subprocess.run(
            sys.argv[1:], check=False, env={**os.environ, "TEST_POSTGRES_URL": url}
        )
    sys.exit(command.returncode)
