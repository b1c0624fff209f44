"""TagsMiddleware: the calls of a web request are attributed to it, to the last byte of its response."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from lunar_core import AsyncLunar, ConfigurationError, Ledger, Lunar, current_tags, tags
from lunar_core.asgi import TagsMiddleware


async def get(app, path):
    """The body of a response, and nothing else of HTTP."""
    parts = []
    scope = {"type": "http", "path": path, "method": "GET", "headers": [], "query_string": b""}

    async def receive():
        await asyncio.sleep(10)

    async def send(message):
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return b"".join(parts).decode()


async def plain(request):
    return PlainTextResponse(str(current_tags()))


async def stream(request):
    async def body():
        for _ in range(2):
            await asyncio.sleep(0)
            yield str(current_tags())

    return StreamingResponse(body())


async def stream_in_a_thread(request):
    def body():
        yield str(current_tags())

    return StreamingResponse(body())


APP = Starlette(
    routes=[Route("/plain", plain), Route("/stream", stream), Route("/thread", stream_in_a_thread)]
)


@pytest.mark.parametrize("path", ["/plain", "/stream", "/thread"])
async def test_tags_hold_while_a_response_is_made_and_while_it_streams(path):
    app = TagsMiddleware(APP, tags=lambda scope: {"path": scope["path"]})
    body = await get(app, path)
    assert body.replace(str({"path": path}), "") == ""
    assert body
    assert current_tags() == {}


async def test_requests_beside_each_other_have_their_own():
    app = TagsMiddleware(APP, tags=lambda scope: {"path": scope["path"]})
    paths = ("/plain", "/stream", "/plain")
    bodies = await asyncio.gather(*(get(app, path) for path in paths))
    assert all(str({"path": path}) in body for path, body in zip(paths, bodies, strict=True))


async def test_what_is_no_request_passes():
    seen = []

    async def app(scope, receive, send):
        seen.append(current_tags())

    await TagsMiddleware(app, tags=lambda scope: {"path": scope["path"]})(
        {"type": "lifespan"}, None, None
    )
    assert seen == [{}]


# Tags of a client


def test_a_clients_tags_are_on_every_call_and_a_blocks_win(lunar_sandbox):
    ledger = Ledger()
    settings = {
        "base_url": lunar_sandbox.url,
        "observers": [ledger],
        "tags": {"team": "search", "n": 1},
    }
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}

    async def ask_async():
        async with AsyncLunar(lunar_sandbox.api_key, **settings) as client:
            await client.chat.completions.create(**ask)

    with Lunar(lunar_sandbox.api_key, **settings) as client:
        client.chat.completions.create(**ask)
        with tags(team="ads"):
            client.chat.completions.create(**ask)
    asyncio.run(ask_async())
    assert [entry.tags for entry in ledger] == [
        {"team": "search", "n": "1"},
        {"team": "ads", "n": "1"},
        {"team": "search", "n": "1"},
    ]


def test_a_client_with_other_options_may_have_other_tags(lunar_sandbox):
    ledger = Ledger()
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    with Lunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url, observers=[ledger]) as client:
        client.with_options(tags={"team": "ads"}).chat.completions.create(**ask)
    assert [entry.tags for entry in ledger] == [{"team": "ads"}]


@pytest.mark.parametrize("value", ["team", ["team"], {1: "x"}])
def test_tags_that_are_no_dict_of_names_are_refused(value):
    with pytest.raises(ConfigurationError, match="tags: "):
        Lunar("pk_test", tags=value)
