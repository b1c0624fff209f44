"""Entries and outcomes for the tests of stored ledgers, and programs that run as processes of their own."""

from __future__ import annotations

import itertools
import subprocess
import sys
from decimal import Decimal

from lunar_core import CallInfo, Entry, Outcome, Usage

IDS = itertools.count()


def entry(cost=None, **fields):
    return Entry(**{"call_id": f"call_{next(IDS)}", "model": "gpt-4o-mini", "cost": cost} | fields)


def outcome(call_id=None, cost=0.000045, **fields):
    usage = Usage(prompt_tokens=10, completion_tokens=20, total_cost_usd=cost)
    call = CallInfo(call_id=call_id or f"call_{next(IDS)}", requested_model="gpt-4o")
    parts = {"call": call, "endpoint": "chat.completions", "status": "ok", "model": "gpt-4o"}
    return Outcome(**parts | {"usage": usage} | fields)


PREAMBLE = """
import os, signal, sys, threading, time
from decimal import Decimal
from lunar_core import Entry, Ledger
from tests.ledger.support import entry, outcome
where = sys.argv[1]
"""


def start(code, where, *words):
    """Run `code` as a process that has the store's address as its `where`."""
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + code, where, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0, timeout=60):
    """What the process printed, once it has ended with `code`."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, err
    return out


USD = Decimal("0.000045")
