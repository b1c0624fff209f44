"""Bills and entries agree, request by request, whatever becomes of the calls and whoever makes them."""

import json
import re
from collections import Counter
from decimal import Decimal

import pytest

from lunar_core import Ledger
from tests.ledger.mixed_calls import ENDINGS, cases
from tests.ledger.support import finish, start

CASES = cases(1_000)
PROCESS = """
import warnings
from lunar_core import LunarCostWarning
from tests.ledger.mixed_calls import cases, make_calls
url, api_key, first, count = sys.argv[2:]
warnings.simplefilter("ignore", LunarCostWarning)
make_calls(where, url, api_key, cases(int(count))[int(first)::2])
"""


@pytest.fixture
def ledger(where, lunar_sandbox):
    """The store that two processes wrote, each of which made half of the calls."""
    service = [lunar_sandbox.url, lunar_sandbox.api_key]
    processes = [start(PROCESS, where, *service, first, len(CASES)) for first in range(2)]
    for process in processes:
        finish(process, timeout=240)
    with Ledger.open(where, read_only=True) as opened:
        yield opened


def test_a_thousand_calls_of_every_kind_are_in_one_store_at_what_they_were_billed(
    ledger, lunar_sandbox
):
    calls = [entry for entry in ledger if entry.endpoint != "router.decide"]
    entries = {entry.tags["case"]: entry for entry in calls}
    assert len(entries) == len(calls)  # none is there twice
    requests = lunar_sandbox.requests()
    bills = lunar_sandbox.billed(at_least=sum(each["status"] == 200 for each in requests))
    case_of = {each["request_id"]: case_in(each["body"]) for each in requests}

    paid, unheard, heard = Decimal(0), Decimal(0), Counter()
    for bill in bills:
        entry = entries[case_of[bill["request_id"]]]
        cost = Decimal(repr(bill["total_cost_usd"]))
        if entry.cost is not None and entry.attempts[-1].request_id == bill["request_id"]:
            assert (entry.cost, bill["usage_sent"]) == (cost, True)
            paid += cost
            heard[entry.call_id] += 1
            continue
        unheard += cost
        assert entry.unpriced or may_be_billed(entry, bill["request_id"])
        # Usage that was sent and never read: the caller had left by then.
        assert not bill["usage_sent"] or entry.status == "aborted"
    with_a_cost = [entry for entry in calls if entry.cost is not None and entry.endpoint != "cache"]
    assert heard == Counter(entry.call_id for entry in with_a_cost)
    assert ledger.total_cost == paid
    assert lunar_sandbox.total_billed() == paid + unheard
    assert min(paid, unheard) > 0

    for case in CASES:
        entry, ending = entries.pop(str(case.number)), ENDINGS[case.ending]
        assert entry.status == ending.status, case
        assert ending.is_priced in {None, entry.cost is not None}, case
        if case.ending == "cached":
            first = entries.pop(f"{case.number} before")
            assert (entry.endpoint, entry.cost, entry.saved) == ("cache", 0, first.cost)
    assert not entries


def case_in(body):
    """The tag of the call that a request was made for. Where an answer is cached, that is the call before."""
    question = json.loads(body)["messages"][-1]["content"]
    number = re.search(r"as in case (\d+)\.", question)[1]
    return f"{number} before" if CASES[int(number)].ending == "cached" else number


def may_be_billed(entry, request_id):
    """Whether the entry lists the request among those of which nobody said what they cost."""
    return any(each.request_id == request_id and each.may_be_billed for each in entry.attempts)
