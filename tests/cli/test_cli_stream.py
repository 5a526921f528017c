"""`call --stream` and `show --follow`: text as it comes on a terminal, and only the durable answer on a pipe."""

import asyncio
import os
import pty
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from durable_llm.cli.exits import Exit
from durable_llm.streams import open_streams
from tests.client.test_stream import CUT, WHOLE, chunk, says, streams
from tests.support.cli import ended, run, server, start
from tests.support.scripted import fresh_id
from tests.support.wire import playing
from tests.support.workers import working

MODEL = "openai/gpt-4o-mini"


async def shown_on(terminal: int, text: str) -> str:
    """What a terminal has shown once `text` is among it."""
    loop, seen = asyncio.get_running_loop(), ""
    async with asyncio.timeout(60):
        while text not in seen:
            seen += (await loop.run_in_executor(None, os.read, terminal, 65_536)).decode(errors="replace")
    return seen


async def test_on_a_terminal_text_is_shown_while_it_is_written(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A person reads along on stderr; stdout has the durable answer once, and no color codes."""
    go_on, queue, place = asyncio.Event(), f"test-{fresh_id()}", tmp_path.as_uri()
    case = streams(("data", chunk(content="Two \x1b[31m")), ("wait", go_on), *says("is a prime."))
    async with playing(case) as wire, working(server_env.client, queue, streams=open_streams(place)):
        env = {**server(server_env.client), "DURABLE_LLM_TASK_QUEUE": queue, "DURABLE_LLM_STREAMS": place}
        ours, theirs = pty.openpty()
        process = await start(
            "call", "--stream", "-m", MODEL, "--api-base", wire.url, "Name a prime.", stderr=theirs, TERM="xterm", **env
        )
        os.close(theirs)
        seen = await shown_on(ours, "attempt 1: openai/gpt-4o-mini")
        seen += "" if "Two" in seen else await shown_on(ours, "Two")
        go_on.set()
        end = await ended(process)
        os.close(ours)
    assert (end.status, end.out) == (Exit.OK, "Two is a prime.\n")
    assert "\x1b[31m" not in seen


async def test_on_a_pipe_only_the_answer_is_printed(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Nothing that may be withdrawn reaches a script."""
    queue, place, call_id = f"test-{fresh_id()}", tmp_path.as_uri(), fresh_id()
    async with (
        playing({**CUT, "then": WHOLE}) as wire,
        working(server_env.client, queue, streams=open_streams(place)),
    ):
        env = {**server(server_env.client), "DURABLE_LLM_TASK_QUEUE": queue, "DURABLE_LLM_STREAMS": place}
        asked = ("call", "--stream", "-m", MODEL, "--api-base", wire.url, "--id", call_id, "Name a prime.")
        end = await run(*asked, **env)
        followed = await run("show", call_id, "--follow", "--json", **env)
    assert (end.status, end.out) == (Exit.OK, "The right answer.\n")
    assert followed.json["status"]["outcome"] == "answered"
    assert [attempt["outcome"] for attempt in followed.json["attempts"]] == ["failed", "answered"]
