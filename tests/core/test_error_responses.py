"""(status, headers, body) → an error, for every body that was seen."""

import json
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import RateLimitError
from lunar_core.wire import error_responses

NOW = 1_700_000_000.0
FAILED = "All providers failed for model 'x': Model not found"


def error(status=500, body=b"", headers=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_responses.make_status_error(status, httpx.Headers(headers or {}), body, now=NOW)


# Errors and what they say


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"detail": FAILED}, FAILED),
        ({"error": FAILED}, FAILED),
        ({"message": FAILED}, FAILED),
        ({"error": {"message": FAILED}}, FAILED),
        ({"error": {"message": FAILED, "type": "server_error", "code": 500}}, FAILED),
        ({"error": {"message": FAILED, "code": "no_model"}}, f"{FAILED} (no_model)"),
        ({"detail": {"error": FAILED, "retry_after": 3}}, FAILED),
        (
            {
                "detail": {
                    "error": "No profiles",
                    "code": "MISSING_PROFILES",
                    "missing_profiles": ["a", "b"],
                    "available_profiles": ["c", "d"],
                }
            },
            "No profiles: a, b; there are profiles of c, d (MISSING_PROFILES)",
        ),
        (
            {
                "detail": [
                    {"type": "missing", "loc": ["body", "model"], "msg": "Field required"},
                    {"loc": ["body", "messages", 0], "msg": "Input should be a dict"},
                ]
            },
            "body.model: Field required; body.messages.0: Input should be a dict",
        ),
        ({"detail": ["first", {"msg": "second"}]}, "first; second"),
        ({"detail": None, "message": FAILED}, FAILED),
        ({"detail": "", "error": FAILED}, FAILED),
        (FAILED, FAILED),
        (b"upstream connect error", "upstream connect error"),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        (
            (
                b"<!DOCTYPE html><html><style>h1 {color: red}</style><body><h1>Bad\n gateway</h1>"
                b"<script>alert('x')</script></body></html>"
            ),
            "Bad gateway",
        ),
        ({"detail": "caf\u00e9 \u2603"}, "café ☃"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_the_servers_reason_is_the_errors_text_whatever_form_it_came_in(body, reason):
    assert str(error(500, body)) == f"500: {reason}"


@pytest.mark.parametrize(
    "body",
    [b"", {}, [], None, 7, {"detail": None}, {"detail": {}}, {"error": []}, b"  \n"],
    ids=str,
)
def test_a_body_that_gives_no_reason_is_said_to_give_none(body):
    assert str(error(503, body)) == "503: the service gave no reason"


def test_a_body_of_no_known_form_is_shown_as_it_came():
    words = "500: the service gave no reason that is known, but this"
    assert str(error(500, {"errors": ["quota"]})) == f'{words}: {{"errors": ["quota"]}}'
    assert len(str(error(500, {"errors": ["quota" * 1000]}))) == len(words) + 2 + 200


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"detail": FAILED, "more": [1]}, {"detail": FAILED, "more": [1]}),
        (b"plain words", "plain words"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\xef\xbb\xbf" + b'{"detail": "with a mark"}', {"detail": "with a mark"}),
    ],
    ids=str,
)
def test_the_whole_body_is_on_the_error(body, kept):
    assert error(404, body).body == kept


def test_a_long_reason_is_cut_and_the_body_is_not():
    long = error(400, {"detail": "x" * 5_000})
    assert len(str(long)) == len("400: ") + error_responses.MAX_REASON
    assert str(long).endswith("x…")
    assert len(long.body["detail"]) == 5_000


def test_a_redirect_is_not_followed_and_says_where_it_led():
    moved = error(307, b"", {"location": "https://elsewhere.example/"})
    assert "redirects are not followed" in str(moved)
    assert "https://elsewhere.example/" in str(moved)


@pytest.mark.parametrize(
    "name", ["x-request-id", "X-Request-ID", "request-id", "x-amzn-RequestId", "x-correlation-id"]
)
def test_the_services_name_for_the_request_is_found_under_every_usual_name(name):
    assert error(500, headers={name: "req_7"}).request_id == "req_7"
    assert error(500, headers={name: ""}).request_id is None


@given(st.integers(400, 599), st.binary(max_size=200))
def test_no_body_is_too_odd_to_be_an_error(status, body):
    refused = error(status, body)
    assert (refused.status_code, str(refused)[:5]) == (status, f"{status}: ")


KEYS = st.sampled_from(
    ["detail", "error", "message", "msg", "loc", "code", "choices", "usage", "delta", "retry_after"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_no_json_is_too_odd_either(body):
    assert isinstance(error(429, json.dumps(body).encode()), RateLimitError)


# How long to wait


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, {"detail": "slow down", "retry_after": 3}, 3.0),
        ({}, {"retry_after": 0.25}, 0.25),
        ({}, {"retry_after": "2"}, 2.0),
        ({}, {"retry_after": 0}, 0.0),
        ({}, {"detail": {"retry_after": 4}}, 4.0),
        ({}, {"detail": {"retry_after_s": 5}}, 5.0),
        ({}, {"error": {"message": "slow down", "retry_after": 6}}, 6.0),
        ({"Retry-After": "7"}, {}, 7.0),
        ({"retry-after": " 1.5 "}, {}, 1.5),
        ({"retry-after-ms": "250"}, {}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, {"retry_after": 9}, 0.25),
        ({"retry-after": "7"}, {"retry_after": 9}, 7.0),
        ({"retry-after": "soon"}, {"retry_after": 9}, 9.0),
        ({"retry-after-ms": "soon", "retry-after": "7"}, {}, 7.0),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, {}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, {}, 0.0),
        ({"retry-after": formatdate(NOW + 30)}, {}, 30.0),
        ({}, {"message": "Too Many Requests"}, None),
        ({}, b"", None),
        ({}, ["retry_after", 3], None),
    ],
    ids=str,
)
def test_the_wait_that_is_asked_for_is_found_in_every_place(headers, body, seconds):
    assert error(429, body, headers).retry_after == seconds


@pytest.mark.parametrize(
    "garbage",
    ["", "soon", "-1", "nan", "inf", "1e999", "0x10", "Mon, 99 Foo 2023", "9" * 400, "\u0663s"],
)
def test_garbage_is_no_wait(garbage):
    header = {"retry-after": garbage.encode("utf-8"), "retry-after-ms": garbage.encode("utf-8")}
    assert error(429, {"retry_after": garbage}, header).retry_after is None


@pytest.mark.parametrize("garbage", [None, True, [3], {"seconds": 3}, -3, float("nan"), 1e999])
def test_so_is_a_body_that_says_it_in_no_number(garbage):
    assert error(429, {"retry_after": garbage}).retry_after is None


def test_an_integer_too_large_for_a_float_is_no_wait():
    body = b'{"retry_after": ' + b"9" * 400 + b"}"
    assert error(429, body).retry_after is None


def test_the_error_of_a_false_answer_shows_what_came_instead():
    headers = httpx.Headers({"content-type": "text/html", "x-request-id": "req_7"})
    refused = error_responses.make_answer_error(
        200, headers, b"<html>Welcome to nginx!</html>", "no JSON"
    )
    assert (refused.status_code, refused.request_id) == (200, "req_7")
    for shown in ("200", "text/html", "no JSON", "Welcome to nginx!"):
        assert shown in str(refused)
    assert len(str(error_responses.make_answer_error(200, headers, b"x" * 9_999, "no JSON"))) < 500
