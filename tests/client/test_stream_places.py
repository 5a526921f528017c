"""Places for streams: what holds for every kind, then each kind's own rules."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher, Done, InvalidRequestError, TextDelta
from durable_llm.contract.stream import Batch, Delta
from durable_llm.streams import Channel, Streams, open_streams
from durable_llm.streams.temporal import TemporalChannel
from tests.client.test_stream import QUICK, WHOLE, chunk, cut_once_seen, events_of, says, spec, streams, text_of
from tests.support.encryption import client_with
from tests.support.postgres import Postgres, installed_postgres
from tests.support.redis import RedisServer, running_redis
from tests.support.scripted import fresh_id
from tests.support.wire import playing
from tests.support.workers import working
from workers.dev.ports import free_port

KEPT = ("directory", "redis", "postgres")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running Redis."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL."""
    with installed_postgres() as server, server.running():
        yield server


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of one kind of place; the servers are shared by the module's tests."""
    match request.param:
        case "directory":
            return tmp_path.as_uri()
        case "temporal":
            return ""
        case server:
            return request.getfixturevalue(server).url


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Streams]:
    """A place, closed at the end."""
    place = open_streams(url)
    try:
        yield place
    finally:
        await place.close()


def text(*words: str) -> Batch:
    return Batch(deltas=[Delta(kind="text", text=word) for word in words])


async def texts(channel: Channel, after: tuple[int, int] = (0, 0), wait_s: float = 0.0) -> tuple[list[str], tuple]:
    """What a reader finds, joined by batch, and where it is then."""
    batches, place = await channel.read(after, wait_s)
    return ["".join(delta.text for delta in batch.deltas) for batch in batches], place


@pytest.mark.parametrize("url", KEPT, indirect=True)
async def test_a_reader_goes_on_where_it_was(server_env: WorkflowEnvironment, url: str) -> None:
    """Batches come in order, each once, from any place, also for two connections to the same place."""
    async with opened(url) as writing, opened(url) as reading:
        call_id = fresh_id()
        written, read = (place.channel(server_env.client, call_id, "r") for place in (writing, reading))
        assert await texts(read) == ([], (0, 0))
        await written.append(1, 1, text("a", "b"))
        found, place = await texts(read)
        assert found == ["ab"]
        assert place[0] == 1
        await written.append(1, 2, text("c"))
        await written.append(1, 3, text("d"))
        assert (await texts(read, place))[0] == ["c", "d"]
        assert (await texts(read))[0] == ["ab", "c", "d"]
        assert (await texts(reading.channel(server_env.client, call_id, "another run")))[0] == []


@pytest.mark.parametrize("url", KEPT, indirect=True)
async def test_only_the_newest_attempt_is_read(server_env: WorkflowEnvironment, url: str) -> None:
    """A newer attempt is read from its beginning, and what a lost worker adds to an older one is not."""
    async with opened(url) as place:
        channel = place.channel(server_env.client, fresh_id(), "r")
        await channel.append(1, 1, text("old"))
        _, behind = await texts(channel)
        await channel.append(2, 1, text("new"))
        await channel.append(1, 2, text("lost"))
        found, newer = await texts(channel, behind)
        assert (found, newer[0]) == (["new"], 2)
        assert await texts(channel, newer) == ([], newer)
        assert (await texts(channel, (2, 0)))[0] == ["new"]


@pytest.mark.parametrize("url", ["redis", "postgres"], indirect=True)
async def test_a_batch_that_is_sent_again_appears_once(server_env: WorkflowEnvironment, url: str) -> None:
    """A connection that broke after the server had the batch does not double it."""
    async with opened(url) as place:
        channel = place.channel(server_env.client, fresh_id(), "r")
        for number in (1, 1, 2, 2):
            await channel.append(1, number, text(str(number)))
        assert (await texts(channel))[0] == ["1", "2"]


@pytest.mark.parametrize("url", KEPT, indirect=True)
async def test_a_waiting_reader_is_woken(server_env: WorkflowEnvironment, url: str) -> None:
    """It gets the next batch long before its wait ends, and nothing after the wait if there is none."""
    async with opened(url) as writing, opened(url) as reading:
        call_id = fresh_id()
        written, read = (place.channel(server_env.client, call_id, "r") for place in (writing, reading))
        assert (await texts(read, wait_s=0.01))[0] == []
        place = (0, 0)
        for number in (1, 2, 3):
            waiting = asyncio.create_task(texts(read, place, wait_s=60))
            await asyncio.sleep(0.05)
            await written.append(1, number, text(str(number)))
            found, place = await asyncio.wait_for(waiting, 20)
            assert found == [str(number)]


async def first_texts(channel: Channel) -> list[str]:
    """The first texts of a channel. A place that is not listening yet may return none before the wait is over."""
    while not (words := (await texts(channel, wait_s=60))[0]):
        pass
    return words


@pytest.mark.parametrize("url", ["redis", "postgres"], indirect=True)
async def test_many_readers_wait_at_once(server_env: WorkflowEnvironment, url: str) -> None:
    """Readers that wait do not take connections from each other, or from those who publish."""
    async with opened(url) as place:
        channels = [place.channel(server_env.client, fresh_id(), "r") for _ in range(150)]
        waiting = [asyncio.create_task(first_texts(channel)) for channel in channels]
        await asyncio.sleep(0.5)
        for number, channel in enumerate(channels):
            await channel.append(1, 1, text(str(number)))
        async with asyncio.timeout(30):
            found = await asyncio.gather(*waiting)
    assert found == [[str(number)] for number in range(150)]


@pytest.mark.parametrize("url", ["directory", "postgres"], indirect=True)
async def test_old_streams_are_swept(server_env: WorkflowEnvironment, url: str) -> None:
    """A sweep deletes streams that nobody has written to, and only those."""
    async with opened(url) as place:
        channel = place.channel(server_env.client, fresh_id(), "r")
        await channel.append(1, 1, text("a"))
        now = datetime.now(UTC)
        assert await place.sweep(now - timedelta(hours=1)) == 0
        assert (await texts(channel))[0] == ["a"]
        assert await place.sweep(now + timedelta(hours=1)) >= 1
        assert (await texts(channel))[0] == []


async def test_a_line_that_is_still_being_written_is_read_later(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """A reader of a directory never sees half of a batch."""
    channel = open_streams(tmp_path.as_uri()).channel(server_env.client, fresh_id(), "r")
    await channel.append(1, 1, text("a"))
    path = tmp_path / channel._name / "1"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:7])
    assert await texts(channel) == (["a"], (1, len(whole)))
    path.write_bytes(whole * 2)
    assert await texts(channel, (1, len(whole))) == (["a"], (1, 2 * len(whole)))


async def test_what_is_not_ours_is_left_alone(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A sweep of a directory deletes streams and nothing else."""
    (tmp_path / "others").mkdir()
    assert await open_streams(tmp_path.as_uri()).sweep(datetime.now(UTC) + timedelta(hours=1)) == 0
    assert os.listdir(tmp_path) == ["others"]


async def test_redis_expires_streams_by_itself(server_env: WorkflowEnvironment, redis: RedisServer) -> None:
    """A day after the last batch."""
    async with opened(redis.url) as place:
        channel = place.channel(server_env.client, fresh_id(), "r")
        await channel.append(1, 1, text("a"))
        client = place._driver._client
        [left] = [await client.ttl(key) for key in await client.keys(f"*{channel._name}")]
    assert 86_000 < left <= 86_400


@pytest.mark.parametrize("url", [*KEPT, "temporal"], indirect=True)
async def test_text_arrives_while_it_is_written(server_env: WorkflowEnvironment, url: str) -> None:
    """Over every place: a piece is seen before the answer is complete, and at the end the text is the result's."""
    seen, go_on = asyncio.Event(), asyncio.Event()
    then = streams(("data", chunk(content="Two ")), ("wait", go_on), *says("is a prime."))
    place = open_streams(url)
    async with (
        playing({**cut_once_seen(seen), "then": then}) as wire,
        working(server_env.client, streams=place) as dispatcher,
    ):
        stream, events = dispatcher.stream(spec(wire), "Name a prime.", policy=QUICK), []
        async for event in stream:
            events.append(event)
            if isinstance(event, TextDelta):
                (seen if event.attempt == 1 else go_on).set()
    assert isinstance(events[-1], Done)
    assert events[-1].result.text == stream.text == text_of(events) == "Two is a prime."
    assert {event.attempt for event in events if isinstance(event, TextDelta)} == {1, 2}


@pytest.mark.parametrize("url", ["redis", "postgres", "temporal"], indirect=True)
async def test_pieces_are_encrypted_everywhere(server_env: WorkflowEnvironment, url: str) -> None:
    """With a key the pieces are read by who has it, and what lies in the place has no word of them."""
    client = await client_with(server_env, "2026-11")
    call_id = fresh_id()
    async with playing(WHOLE) as wire, working(client, streams=open_streams(url)) as dispatcher:
        events = await events_of(dispatcher.stream(spec(wire), "Name a prime.", call_id=call_id))
        assert text_of(events) == "The right answer."
        lies = await what_lies(client, url, call_id)
    assert len(lies) > 100
    assert b"right" not in lies


async def what_lies(client: Client, url: str, call_id: str) -> bytes:
    """Everything that a place has of a call, as it is there."""
    description = await client.get_workflow_handle(call_id).describe()
    if not url:
        history = await client.get_workflow_handle(call_id).fetch_history()
        signals = [event for event in history.events if event.HasField("workflow_execution_signaled_event_attributes")]
        return b"".join(event.SerializeToString() for event in signals)
    async with opened(url) as place:
        name = place.channel(client, call_id, description.run_id)._name
        return b"".join(line for _, line in await place._driver.read(name, (0, 0), 0))


async def test_temporal_keeps_the_history_short(server_env: WorkflowEnvironment) -> None:
    """Batches grow to a second and end after a thousand, so a long answer costs few events; a reader costs none."""
    channel = TemporalChannel(server_env.client, fresh_id(), "r")
    pauses = [channel.collect_s(number) for number in range(1001)]
    assert pauses[0] == 0.1
    assert pauses[999] == 1.0
    assert pauses[1000] is None
    call_id = fresh_id()
    async with playing(WHOLE) as wire, working(server_env.client) as dispatcher:
        handle = await dispatcher.submit(spec(wire), "Name a prime.", call_id=call_id, stream=True)
        await handle.result()
        before = (await server_env.client.get_workflow_handle(call_id).describe()).history_length
        for _ in range(3):
            assert text_of(await events_of(dispatcher.attach(call_id).stream())) == "The right answer."
        after = (await server_env.client.get_workflow_handle(call_id).describe()).history_length
    assert before == after < 40


@pytest.mark.parametrize("kind", ["redis", "postgresql"])
async def test_a_server_that_is_gone_does_not_matter(server_env: WorkflowEnvironment, kind: str) -> None:
    """The attempt is made, the reader waits for the result, and nothing is raised."""
    url = f"{kind}://127.0.0.1:{free_port()}/0"
    async with playing(WHOLE) as wire, working(server_env.client, streams=open_streams(url)) as dispatcher:
        events = await events_of(dispatcher.stream(spec(wire), "Name a prime."))
    assert text_of(events) == "The right answer."
    assert len([event for event in events if isinstance(event, TextDelta)]) == 1


async def test_redis_that_hangs_delays_an_attempt_by_seconds_at_most(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """A server that accepts and says nothing costs one publishing timeout, and not the answer."""
    with running_redis(tmp_path) as server:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            async with playing(WHOLE) as wire, working(server_env.client, streams=open_streams(server.url)) as own:
                assert (await own.call(spec(wire), "Name a prime.", stream=True)).text == "The right answer."
        finally:
            os.kill(server.pid, signal.SIGCONT)


async def test_a_reader_survives_a_restart_of_its_server(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Connections are made again, to Redis and to PostgreSQL's notifications."""
    port = free_port()
    with installed_postgres() as database:
        with running_redis(tmp_path, port) as server, database.running():
            places = [open_streams(server.url), open_streams(database.url)]
            channels = [place.channel(server_env.client, fresh_id(), "r") for place in places]
            for channel in channels:
                await channel.append(1, 1, text("a"))
                assert (await texts(channel, wait_s=0.2))[0] == ["a"]
                assert (await texts(channel, (1, 1), wait_s=0.2))[0] == []
        for channel in channels:
            with pytest.raises(OSError, match=r"127\.0\.0\.1"):
                await channel.append(1, 2, text("b"))
        with running_redis(tmp_path, port), database.running():
            for place, channel in zip(places, channels, strict=True):
                await until_taken(channel)
                waiting = asyncio.create_task(texts(channel, (2, 1), wait_s=30))
                await asyncio.sleep(0.1)
                await channel.append(2, 2, text("c"))
                assert (await waiting)[0] == ["c"]
                await place.close()


async def until_taken(channel: Channel) -> None:
    """Publish until the place takes it."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await channel.append(2, 1, text("b"))
            except OSError:
                await asyncio.sleep(0.1)


WRONG = {
    **dict.fromkeys(("file://relative", "file:///", "file:///a/../b", "file:///a?b=1"), "expected file:///DIRECTORY"),
    "ftp://localhost/x": "expected file:///DIRECTORY, redis://HOST/NUMBER or postgresql://USER@HOST/DATABASE",
    "http://[": "expected file:///DIRECTORY, redis",
    "redis://localhost:x/0": "expected file:///DIRECTORY, redis",
    "redis://": "expected redis://HOST:PORT/NUMBER",
    "rediss://host/zero": "expected rediss://HOST:PORT/NUMBER",
    "redis://host/0?timeout=5": "unknown timeout; known are ssl_ca_certs",
    "redis://user:hush@host/0": r"a password does not belong in the URL; write \?password_file=/PATH, or set REDISCLI",
    "redis://host/0?password=hush": "a password does not belong in the URL",
    "redis://host/0?password_file=hush": "password_file: expected an absolute path",
    "postgresql://user:hush@host/db": "a password does not belong in the URL",
    "postgresql://user@host/db?nonsense=1": "PostgreSQL's library cannot use the URL",
}


@pytest.mark.parametrize("url", WRONG)
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    """The error names the variable, says what to write, and repeats no password."""
    with pytest.raises(InvalidRequestError, match=f"^DURABLE_LLM_STREAMS: .*{WRONG[url]}") as refused:
        open_streams(url)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(("user", "variable"), [("", True), ("default", True), ("default", False), ("", False)])
async def test_redis_takes_a_user_and_a_password(
    server_env: WorkflowEnvironment, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, user: str, variable: bool
) -> None:
    """The password comes from REDISCLI_AUTH or from the file that the URL names."""
    address = f"redis://{f'{user}@' if user else ''}127.0.0.1:{redis.port}/2"
    if variable:
        monkeypatch.setenv("REDISCLI_AUTH", redis.password_file.read_text().strip())
    else:
        address += f"?password_file={redis.password_file}"
    async with opened(address) as place:
        channel = place.channel(server_env.client, fresh_id(), "r")
        await channel.append(1, 1, text("a"))
        assert (await texts(channel))[0] == ["a"]


@pytest.mark.parametrize("kind", ["redis", "postgresql"])
async def test_an_unreadable_password_file_is_named(
    server_env: WorkflowEnvironment, redis: RedisServer, kind: str
) -> None:
    """Publishing and reading fail as with a server that does not answer."""
    async with opened(f"{kind}://user@127.0.0.1:{redis.port}/0?password_file=/nowhere/secret") as place:
        channel = place.channel(server_env.client, fresh_id(), "r")
        with pytest.raises(OSError, match="/nowhere/secret cannot be read"):
            await channel.append(1, 1, text("a"))


async def test_a_dispatcher_closes_its_place(server_env: WorkflowEnvironment, redis: RedisServer) -> None:
    """No connection is left behind."""
    place = open_streams(redis.url)
    async with Dispatcher(server_env.client, streams=place):
        channel = place.channel(server_env.client, fresh_id(), "r")
        await channel.append(1, 1, text("a"))
    assert not place._driver._client.connection_pool._available_connections or all(
        not connection.is_connected for connection in place._driver._client.connection_pool._available_connections
    )
