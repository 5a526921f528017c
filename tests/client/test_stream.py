"""Text that arrives while it is written, and is the result's text at the end."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import (
    AllModelsExhaustedError,
    AttemptStarted,
    AttemptWithdrawn,
    Dispatcher,
    Done,
    InvalidRequestError,
    LLMConfig,
    ModelSpec,
    Policy,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Waiting,
)
from durable_llm.client.stream import CallStream
from durable_llm.streams import open_streams
from tests.support.calls import until_parked
from tests.support.encryption import client_with
from tests.support.scripted import fresh_id
from tests.support.wire import Wire, playing
from tests.support.workers import working

ONCE = Policy(patience=timedelta(0))
QUICK = Policy(patience=timedelta(0), backoff_initial=timedelta(milliseconds=1), backoff_cap=timedelta(milliseconds=1))


def chunk(finish: str | None = None, **delta: object) -> str:
    """One of OpenAI's events."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", "choices": [choice]}
    return f"data: {json.dumps(head)}\n\n"


def says(*pieces: str) -> list[tuple]:
    """Steps of a server that says these pieces and ends well."""
    steps: list[tuple] = [("data", chunk(content=piece)) for piece in pieces]
    return [*steps, ("data", chunk("stop") + "data: [DONE]\n\n"), ("end",)]


def streams(*steps: tuple, then: dict | None = None) -> dict:
    """A case for the wire: these steps, and another answer for the next request."""
    return {"fault": "steps", "steps": steps, **({"then": then} if then else {})}


def cut_once_seen(seen: asyncio.Event) -> dict:
    """A stream that ends without its end, once a reader has its first piece."""
    return streams(("data", chunk(content="The wrong half of ")), ("wait", seen), ("end",))


CUT = streams(("data", chunk(content="The wrong half of ")), ("end",))
WHOLE = streams(*says("The ", "right ", "answer."))


def spec(wire: Wire, **fields: object) -> ModelSpec:
    return ModelSpec(name="openai/gpt-4o-mini", api_base=wire.url, **fields)


@asynccontextmanager
async def served(env: WorkflowEnvironment, folder: Path, case: dict) -> AsyncIterator[tuple[Dispatcher, Wire]]:
    """A dispatcher and a worker that share a directory for streams, and a provider."""
    async with playing(case) as wire, working(env.client, streams=open_streams(folder.as_uri())) as dispatcher:
        yield dispatcher, wire


async def events_of(stream: CallStream, seen: asyncio.Event | None = None, into: list | None = None) -> list:
    """All events of a stream, as they come; the first piece of text is told to `seen`."""
    events = [] if into is None else into
    async for event in stream:
        events.append(event)
        if seen is not None and isinstance(event, TextDelta):
            seen.set()
    return events


def published(folder: Path) -> list[bytes]:
    """Every batch in a directory for streams, as it lies there."""
    return [base64.b64decode(line) for path in folder.glob("*/*") for line in path.read_bytes().splitlines()]


def spoil(folder: Path) -> None:
    """Put something else in the place of every batch."""
    for path in folder.glob("*/*"):
        path.write_bytes(b"nonsense\n" + base64.b64encode(b"more nonsense") + b"\n")


def text_of(events: list) -> str:
    """What a reader has that follows the rules: pieces joined, withdrawn ones removed."""
    text = ""
    for event in events:
        match event:
            case AttemptStarted() | AttemptWithdrawn():
                text = ""
            case TextDelta():
                assert event.offset == len(text)
                text += event.text
    return text


async def test_text_arrives_before_the_answer_is_complete(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A piece is seen while the provider still writes, and at the end the text is the result's."""
    go_on = asyncio.Event()
    case = streams(("data", chunk(content="Two ")), ("wait", go_on), *says("is a prime."))
    async with served(server_env, tmp_path, case) as (dispatcher, wire):
        stream, events = dispatcher.stream(spec(wire), "Name a prime."), []
        async for event in stream:
            events.append(event)
            if isinstance(event, TextDelta) and not go_on.is_set():
                assert stream.text == "Two "
                go_on.set()
    assert events[0] == AttemptStarted(1, "openai/gpt-4o-mini")
    assert isinstance(events[-1], Done)
    assert events[-1].result.text == stream.text == text_of(events) == "Two is a prime."


async def test_a_cut_attempt_is_withdrawn(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Half of one answer is taken back before another one is shown, with the reason from the ledger."""
    seen = asyncio.Event()
    async with served(server_env, tmp_path, {**cut_once_seen(seen), "then": WHOLE}) as (dispatcher, wire):
        stream = dispatcher.stream(spec(wire), "Name a prime.", policy=QUICK)
        events = await events_of(stream, seen)
    withdrawn = [event for event in events if isinstance(event, AttemptWithdrawn)]
    assert [event.attempt for event in withdrawn] == [1]
    assert withdrawn[0].decision == "retry"
    assert [event.attempt for event in events if isinstance(event, AttemptStarted)] == [1, 2]
    assert events[-1].result.text == stream.text == text_of(events) == "The right answer."


@pytest.mark.parametrize("place", ["file", "temporal"])
async def test_a_reader_follows_an_extended_call_into_its_next_run(
    server_env: WorkflowEnvironment, tmp_path: Path, place: str
) -> None:
    """It sees the text while it is written there, as in the first run."""
    seen = asyncio.Event()
    case = {
        "http_status": 401,
        "body": "{}",
        "then": streams(("data", chunk(content="Two ")), ("wait", seen), *says("is a prime.")),
    }
    at = open_streams(tmp_path.as_uri() if place == "file" else "")
    async with playing(case) as wire, working(server_env.client, streams=at) as dispatcher:
        handle = await dispatcher.submit(
            spec(wire), "Name a prime.", stream=True, policy=ONCE.model_copy(update={"on_exhausted": "park"})
        )
        reading = asyncio.create_task(events_of(stream := handle.stream(), seen))
        await until_parked(handle)
        await handle.extend(timedelta(days=2), why="it takes longer")
        await handle.resume(why="the key is paid for")
        events = await reading
    assert isinstance(events[-1], Done)
    assert stream.text == text_of(events) == "Two is a prime."
    assert [event.attempt for event in events if isinstance(event, AttemptStarted)][-1] == 2


async def test_settled_text_is_never_taken_back(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Who wants only what stands gets the answer and nothing else."""
    async with served(server_env, tmp_path, {**CUT, "then": WHOLE}) as (dispatcher, wire):
        stream = dispatcher.stream(spec(wire), "Name a prime.", policy=QUICK)
        assert [text async for text in stream.settled()] == ["The right answer."]


async def test_a_call_without_an_answer_withdraws_and_raises(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """What was shown is withdrawn before the typed error is raised."""
    seen, events = asyncio.Event(), []
    async with served(server_env, tmp_path, cut_once_seen(seen)) as (dispatcher, wire):
        stream = dispatcher.stream(spec(wire, max_retries=0), "Name a prime.", policy=ONCE)
        with pytest.raises(AllModelsExhaustedError):
            await events_of(stream, seen, events)
    assert isinstance(events[-1], AttemptWithdrawn)
    assert stream.text == ""


async def test_late_and_second_readers_see_the_same(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Any process can read a call, also after its end, and go on behind what it has."""
    call_id = fresh_id()
    async with served(server_env, tmp_path, {**CUT, "then": WHOLE}) as (dispatcher, wire):
        handle = await dispatcher.submit(spec(wire), "Name a prime.", policy=QUICK, call_id=call_id, stream=True)
        first, second = await asyncio.gather(events_of(handle.stream()), events_of(handle.stream()))
        late = await events_of(dispatcher.attach(call_id).stream())
        pieces = [event for event in late if isinstance(event, TextDelta)]
        rest = await events_of(dispatcher.attach(call_id).stream(after=(2, len("The "))))
        outdated = await events_of(dispatcher.attach(call_id).stream(after=(1, len("The wrong "))))
    assert text_of(first) == text_of(second) == text_of(late) == "The right answer."
    assert pieces[-1].position == (2, len("The right answer."))
    assert "".join(event.text for event in rest if isinstance(event, TextDelta)) == "right answer."
    assert rest[0].offset == len("The ")
    assert isinstance(outdated[0], AttemptWithdrawn)
    assert text_of(outdated) == "The right answer."


async def test_a_reader_that_looks_elsewhere_gets_the_text_at_the_end(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """Where nothing is published, attempts are told by the ledger, and the stream is as true as with pieces."""
    hold = asyncio.Event()
    case = {**CUT, "then": streams(("wait", hold), *says("The right answer."))}
    queue = fresh_id()
    elsewhere = Dispatcher(server_env.client, task_queue=queue, streams=open_streams((tmp_path / "other").as_uri()))
    async with playing(case) as wire, working(server_env.client, queue, streams=open_streams(tmp_path.as_uri())):
        stream, events = elsewhere.stream(spec(wire), "Name a prime.", policy=QUICK), []
        async for event in stream:
            events.append(event)
            if isinstance(event, AttemptStarted) and event.attempt == 2:
                assert stream.text == ""
                hold.set()
    assert text_of(events) == events[-1].result.text == "The right answer."


async def test_a_wait_is_told(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A reader learns how long the call waits and why."""
    limited = {"http_status": 429, "headers": {"retry-after": "2"}, "body": {"error": {"message": "slow down"}}}
    async with served(server_env, tmp_path, {**limited, "then": WHOLE}) as (dispatcher, wire):
        events = await events_of(dispatcher.stream(spec(wire), "Name a prime."))
    [waiting] = [event for event in events if isinstance(event, Waiting)]
    assert waiting.delay_s >= 2
    assert text_of(events) == "The right answer."


async def test_reasoning_and_tool_calls_are_pieces_too(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Thinking and the arguments of a tool arrive as they are written; at the end the result has the whole call."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": '}}
    more = {"index": 0, "function": {"arguments": '"Oslo"}'}}
    case = streams(
        ("data", chunk(reasoning_content="Where? ")), ("data", chunk(tool_calls=[first])),
        ("data", chunk(tool_calls=[more])), ("data", chunk("tool_calls") + "data: [DONE]\n\n"), ("end",),
    )  # fmt: skip
    async with served(server_env, tmp_path, case) as (dispatcher, wire):
        events = await events_of(dispatcher.stream(spec(wire), "Weather?", tools=[tool]))
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["Where? "]
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert calls[0].name == "weather"
    assert json.loads("".join(event.arguments for event in calls)) == {"at": "Oslo"}
    assert events[-1].result.tool_calls[0].function.name == "weather"


async def test_no_key_is_published(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A provider that repeats the worker's key, in pieces, does not get it into a stream."""
    key = "sk-" + "a1B2" * 12
    pieces = ("Your key is ", key[:10], key[10:30], key[30:], " and so on.")
    async with playing(streams(*says(*pieces))) as wire:
        keys = {"environment": {"OPENAI_API_KEY": key}, "pairs": {("OPENAI_API_KEY", "127.0.0.1")}}
        async with working(server_env.client, streams=open_streams(tmp_path.as_uri()), keys=keys) as dispatcher:
            stream = dispatcher.stream(spec(wire, api_key="os.environ/OPENAI_API_KEY"), "Name a prime.")
            events = await events_of(stream)
    written = b"".join(published(tmp_path))
    assert b"Your key is" in written
    assert key[:10].encode() not in written
    assert key[:10] not in text_of(events)
    assert text_of(events) == events[-1].result.text


async def test_pieces_are_encrypted_like_payloads(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """With a key, nothing of the text is readable where it is published."""
    client = await client_with(server_env, "2026-11")
    async with playing(WHOLE) as wire, working(client, streams=open_streams(tmp_path.as_uri())) as dispatcher:
        events = await events_of(dispatcher.stream(spec(wire), "Name a prime."))
    assert any(isinstance(event, TextDelta) for event in events)
    assert published(tmp_path)
    assert not any(b"right" in batch for batch in published(tmp_path))


async def test_a_call_without_a_stream_asks_and_writes_nothing_more(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """An ordinary call is not streamed from the provider, and publishes nothing."""
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}]}
    async with served(server_env, tmp_path, {"body": body}) as (dispatcher, wire):
        assert (await dispatcher.call(spec(wire), "Name a prime.")).text == "2"
    assert b'"stream"' not in wire.requests[0]
    assert not published(tmp_path)


async def test_an_attempt_does_not_fail_with_its_stream(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Where pieces cannot be written, the text comes with the result."""
    (tmp_path / "taken").write_text("a file")
    async with served(server_env, tmp_path / "taken", WHOLE) as (dispatcher, wire):
        events = await events_of(dispatcher.stream(spec(wire), "Name a prime."))
    assert text_of(events) == "The right answer."


async def test_what_is_no_piece_is_left_out(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Lines that cannot be read do not end a stream; the text comes with the result."""
    call_id = fresh_id()
    async with served(server_env, tmp_path, WHOLE) as (dispatcher, wire):
        handle = await dispatcher.submit(spec(wire), "Name a prime.", call_id=call_id, stream=True)
        await handle.result()
        spoil(tmp_path)
        events = await events_of(handle.stream())
    assert text_of(events) == "The right answer."


async def test_a_stream_is_read_once(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A second loop over the same stream says what to do instead of mixing two."""
    async with served(server_env, tmp_path, WHOLE) as (dispatcher, wire):
        stream = dispatcher.stream(spec(wire), "Name a prime.")
        await events_of(stream)
        with pytest.raises(InvalidRequestError, match="read once"):
            await events_of(stream)


@pytest.mark.parametrize("after", [5, (1,), (1, -1), "1:2", (1, 2.5)])
async def test_a_wrong_position_is_refused_at_once(server_env: WorkflowEnvironment, after: object) -> None:
    """Nothing is sent for a position that no piece has."""
    with pytest.raises(InvalidRequestError, match="after"):
        Dispatcher(server_env.client).attach("x").stream(after=after)  # type: ignore[arg-type]


async def test_a_stream_of_a_chain_shows_one_model_at_a_time(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """After a fall back, only the second model's text is left."""
    seen = asyncio.Event()
    async with playing(cut_once_seen(seen)) as cut, served(server_env, tmp_path, WHOLE) as (dispatcher, whole):
        chain = LLMConfig(models=[spec(cut, max_retries=0), spec(whole)])
        events = await events_of(dispatcher.stream(chain, "Name a prime.", policy=ONCE), seen)
    assert [event.decision for event in events if isinstance(event, AttemptWithdrawn)] == ["next"]
    assert text_of(events) == events[-1].result.text == "The right answer."


SILENT = streams(("data", chunk(content="The wrong ")), ("wait", asyncio.Event()))


async def test_an_answer_that_falls_silent_goes_to_the_next_model(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """With a clock between tokens, a stalled stream is withdrawn long before the attempt's timeout."""
    async with playing(SILENT) as silent, served(server_env, tmp_path, WHOLE) as (dispatcher, whole):
        chain = LLMConfig(models=[spec(silent, token_timeout=0.3), spec(whole)])
        events = await events_of(dispatcher.stream(chain, "Name a prime."))
    [withdrawn] = [event for event in events if isinstance(event, AttemptWithdrawn)]
    assert "the next token did not come within 0.3 s" in withdrawn.reason
    assert text_of(events) == events[-1].result.text == "The right answer."


async def test_a_keepalive_is_no_token(server_env: WorkflowEnvironment) -> None:
    """A provider that only says that it is alive is left, also when nobody reads the stream."""
    alive = streams(*[("data", ": keepalive\n\n"), ("data", chunk(role="assistant")), ("sleep", 0.05)] * 200)
    async with playing(alive) as slow, playing(WHOLE) as whole, working(server_env.client) as dispatcher:
        chain = LLMConfig(models=[spec(slow, first_token_timeout=0.5), spec(whole, first_token_timeout=30)])
        result = await dispatcher.call(chain, "Name a prime.")
    assert result.text == "The right answer."
    assert "the first token did not come within 0.5 s" in result.attempts[0].message
    assert result.attempts[0].category == "timeout"
