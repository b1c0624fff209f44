"""Stores to test on: SQLite always, PostgreSQL where `make test-system` has started a server."""

from __future__ import annotations

import os
import secrets

import pytest

from lunar_core import Ledger

SERVER = os.environ.get("TEST_POSTGRES_URL")
KINDS = ["sqlite", *(["postgresql"] if SERVER else [])]
# What is PostgreSQL's alone.
collect_ignore = [] if SERVER else ["test_postgresql.py"]


@pytest.fixture(params=KINDS)
def where(request, tmp_path):
    """The address of a store that is not there yet."""
    if request.param == "sqlite":
        yield str(tmp_path / "costs.db")
        return
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield f"{SERVER.rpartition('/')[0]}/{name}"
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def opened(where):
    """Opens the store, and closes all ledgers at the end."""
    ledgers = []

    def open_ledger(**options):
        ledgers.append(Ledger.open(where, **options))
        return ledgers[-1]

    yield open_ledger
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened):
    return opened(flush_seconds=0.02)
