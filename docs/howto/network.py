"""Proxies, certificates of your own, and an httpx client of yours, without losing the client's promises."""

import ssl

import httpx

from lunar_core import ConfigurationError, Lunar, Timeout, Transport

question = [{"role": "user", "content": "Say hello."}]

# 1. Nothing to do: HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are followed.
with Lunar(timeout=Timeout(connect=2, read=120), total_timeout=180) as client:
    print(client.chat.completions.create(model="gpt-4o-mini", messages=question).model)

# 2. A context of yours: an authority of the company, a client certificate (context.load_cert_chain).
context = ssl.create_default_context()
with httpx.Client(transport=Transport(verify=context)) as own, Lunar(http_client=own) as client:
    print(client.chat.completions.create(model="gpt-4o-mini", messages=question).model)

# 3. Hooks, or a proxy that the environment does not name: Transport(proxy="http://proxy.example:3128").
seen: list[str] = []
hooks = {"request": [lambda request: seen.append(request.method)]}
with httpx.Client(transport=Transport(), event_hooks=hooks) as own:
    Lunar(http_client=own).chat.completions.create(model="gpt-4o-mini", messages=question)
print("seen by the hook:", seen)

# 4. What is refused: TLS without verification, and plain http that leaves this machine.
for refused in (lambda: Transport(verify=False), lambda: Lunar(base_url="http://lunar.example")):
    try:
        refused()
    except ConfigurationError as error:
        print(error)
