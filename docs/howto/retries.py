"""Rate limits, retries and fallbacks: what was tried, how long it waited, and who answered."""

from lunar_core import Lunar, RateLimitError, sandbox

question = [{"role": "user", "content": "Say hello."}]

with sandbox.run() as box, Lunar(box.api_key, base_url=box.url, total_timeout=30) as client:
    # Two failures are retried, and one answer is paid for.
    answer = client.chat.completions.create(model="gpt-4o!503*2", messages=question)
    print([attempt.status_code for attempt in answer.call.attempts])

    # A model that stays down: the next one is asked. It works for streams too, until their first content.
    answer = client.chat.completions.create(
        model="gpt-4o!503", messages=question, fallbacks=["gpt-4o-mini"], max_retries=0
    )
    print("answered by", answer.model)

    # A limit that stays: the error says how long to wait. A wait past total_timeout is not begun.
    try:
        client.chat.completions.create(model="gpt-4o!429", messages=question, max_retries=0)
    except RateLimitError as error:
        print(f"{type(error).__name__}: retry after {error.retry_after:g} s")
        print("worth another try:", error.is_retryable)
