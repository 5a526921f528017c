"""Images and files in a prompt: on each wire as its provider wants them, never fetched by the worker, never lost."""

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.litellm_setup import litellm
from activities.request.media import media_fragments
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import Answer
from tests.support.attempts import attempt, order, ring
from tests.support.bodies import anthropic, gemini, openai, response, sent
from tests.support.wire import playing

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
INLINE = f"data:image/png;base64,{PIXEL}"
OPENAI, ANTHROPIC, GEMINI = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"
BEDROCK = "bedrock/anthropic.claude-3-7-sonnet-20250219-v1:0"
AWS = {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "plain-aws-secret-value", "AWS_REGION_NAME": "us-east-1"}
BODIES = {OPENAI: openai(), ANTHROPIC: anthropic(), GEMINI: gemini()}


def image(url: str) -> dict:
    """An image in OpenAI's shape."""
    return {"type": "image_url", "image_url": {"url": url}}


def file(**content: str) -> dict:
    """A file in OpenAI's shape."""
    return {"type": "file", "file": content}


def showing(*parts: dict) -> Prompt:
    """A prompt with a question and `parts`."""
    return Prompt(messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}])


async def served(
    model: str, *parts: dict, own_address: bool = False, body: dict | None = None, **spec: Any
) -> tuple[Answer | FailureFacts, list[dict]]:
    """What the attempt comes to, and the bodies of the requests."""
    keys = ring({**AWS, "OPENAI_API_KEY": "x"})
    async with playing({"body": body or BODIES.get(model) or openai()}) as wire:
        try:
            outcome = await attempt(order(model, None if own_address else wire.url, **spec), showing(*parts), keys=keys)
        except ApplicationError as error:
            outcome = error.details[0]
    return outcome, [sent(request) for request in wire.requests]


CONTENT = [
    (OPENAI, "messages", image(INLINE)),
    (ANTHROPIC, "messages",
     {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}),
    (GEMINI, "contents", {"inline_data": {"data": PIXEL, "mime_type": "image/png"}}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "listed", "expected"), CONTENT)
async def test_an_inline_image_is_sent_in_the_providers_shape(model: str, listed: str, expected: dict) -> None:
    """The bytes travel in the request."""
    answer, [request] = await served(model, image(INLINE))

    [message] = request[listed]
    assert (message.get("content") or message["parts"])[1] == expected
    assert answer.choices[0].text == "seven"


async def test_the_responses_api_gets_images_too() -> None:
    """In its own shape."""
    _, [request] = await served(OPENAI, image(INLINE), body=response(), responses_api=True)

    assert request["input"][0]["content"][1]["image_url"] == INLINE


async def test_an_address_goes_to_providers_that_read_it_themselves() -> None:
    """OpenAI fetches any, Anthropic https ones."""
    _, [openais] = await served(OPENAI, image("http://pictures.example/a.png"))
    _, [anthropics] = await served(ANTHROPIC, image("https://pictures.example/a.png"))

    assert openais["messages"][0]["content"][1] == image("http://pictures.example/a.png")
    assert anthropics["messages"][0]["content"][1]["source"] == {"type": "url", "url": "https://pictures.example/a.png"}


FETCHED = [
    (ANTHROPIC, image("{url}/a.png")),
    (ANTHROPIC, file(file_data="{url}/a.pdf", filename="a.pdf")),
    (GEMINI, image("{url}/a.png")),
    (GEMINI, image("https://pictures.example/a.png")),
    (GEMINI, file(file_id="{url}/a.pdf")),
    (OPENAI, file(file_id="{url}/a.pdf")),
    ("bedrock/invoke/anthropic.claude-3-7-sonnet-20250219-v1:0", image("{url}/a.png")),
    (BEDROCK, image("{url}/a.png")),
]


def at(part: Any, url: str) -> Any:
    """`part` with the address in it."""
    if isinstance(part, dict):
        return {name: at(value, url) for name, value in part.items()}
    return part.replace("{url}", url) if isinstance(part, str) else part


@pytest.mark.parametrize(("model", "part"), FETCHED)
async def test_the_worker_fetches_nothing(model: str, part: dict) -> None:
    """Left alone, litellm would fetch what the provider does not, inside the worker's network; the failure says what to do."""
    async with playing({"raw": b"\x89PNG", "headers": {"content-type": "image/png"}}) as pictures:
        facts, requests = await served(model, at(part, pictures.url))

    assert (pictures.requests, requests) == ([], [])
    assert (facts.local_fault, facts.request_sent) == (LocalFault.UNSUPPORTED, Sent.NO)
    assert "data:image/png;base64" in facts.text


@pytest.mark.parametrize("own_address", [False, True])
async def test_the_guard_lets_no_adapter_fetch(own_address: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where litellm's own check lets an address pass, no method passes but POST; also for a provider's own address."""
    monkeypatch.setattr(litellm, "user_url_allowed_hosts", ["127.0.0.1"])
    async with playing({"raw": b"\x89PNG", "headers": {"content-type": "image/png"}}) as pictures:
        facts, requests = await served(BEDROCK, image(f"{pictures.url}/a.png"), own_address=own_address)

    assert (pictures.requests, requests) == ([], [])
    assert (facts.local_fault, facts.request_sent) == (LocalFault.UNSUPPORTED, Sent.NO)
    assert "would GET something from 127.0.0.1" in facts.text
    assert "data:image/png;base64" in facts.text


LOST = [
    ("deepseek/deepseek-chat", image(INLINE)),
    (ANTHROPIC, {"type": "video_url", "video_url": {"url": "https://pictures.example/a.mp4"}}),
    (GEMINI, {"type": "video_url", "video_url": {"url": "https://pictures.example/a.mp4"}}),
    ("ollama_chat/llava", file(file_data=f"data:application/pdf;base64,{PIXEL}")),
]


@pytest.mark.parametrize(("model", "part"), LOST)
async def test_an_image_that_would_be_left_out_is_a_failure(model: str, part: dict) -> None:
    """What litellm cannot express it drops, and the model would answer about something that it never saw."""
    facts, requests = await served(model, part)

    assert (facts.local_fault, facts.request_sent, requests) == (LocalFault.UNSUPPORTED, Sent.NO, [])
    assert "leaves out an image or a file" in facts.text


TRACES = [
    (image(INLINE), [PIXEL]),
    ({"type": "image_url", "image_url": "https://p.example/a.png?x=1"}, ["https://p.example/a.png?x=1"]),
    (image(f"data:image/png;base64,{'A' * 5000}"), ["A" * 200]),
    (file(file_id="file-1"), ["file-1"]),
    ({"type": "input_audio", "input_audio": {"data": "UklGR", "format": "wav"}}, ["UklGR"]),
    ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}, [PIXEL]),
    ({"type": "document", "source": {"type": "url", "url": "https://p.example/a.pdf"}}, ["https://p.example/a.pdf"]),
    (image("https://p.example/ä"), ["https://p.example/"]),
    ({"type": "text", "text": "no media"}, []),
    ({"type": "image_url"}, []),
    ("not a part", []),
]


@pytest.mark.parametrize(("part", "expected"), TRACES)
def test_traces_are_pieces_that_any_encoding_shows(part: Any, expected: list[str]) -> None:
    """Short, and of characters that JSON never escapes."""
    assert media_fragments([{"role": "user", "content": [part]}]) == expected
    assert media_fragments([{"role": "assistant", "content": [part]}]) == []
