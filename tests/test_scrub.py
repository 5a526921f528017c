"""What error texts lose before they are stored."""

import time

import pytest

from activities.scrub import Scrubber
from durable_llm.facts import TEXT_LIMIT

SECRET = "q7Zx-plain-secret-0001"
ROWS = [
    ("Incorrect API key provided: sk-ab***yz. You can", "Incorrect API key provided: [key]. You can"),
    ("Incorrect API key provided: sk-proj-abcdefghijklmnop1234.", "[key]"),
    ("provided: AIza...Qx8c is bad", "provided: [key] is bad"),
    (f"header {SECRET} echoed", "header [key] echoed"),
    ("GET https://host/v1?key=AbCd1234efgh&alt=json", "key=[key]&alt=json"),
    ("at https://host/v1?alt=json&access_token=AbCd1234", "access_token=[key]"),
    ("Authorization: Bearer AbCdEf123456789", "Authorization: Bearer [key]"),
    ("{'Authorization': 'Bearer AbCdEf123456789'}", "Bearer [key]"),
    ("sent bearer abcdefghij.klm", "sent bearer [key]"),
    ('{"api_key": "AbCd1234", "x": 1}', '"api_key": "[key]", "x": 1'),
]


@pytest.mark.parametrize(("text", "expected"), ROWS)
def test_keys_are_removed(text, expected):
    """Known values, recognisable keys, masked ones, and what stands where a key belongs."""
    assert expected in Scrubber({SECRET}).clean(text)


@pytest.mark.parametrize(
    "text",
    [
        "Rate limit reached for gpt-4.1 on tokens per min (TPM): Limit 30000, Requested 30601.",
        "This model's maximum context length is 131072 tokens; requested max_tokens=4096",
        "Invalid 'tools[1].function.name': expected '^[a-zA-Z0-9_-]+$'",
        "Visit https://platform.openai.com/account/rate-limits to learn more.",
        "the key `token` is not permitted, authentication failed",
    ],
)
def test_ordinary_words_stay(text):
    """What a rule or an operator reads is left as it was written."""
    assert Scrubber({SECRET}, [{"role": "user", "content": "Name a prime, please."}]).clean(text) == text


def test_echoed_prompt_text_is_removed():
    """Of the prompt no 24 characters in a row are repeated, wherever in it they stand."""
    secret_plan = "the merger of Foo and Bar closes on the third of May, tell nobody"
    messages = [{"role": "user", "content": [{"type": "text", "text": "x" * 1001 + secret_plan + "y" * 500}]}]
    cleaned = Scrubber((), messages).clean(f"Invalid input: '{secret_plan}' is not allowed; {secret_plan[7:40]}!")

    assert cleaned == "Invalid input: '[prompt]' is not allowed; [prompt]!"


def test_long_texts_are_clipped_after_scrubbing():
    """The limit cuts no key in half and leaves the half."""
    text = "a" * (TEXT_LIMIT - 10) + SECRET
    cleaned = Scrubber({SECRET}).clean(text)

    assert len(cleaned.encode()) <= TEXT_LIMIT
    assert "q7Zx" not in cleaned


def test_a_large_prompt_costs_milliseconds():
    """Looking for echoes in a prompt of 256 KB holds the worker's event loop only shortly."""
    messages = [{"role": "user", "content": " ".join(f"word{n}" for n in range(40_000))}]
    started = time.process_time()
    cleaned = Scrubber((), messages).clean("word17 " * 100 + " ".join(f"word{n}" for n in range(300, 600)))

    assert "[prompt]" in cleaned
    assert time.process_time() - started < 1.0
