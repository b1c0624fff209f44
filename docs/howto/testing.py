"""Tests of your own code: the sandbox, scripted answers, faults, and cassettes of real answers."""

from lunar_core import Lunar, RateLimitError, sandbox


def summary(client: Lunar, text: str) -> str:
    """The code under test: asks for a summary, and gives up on a busy service."""
    try:
        answer = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": f"Sum up: {text}"}]
        )
    except RateLimitError:
        return "(busy)"
    return answer.choices[0].message.content or ""


# In pytest the fixture `lunar_sandbox` is this same object: see the page.
with sandbox.run() as box, Lunar(box.api_key, base_url=box.url, max_retries=0) as client:
    box.say("Rain, all day.")  # the next answer
    print(summary(client, "The weather report of Oslo."))

    box.fail(429)  # the one after it
    print(summary(client, "The weather report of Oslo."))

    # A fault by the model's name: two failures, then an answer. The client's retries are tested so.
    retrying = client.with_options(max_retries=2)
    retrying.completions.create(model="gpt-4o!503*2", prompt="Say hello")
    print([request["status"] for request in box.requests()])
    print(f"{len(box.billed())} answers were billed, {box.total_billed():f} USD")
