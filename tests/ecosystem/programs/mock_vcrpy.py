"""vcrpy: a cassette that plays, and records nothing new."""

import json

import pytest
import vcr
import yaml
from answers import ANSWER, URL, atext_of, new_async_client, new_client, text_of


@pytest.fixture
def cassette(tmp_path):
    path = tmp_path / "one.yaml"
    interaction = {
        "request": {
            "method": "POST",
            "uri": f"{URL}/v1/chat/completions",
            "body": "",
            "headers": {},
        },
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": {"content-type": ["application/json"]},
            "body": {"string": json.dumps(ANSWER)},
        },
    }
    path.write_text(yaml.safe_dump({"version": 1, "interactions": [interaction]}), encoding="utf-8")
    return str(path)


def test_the_sync_client_is_answered_from_the_tape(cassette):
    with vcr.use_cassette(cassette, record_mode="none"):
        assert text_of(new_client()) == "from the mock"


async def test_the_async_client_is_answered_from_the_tape(cassette):
    with vcr.use_cassette(cassette, record_mode="none"):
        assert await atext_of(new_async_client()) == "from the mock"
