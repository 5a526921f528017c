"""`durable-llm serve` and `durable-llm token` as processes."""

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from durable_llm.cli.exits import Exit
from tests.conftest import SetStage, Stage
from tests.support.cli import at, ended, run, start
from tests.support.scripted import answer

CHAINS = {"fast": {"models": ["openai/gpt-4o-mini"]}}


@asynccontextmanager
async def served(stage: Stage, directory: Path, **env: str) -> AsyncIterator[tuple[Process, str]]:
    """A front as a process, and its address."""
    (directory / "chains.yaml").write_text(yaml.safe_dump(CHAINS))
    process = await start(
        "serve", DURABLE_LLM_FRONT_PORT="0", DURABLE_LLM_CHAINS=str(directory / "chains.yaml"), **at(stage), **env
    )
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert line.startswith("front ready: http://"), (line, await ended(process))
        yield process, line.split()[2].removesuffix("/v1,")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_token_is_made_and_opens_the_front(on_server: SetStage, tmp_path: Path) -> None:
    """Printed once, kept as a hash; the front stops with status 0 when it is told to."""
    file = tmp_path / "tokens.yaml"
    made = await run("token", "team-a", "--file", str(file), "--chain", "fast", "--json")
    token = made.json["token"]
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hi."}]}
    async with (
        on_server(answer("yes")) as stage,
        served(stage, tmp_path, DURABLE_LLM_FRONT_TOKENS=str(file)) as (process, address),
    ):
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            refused = await http.post("/v1/chat/completions", json=body)
            answered = await http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {token}"})
        process.send_signal(signal.SIGTERM)
        end = await ended(process)
    assert token not in file.read_text()
    assert (refused.status_code, answered.status_code) == (401, 200)
    assert end.status == Exit.OK, end
    assert "Hi." not in end.err + end.out
    assert token not in end.err + end.out


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"DURABLE_LLM_FRONT_HOST": "0.0.0.0"}, "DURABLE_LLM_FRONT_HOST"),  # noqa: S104  # the point
        ({"DURABLE_LLM_FRONT_PORT": "many"}, "DURABLE_LLM_FRONT_PORT"),
        ({"DURABLE_LLM_FRONT_TOKENS": "/nonesuch"}, "cannot read /nonesuch"),
        ({"DURABLE_LLM_CHAINS": "/nonesuch"}, "DURABLE_LLM_CHAINS"),
        ({"DURABLE_LLM_LOG_FORMAT": "xml"}, "DURABLE_LLM_LOG_FORMAT"),
    ],
)
async def test_a_front_that_cannot_be_used_does_not_start(env: dict[str, str], says: str) -> None:
    """It says which setting, before it connects."""
    end = await run("serve", **env)
    assert (end.status, says in end.err) == (Exit.USAGE, True), end


async def test_a_token_needs_a_tenant_that_can_be_part_of_an_id(tmp_path: Path) -> None:
    """And a file that can be written."""
    for words in (
        ("a/b", str(tmp_path / "t")),
        ("a" * 300, str(tmp_path / "t")),
        ("a\nb", str(tmp_path / "t")),
        ("a", str(tmp_path / "none" / "t")),
    ):
        end = await run("token", words[0], "--file", words[1], "--json")
        assert end.status == Exit.USAGE, end
        assert json.loads(end.out)["error"]["type"] == "InvalidRequestError"


async def test_a_named_chain_answers_the_command_line_too(on_server: SetStage, tmp_path: Path) -> None:
    """`-m fast` is the chain of that name, as in the front."""
    (tmp_path / "chains.yaml").write_text(yaml.safe_dump({"fast": {"models": ["openai/first", "openai/second"]}}))
    env = {"DURABLE_LLM_CHAINS": str(tmp_path / "chains.yaml")}
    async with on_server(answer("yes")) as stage:
        end = await run("call", "-m", "fast", "Hi.", **env, **at(stage))
        unknown = await run("call", "-m", "fast", "Hi.", DURABLE_LLM_CHAINS="/nonesuch", **at(stage))
    assert (end.status, end.out) == (Exit.OK, "yes\n"), end
    assert stage.provider.models == ["openai/first"]
    assert unknown.status == Exit.USAGE, unknown
