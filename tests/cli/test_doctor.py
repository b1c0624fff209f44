"""`lunar-llm doctor`: what is set up, what is not, and no character of a key."""

import json
import re
import ssl
import time
from email.utils import formatdate
from pathlib import Path

import pytest
import trustme

from lunar_core.cli.doctor import EXTRAS
from tests.connect_proxy import PASSWORD, ConnectProxy
from tests.faults import FaultServer
from tests.faults_steps import reply

MODELS = {"data": [{"id": "gpt-4o"}]}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def doctor(lunar):
    """Run it; the exit code, and a (status, text) for each subject."""

    def run(*arguments):
        code, out, err = lunar("doctor", "--json", *arguments)
        assert err == ""
        found = json.loads(out)
        return code, {item["subject"]: (item["status"], item["text"]) for item in found}

    return run


def test_where_all_is_well_each_step_says_what_it_has_seen(doctor, lunar_sandbox):
    code, findings = doctor()
    assert code == 0
    assert findings["key"] == ("ok", "an API key, from LUNAR_API_KEY")
    assert findings["URL"] == ("ok", f"{lunar_sandbox.url}, from LUNAR_BASE_URL")
    assert findings["proxy"] == ("ok", "none for this service")
    assert findings["connection"][0] == "ok"
    assert re.match(r"GET /v1/models answered with \d+ models \(", findings["service"][1])
    assert findings["clock"] == ("ok", "within 1 s of the service's")
    assert re.match(r"lunar-integrations \d.*Python 3.*httpx \d", findings["version"][1])


def test_nothing_is_billed(doctor, lunar_sandbox):
    doctor()
    assert [record["path"] for record in lunar_sandbox.requests()] == ["/v1/models"]
    assert lunar_sandbox.billed() == []


def test_people_get_a_line_for_each_step(lunar):
    code, out, _err = lunar("doctor")
    assert code == 0
    assert "ok      key          an API key, from LUNAR_API_KEY" in out.splitlines()


@pytest.mark.parametrize("kind", ["LUNAR_API_KEY", "LUNAR_JWT"])
def test_no_character_of_a_key_is_shown_not_even_where_it_is_wrong(kind, lunar, monkeypatch):
    monkeypatch.delenv("LUNAR_API_KEY")
    monkeypatch.setenv(kind, "QZXJ9QZXJ9QZXJ9")
    with FaultServer() as server:
        server.always(reply(401, json={"detail": "no such key: QZXJ9QZXJ9QZXJ9"}))
        code, out, err = lunar("doctor", "--base-url", server.origin)
    assert code == 1
    assert "FAILED  service      401: " in out
    assert kind in out
    assert not re.search("QZ|XJ9", out + err)


def test_a_key_that_does_not_look_like_lunars_is_worth_a_look(doctor, monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", "sk-123456")
    assert doctor()[1]["key"] == (
        "warning",
        "an API key, from LUNAR_API_KEY; it does not begin with pk_, as Lunar's keys do",
    )


def test_without_a_key_the_way_is_looked_at_all_the_same(doctor, lunar_sandbox, monkeypatch):
    monkeypatch.delenv("LUNAR_API_KEY")
    code, findings = doctor()
    assert code == 1
    assert findings["key"][0] == "failed"
    assert "LUNAR_API_KEY" in findings["key"][1]
    assert findings["connection"][0] == "ok"
    assert findings["service"][0] == "skipped"
    assert lunar_sandbox.requests() == []


def test_a_url_that_cannot_be_one_says_where_it_comes_from(doctor, monkeypatch):
    monkeypatch.setenv("LUNAR_BASE_URL", "http://example.com")
    code, findings = doctor()
    assert (code, findings["URL"][0]) == (1, "failed")
    assert re.match(r"base_url: plain http .*\(from LUNAR_BASE_URL\)", findings["URL"][1])


def test_nobody_listens(doctor):
    code, findings = doctor("--base-url", "http://127.0.0.1:1")
    assert (code, findings["connection"][0]) == (1, "failed")
    assert "is the sandbox running?" in findings["connection"][1]
    assert findings["service"][0] == "skipped"


def test_a_name_that_nobody_knows(doctor):
    code, findings = doctor("--base-url", "https://lunar.invalid")
    assert (code, findings["DNS"][0]) == (1, "failed")
    assert findings["DNS"][1].startswith("lunar.invalid: ")


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3600, "behind the service's"), (3600, "ahead of the service's")]
)
def test_a_clock_that_is_wrong_is_told_by_the_services_own_date(seconds, words, doctor):
    date = formatdate(time.time() - seconds, usegmt=True)
    with FaultServer() as server:
        server.always(reply(json=MODELS, headers=[f"date: {date}"]))
        code, findings = doctor("--base-url", server.origin)
    assert (code, findings["clock"][0]) == (0, "warning")
    assert re.match(rf"3,(59|60)\d s {words}", findings["clock"][1])


@pytest.mark.parametrize("headers", [[], ["date: yesterday"]])
def test_without_a_date_there_is_nothing_to_compare(headers, doctor):
    with FaultServer() as server:
        server.always(reply(json=MODELS, headers=headers))
        assert doctor("--base-url", server.origin)[1]["clock"][0] == "skipped"


@pytest.fixture
def secure_server():
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(tls=context) as server:
        server.always(reply(json=MODELS))
        server.authority = authority
        yield server


def test_tls_is_told_with_its_version_and_who_vouches(doctor, secure_server, tmp_path, monkeypatch):
    path = tmp_path / "authority.pem"
    secure_server.authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    status, text = doctor("--base-url", secure_server.origin)[1]["TLS"]
    assert status == "ok"
    assert re.match(
        r"TLSv1\.[23]; certificate of trustme v\S+, trusted by SSL_CERT_FILE, until", text
    )


def test_an_unknown_authority_is_named_with_what_to_do(doctor, secure_server):
    code, findings = doctor("--base-url", secure_server.origin)
    assert (code, findings["TLS"][0]) == (1, "failed")
    assert "certificate verify failed" in findings["TLS"][1]
    assert findings["TLS"][1].endswith("is named by SSL_CERT_FILE")
    assert findings["service"][0] == "skipped"


def test_a_proxy_is_told_without_its_login(doctor, monkeypatch):
    with ConnectProxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        _code, findings = doctor("--base-url", "https://lunar.invalid")
    assert findings["proxy"][0] == "ok"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+, with a login", findings["proxy"][1])
    assert not any(PASSWORD in text or "walter" in text for _status, text in findings.values())
    assert findings["TLS"][0] == "skipped"


def test_a_proxy_that_nobody_answers_at_is_not_taken_for_the_sandbox(doctor, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    code, findings = doctor("--base-url", "https://lunar.example")
    assert (code, findings["connection"][0]) == (1, "failed")
    assert findings["connection"][1].endswith("; that is the proxy")


def test_a_proxy_whose_url_cannot_be_read_is_said_to_be_one(doctor, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://walter:secret@127.0.0.1:port")
    code, findings = doctor("--base-url", "https://lunar.invalid")
    assert (code, findings["proxy"]) == (
        1,
        ("failed", "the environment names one whose URL cannot be read"),
    )


def test_an_extra_that_is_missing_is_told_with_how_to_get_it(doctor, monkeypatch):
    monkeypatch.setitem(EXTRAS, "prices", ("no-such-package",))
    status, text = doctor()[1]["prices"]
    assert status == "skipped"
    assert text.startswith("not installed: pip install '.[prices]'")


def test_its_extras_are_those_of_the_project():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    table = re.search(r"\[project\.optional-dependencies\]\n(.*?)\n\[", text, re.DOTALL)[1]
    packages = {
        extra: set(re.findall(r'"([\w-]+)', items))
        for extra, items in re.findall(r"^([\w-]+) = \[(.*)\](?: # .*)?$", table, re.MULTILINE)
        if extra != "all"
    }
    packages["postgres"] = packages["postgres"] - {"lunar-integrations"} | packages["sql"]
    assert {extra: set(names) for extra, names in EXTRAS.items()} == packages
