"""Settings: argument, else environment, else default; whatever cannot work is refused by its name."""

import os
import pickle

import httpx
import pytest
from pydantic import SecretStr

from lunar_core import ConfigurationError, Timeout
from lunar_core.base_url import DEFAULT_BASE_URL
from lunar_core.checks import Limits
from lunar_core.credentials import Credential
from lunar_core.settings import Settings

KEY = "pk_live_5d1c0e77"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"


def header(settings):
    """The header with the key, as a request of these settings has it."""
    return settings.credential.header(settings.credential.secret())


def resolve(**given):
    return Settings.resolve(**{"api_key": KEY} | given)


# Who is asking


def test_a_key_that_was_given_is_sent_as_the_reference_says():
    assert header(resolve(api_key=KEY)) == ("x-api-key", KEY)


def test_a_token_that_was_given_is_sent_as_a_bearer():
    assert header(resolve(api_key=None, jwt=TOKEN)) == (
        "Authorization",
        f"Bearer {TOKEN}",
    )


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({"LUNAR_API_KEY": KEY}, ("x-api-key", KEY)),
        ({"LUNAR_JWT": TOKEN}, ("Authorization", f"Bearer {TOKEN}")),
        ({"LUNAR_API_KEY": KEY, "LUNAR_JWT": TOKEN}, ("x-api-key", KEY)),
        ({"LUNAR_API_KEY": " ", "LUNAR_JWT": TOKEN}, ("Authorization", f"Bearer {TOKEN}")),
    ],
    ids=["a key", "a token", "both: the key wins", "a blank key counts as none"],
)
def test_without_arguments_the_environment_is_read(environment, sent, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert header(Settings.resolve()) == sent


def test_an_argument_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_of_the_environment")
    assert header(resolve()) == ("x-api-key", KEY)
    assert header(resolve(api_key=None, jwt=TOKEN))[0] == "Authorization"


def test_the_environment_is_read_once(monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", KEY)
    settings = Settings.resolve()
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_set_later")
    assert header(settings) == ("x-api-key", KEY)


def test_both_given_is_an_error_that_names_both():
    with pytest.raises(ConfigurationError, match="api_key and jwt"):
        resolve(jwt=TOKEN)


def test_no_key_at_all_names_the_variable_and_the_sandbox():
    with pytest.raises(ConfigurationError, match="LUNAR_API_KEY") as caught:
        Settings.resolve()
    assert "python -m lunar_core.sandbox" in str(caught.value)


@pytest.mark.parametrize("given", [KEY, f"  {KEY}\n", SecretStr(KEY), lambda: f"{KEY}\n"])
def test_a_key_comes_in_every_usual_form(given):
    assert resolve(api_key=given).credential.secret().get_secret_value() == KEY


def test_a_function_is_asked_each_time_and_not_at_construction():
    keys = iter(["pk_live_first", "pk_live_second"])
    credential = resolve(api_key=lambda: next(keys)).credential
    assert [credential.secret().get_secret_value() for _ in range(2)] == [
        "pk_live_first",
        "pk_live_second",
    ]


@pytest.mark.parametrize("given", ["", "   ", "pk live", "pk\nlive", "pk_lïve", 7, b"pk_live", []])
@pytest.mark.parametrize("kind", ["api_key", "jwt"])
def test_what_no_header_can_carry_is_refused_by_its_name(kind, given):
    with pytest.raises(ConfigurationError, match=f"^{kind}: "):
        Settings.resolve(**{kind: given})


@pytest.mark.parametrize("given", ["pk live", "", 7, None])
def test_so_is_what_a_function_returns(given):
    with pytest.raises(ConfigurationError, match=r"^api_key: "):
        resolve(api_key=lambda: given).credential.secret()


def test_a_given_key_travels_in_a_pickle_and_one_of_the_environment_does_not(monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_of_the_environment")
    given, found = pickle.dumps(resolve()), pickle.dumps(Settings.resolve())
    assert b"pk_live_of_the_environment" not in found
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_where_it_is_loaded")
    assert pickle.loads(given).credential.secret().get_secret_value() == KEY
    assert (
        pickle.loads(found).credential.secret().get_secret_value() == "pk_live_where_it_is_loaded"
    )


def test_a_pickle_loaded_where_there_is_no_key_says_which_variable_is_missing(monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", KEY)
    found = pickle.dumps(Settings.resolve())
    monkeypatch.delenv("LUNAR_API_KEY")
    with pytest.raises(ConfigurationError, match="LUNAR_API_KEY"):
        pickle.loads(found).credential.secret()


def test_printing_settings_shows_no_key():
    settings = resolve(default_headers={"x-team": "secret-team"})
    assert KEY not in f"{settings} {settings!r} {vars(settings)} {vars(settings.credential)}"


# Where to


@pytest.mark.parametrize(
    ("given", "base_url"),
    [
        (None, "https://api.pureai-api.com"),
        ("https://api.lunar-sys.com", "https://api.lunar-sys.com"),
        ("https://api.lunar-sys.com/", "https://api.lunar-sys.com"),
        ("https://api.lunar-sys.com/v1", "https://api.lunar-sys.com"),
        ("https://api.lunar-sys.com/v1/", "https://api.lunar-sys.com"),
        ("https://gateway.example/lunar/v1", "https://gateway.example/lunar"),
        ("https://gateway.example/lunar", "https://gateway.example/lunar"),
        ("https://gateway.example/v1/v1", "https://gateway.example/v1"),
        ("https://gateway.example/apiv1", "https://gateway.example/apiv1"),
        (" https://gateway.example:8443 ", "https://gateway.example:8443"),
        ("HTTPS://gateway.example", "https://gateway.example"),
        ("http://127.0.0.1:8787", "http://127.0.0.1:8787"),
        ("http://localhost:8787/session/a/v1", "http://localhost:8787/session/a"),
        ("http://[::1]:8787", "http://[::1]:8787"),
    ],
)
def test_a_base_url_keeps_its_path_and_loses_one_trailing_v1(given, base_url):
    assert resolve(base_url=given).base_url == base_url


def test_the_base_url_of_the_environment_counts_where_none_is_given(monkeypatch):
    monkeypatch.setenv("LUNAR_BASE_URL", "https://gateway.example/v1")
    assert resolve().base_url == "https://gateway.example"
    assert resolve(base_url="https://other.example").base_url == "https://other.example"
    monkeypatch.setenv("LUNAR_BASE_URL", "")
    assert resolve().base_url == DEFAULT_BASE_URL


@pytest.mark.parametrize(
    "given",
    [
        "",
        "api.pureai-api.com",
        "ftp://api.pureai-api.com",
        "https://",
        "https://user:password@gateway.example",
        "https://gateway.example?region=eu",
        "https://gateway.example#v1",
        "https://gateway.example/a b",
        "https://gateway.example:0",
        "https://gateway.example:http",
        "https://[::1",
        "https://gateway..example",
        f"https://{'a' * 64}.example",
        7,
    ],
)
def test_what_is_no_base_url_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"^base_url: "):
        resolve(base_url=given)


@pytest.mark.parametrize(
    "given", ["http://gateway.example", "http://10.0.0.7:8000", "http://127.0.0.1.example"]
)
def test_plain_http_that_leaves_this_machine_needs_a_word(given):
    with pytest.raises(ConfigurationError, match="allow_http=True"):
        resolve(base_url=given)
    assert resolve(base_url=given, allow_http=True).base_url == given


@pytest.mark.parametrize("word", ["yes", "no", 1, None])
def test_that_word_is_true_or_false(word):
    with pytest.raises(ConfigurationError, match=r"^allow_http: "):
        resolve(base_url="http://gateway.example", allow_http=word)


# How long, how often, what else


def test_defaults_wait_long_for_an_answer_that_is_being_paid_for():
    settings = resolve()
    assert (settings.timeout.connect, settings.timeout.read) == (5.0, 600.0)
    assert (settings.max_retries, settings.total_timeout, settings.fallbacks) == (2, None, ())
    assert settings.limits == Limits(body=32 << 20, error_body=64 << 10, event=16 << 20)


@pytest.mark.parametrize(
    ("given", "timeout"),
    [
        (None, Timeout()),
        (7, Timeout(7, 7, 7, 7)),
        ((1, 60), Timeout(1, 60, 60, 60)),
        ((1, 60.5, 3, 4), Timeout(1, 60.5, 3, 4)),
        ((None, 60), Timeout(None, 60, 60, 60)),
        (Timeout(read=3), Timeout(5.0, 3, 600.0, 600.0)),
        (httpx.Timeout(2, read=30), Timeout(2, 30, 2, 2)),
    ],
)
def test_a_timeout_comes_in_every_usual_form(given, timeout):
    assert resolve(timeout=given).timeout == timeout


@pytest.mark.parametrize(
    "given",
    [
        *(0, -1, float("nan"), float("inf"), 2_000_001, 10**400, True, "7"),
        *((1,), (1, 2, 3), (1, -2), [1, 2], {}),
    ],
)
def test_what_is_no_timeout_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"^timeout: "):
        resolve(timeout=given)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("max_retries", [-1, 1.5, "2", True, None]),
        ("total_timeout", [0, -3, "60", True, float("nan"), float("inf"), 2_000_001, 10**400]),
        ("max_connections", [0, -1, 2.5, None]),
        ("fallbacks", ["gpt-4o", [""], ["gpt-4o", 7], {"gpt-4o": 1}]),
        ("default_headers", [["x-team"], {"": "a"}, {"x team": "a"}, {"x-team": 7}]),
    ],
)
def test_each_setting_is_refused_by_its_own_name(name, wrong):
    for value in wrong:
        with pytest.raises(ConfigurationError, match=f"^{name}: "):
            resolve(**{name: value})


@pytest.mark.parametrize("name", ["x-api-key", "Authorization", "Host", "content-length"])
def test_headers_that_the_client_writes_itself_are_refused(name):
    with pytest.raises(ConfigurationError, match=f"^default_headers: {name}"):
        resolve(default_headers={name: "other"})


@pytest.mark.parametrize("value", ["two\r\nlines", "nul\0", "snow ☃"])
def test_so_are_values_that_would_end_their_header(value):
    with pytest.raises(ConfigurationError, match=r"^default_headers: .*x-team"):
        resolve(default_headers={"x-team": value})


def test_white_space_round_a_header_is_no_part_of_it():
    assert resolve(default_headers={"x-team": " a b\t"}).default_headers == {"x-team": "a b"}


def test_settings_survive_a_pickle():
    settings = resolve(
        base_url="https://gateway.example", timeout=3, fallbacks=["a"], default_headers={"x-a": "b"}
    )
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_a_credential_of_the_environment_equals_its_copy_elsewhere(monkeypatch):
    monkeypatch.setenv("LUNAR_JWT", TOKEN)
    credential = Credential.resolve(None, None)
    assert pickle.loads(pickle.dumps(credential)) == credential
    assert os.environ["LUNAR_JWT"] == TOKEN


@pytest.mark.parametrize("quotes", ['""', "''", "``", "\u201c\u201d"])
def test_a_key_in_quotes_is_refused_without_being_shown(quotes, monkeypatch):
    quoted = f"{quotes[0]}{KEY}{quotes[1]}"
    with pytest.raises(
        ConfigurationError, match=r"api_key: (is in quotes|has a character)"
    ) as caught:
        resolve(api_key=quoted)
    assert KEY not in str(caught.value)
    monkeypatch.setenv("LUNAR_API_KEY", f'"{KEY}"')
    with pytest.raises(ConfigurationError, match="LUNAR_API_KEY: is in quotes"):
        Settings.resolve()


@pytest.mark.parametrize(
    "endpoint",
    ["chat/completions", "chat/completions/", "completions", "router", "router/profiles", "models"],
)
def test_a_base_url_that_ends_in_an_endpoint_is_refused_with_the_right_one_named(endpoint):
    with pytest.raises(ConfigurationError, match=r"base_url: .*give https://gateway\.example/eu$"):
        resolve(base_url=f"https://gateway.example/eu/v1/{endpoint}")


def test_so_is_one_that_ends_in_it_without_its_version():
    with pytest.raises(ConfigurationError, match=r"base_url: .*give https://gateway\.example/eu$"):
        resolve(base_url="https://gateway.example/eu/chat/completions")
    with pytest.raises(ConfigurationError, match=r"base_url: .*give https://gateway\.example/eu$"):
        resolve(base_url="https://gateway.example/eu/v1//chat/completions")


@pytest.mark.parametrize("torn", [f'"{KEY}', f"{KEY}'"])
def test_a_key_with_one_quotation_mark_left_of_two_is_refused_too(torn):
    with pytest.raises(ConfigurationError, match="quotation mark") as caught:
        resolve(api_key=torn)
    assert KEY not in str(caught.value)


def test_a_path_that_only_looks_like_an_endpoints_is_kept():
    assert resolve(base_url="https://a.example/models/v1").base_url == "https://a.example/models"
    assert resolve(base_url="https://a.example/router").base_url == "https://a.example/router"
