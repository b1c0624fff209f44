"""vcrpy: a cassette that plays, and records nothing new."""

import vcr
import yaml
from answers import URL


def test_the_tape_answers(question, tmp_path):
    interaction = {
        "request": {
            "method": "POST",
            "uri": f"{URL}/v1/chat/completions",
            "body": "",
            "headers": {},
        },
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": {"content-type": [question.content_type]},
            "body": {"string": question.body},
        },
    }
    tape = tmp_path / "one.yaml"
    tape.write_text(yaml.safe_dump({"version": 1, "interactions": [interaction]}), encoding="utf-8")
    with vcr.use_cassette(str(tape), record_mode="none"):
        assert question.ask() == "from the mock"
