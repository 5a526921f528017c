"""What error texts lose before they are stored."""

import base64
import html
import json
import time
from urllib.parse import quote, quote_plus

import pytest

from activities.secrets.scrub import Scrubber
from durable_llm.contract.facts import TEXT_LIMIT

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


ODD = "q7Zx+plain/secret&0001=="
SPELLINGS = [
    (f"key {quote(ODD, safe='')} in an address", "key [key] in an address"),
    ("key q7Zx%2bplain%2fsecret%260001%3d%3d in an address", "key [key] in an address"),
    (f"key {quote_plus(ODD)}.", "key [key]."),
    (f"{json.dumps(json.dumps({'seen': ODD}))} inside", "[key]"),
    (f"page {html.escape(ODD)} here", "page [key] here"),
    (f"as {base64.b64encode(ODD.encode()).decode()} only", "as [key] only"),
    (f"as {base64.b64encode(f'user:{ODD}'.encode()).decode()} only", "as [key] only"),
    (f"as {base64.urlsafe_b64encode(f'me:{ODD}:x'.encode()).decode()} only", "as [key] only"),
    (f"begins with {SECRET[:14]}, ends with {SECRET[9:]}", "begins with [key], ends with [key]"),
    (f"key {SECRET[:5]}...{SECRET[-4:]} is bad", "key [key] is bad"),
    (f"key {SECRET[:4]}…{SECRET[-4:]} is bad", "key [key] is bad"),
    (f"key wrong..{SECRET[-4:]} is bad", "key [key] is bad"),
    (f"cut off in the key {SECRET[:6]}", "cut off in the key [key]"),
]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS)
def test_a_known_key_is_removed_however_it_is_spelled(text, expected):
    """Escaped for an address, JSON or HTML, in base64 at any offset, in part, masked, or cut off at the end."""
    assert expected in Scrubber({SECRET, ODD}).clean(text)


@pytest.mark.parametrize("part", ["q7Z", "0001", "plain-secret"[:8]])
def test_a_few_letters_of_a_key_are_a_word(part):
    """Too little to tell a key by is left as it was written."""
    assert Scrubber({SECRET}).clean(f"a {part} b") == f"a {part} b"


def test_a_path_or_a_short_secret_takes_no_words_along():
    """A variable that names a file, or a password that is a word, leaves the words that it is made of."""
    secrets = {"/etc/secrets/google-model-account.json", "overloaded", "capacity-1"}
    text = "The model at /etc/secrets/google-model is at capacity... try the model"

    assert Scrubber(secrets).clean(text) == text


def test_documents_lose_long_keys_only():
    """An answer is anybody's words: a short password that is a word of it stays, a long key does not."""
    document = f'{{"text": "postgres uses {SECRET} and sk-abcdefghijklmnop1234"}}'

    assert Scrubber({"postgres", SECRET}).clean_document(document) == document.replace(SECRET, "[key]")


@pytest.mark.parametrize("letter", ["a", "A1", "sk-", "a.", "a*", "%41", "=", "/+"])
def test_a_hostile_text_costs_milliseconds(letter):
    """A provider cannot hold the worker's event loop by what it writes."""
    started = time.process_time()
    Scrubber({SECRET, ODD}).clean(letter * (100_000 // len(letter)))

    assert time.process_time() - started < 0.5


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
