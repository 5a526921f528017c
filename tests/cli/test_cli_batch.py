"""`batch`: OpenAI's batch lines in and out, restartable at any moment, each request asked once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from temporalio.testing import WorkflowEnvironment

from durable_llm.cli.exits import Exit
from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.result import Answer
from tests.conftest import SetStage
from tests.support.calls import completion
from tests.support.cli import at, ended, run, server, start
from tests.support.scripted import answer, fresh_id
from tests.support.wire import Wire, playing
from tests.support.workers import working

MODEL = "openai/gpt-4o-mini"
QUICK = ("--policy", "patience=0.001s", "--policy", "backoff_initial=0.001s", "--policy", "backoff_cap=0.001s")


def request(custom_id: str, prompt: str, **body: Any) -> dict:
    messages = [{"role": "user", "content": prompt}]
    body = {"model": MODEL, "messages": messages, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def write(path: Path, *lines: dict) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def read(path: Path) -> dict[str, dict]:
    """The answers by custom_id, which must differ."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    by_id = {line["custom_id"]: line for line in lines}
    assert len(by_id) == len(lines)
    return by_id


def text_of(line: dict) -> str | None:
    return ChatCompletion.model_validate(line["response"]["body"]).choices[0].message.content


def prompts(wire: Wire) -> list[str]:
    """The prompts that the provider got."""
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in wire.requests]
    return [body["messages"][-1]["content"] for body in bodies]


def echo(body: dict) -> dict:
    """A provider that repeats the prompt, unless that says what to answer."""
    prompt = body["messages"][-1]["content"]
    if prompt.startswith("fail"):
        status = int(prompt.split()[1])
        return {"http_status": status, "body": {"error": {"message": "no", "code": {400: "invalid_value"}.get(status)}}}
    return {"body": completion(f"echo: {prompt}")}


@asynccontextmanager
async def served(
    env: WorkflowEnvironment, tmp_path: Path, answering: Callable[[dict], dict] = echo
) -> AsyncIterator[tuple[Wire, tuple[str, ...], dict[str, str]]]:
    """A provider, the words of the command without the models, and the environment."""
    queue = f"test-{fresh_id()}"
    async with playing({"by_request": answering}) as wire, working(env.client, queue):
        words = ("batch", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "--id", fresh_id(), *QUICK)
        words += ("--api-base", wire.url, "--max-retries", "1")
        yield wire, words, {**server(env.client), "DURABLE_LLM_TASK_QUEUE": queue}


async def test_each_request_has_its_answer_in_openais_shape(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """The answers parse as OpenAI's, with parameters sent as the line says; a second run asks nothing."""
    write(
        tmp_path / "in.jsonl", request("a", "A?", temperature=0.5), request("b", "B?"),
        request("c", "C?", tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]),
    )  # fmt: skip
    async with served(server_env, tmp_path) as (wire, words, env):
        first = await run(*words, **env)
        before = (tmp_path / "out.jsonl").read_text()
        again = await run(*words, "--json", **env)
    assert first.status == again.status == Exit.OK, first
    assert again.json == {"id": words[5], "requests": 3, "answered": 3, "failed": 0, "retryable": 0}
    assert (tmp_path / "out.jsonl").read_text() == before
    answers = read(tmp_path / "out.jsonl")
    assert {name: text_of(line) for name, line in answers.items()} == {
        "a": "echo: A?",
        "b": "echo: B?",
        "c": "echo: C?",
    }
    assert sorted(prompts(wire)) == ["A?", "B?", "C?"]
    temperatures = [body for body in wire.requests if b'"temperature"' in body]
    assert len(temperatures) == 1
    assert "3 answered" in first.err


async def test_a_torn_line_and_changed_prompts_are_asked(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A torn last line is written anew from the stored answer; a changed prompt is asked and replaces its old answer."""
    out = tmp_path / "out.jsonl"
    async with served(server_env, tmp_path) as (wire, words, env):
        write(tmp_path / "in.jsonl", request("a", "A?"), request("b", "B?"), request("gone", "Gone?"))
        assert (await run(*words, **env)).status == Exit.OK
        out.write_text(out.read_text()[:-30])
        write(tmp_path / "in.jsonl", request("a", "A?"), request("b", "Changed?"), request("new", "New?"))
        end = await run(*words, **env)
    assert end.status == Exit.OK, end
    assert {name: text_of(line) for name, line in read(out).items()} == {
        "a": "echo: A?", "b": "echo: Changed?", "new": "echo: New?"
    }  # fmt: skip
    assert sorted(prompts(wire)) == ["A?", "B?", "Changed?", "Gone?", "New?"]


async def test_the_exit_code_tells_transient_from_final(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """7 if something may succeed later, 1 if nothing will; --retry-failed asks again what failed, and only that."""
    works = False

    def answering(body: dict) -> dict:
        return echo(body) if not works else {"body": completion("at last")}

    async with served(server_env, tmp_path, answering) as (wire, words, env):
        write(tmp_path / "in.jsonl", request("a", "A?"), request("b", "fail 503"), request("c", "fail 400"))
        passing = await run(*words, "--json", **env)
        answers = read(tmp_path / "out.jsonl")
        assert (passing.status, passing.json["failed"], passing.json["retryable"]) == (Exit.RETRYABLE, 2, 1), passing
        assert (answers["b"]["error"]["code"], answers["b"]["error"]["retryable"]) == ("AllModelsExhaustedError", True)
        assert (answers["c"]["error"]["code"], answers["c"]["error"]["retryable"]) == ("RequestRejectedError", False)
        asked = len(wire.requests)
        assert (await run(*words, **env)).status == Exit.RETRYABLE
        assert len(wire.requests) == asked
        write(tmp_path / "in.jsonl", request("a", "A?"), request("c", "fail 400"))
        assert (await run(*words, **env)).status == Exit.FAILED
        works = True
        assert (await run(*words, "--retry-failed", **env)).status == Exit.OK
        assert len(wire.requests) == asked + 1
    assert text_of(read(tmp_path / "out.jsonl")["c"]) == "at last"


async def test_models_on_the_command_line_answer_every_line(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """With -m the lines need no model, and a chain answers where its first model cannot."""
    line = request("a", "A?")
    del line["body"]["model"]
    write(tmp_path / "in.jsonl", line, request("b", "B?", model="openai/other"))

    def answering(body: dict) -> dict:
        return echo(body) if body["model"] == "second" else {"http_status": 401, "body": {"error": {"message": "no"}}}

    async with served(server_env, tmp_path, answering) as (_, words, env):
        end = await run(*words, "-m", "openai/first", "-m", "openai/second", **env)
    assert end.status == Exit.OK, end
    assert {text_of(line) for line in read(tmp_path / "out.jsonl").values()} == {"echo: A?", "echo: B?"}


KEY = "sk-proj-" + "a1B2" * 12
WRONG = [
    ("{broken", "line 2: it is not JSON"),
    ("[]", "line 2: expected a JSON object"),
    (json.dumps({"body": {}}), "line 2: no 'custom_id'"),
    (json.dumps({**request("x", "X?"), "url": "/v1/embeddings"}), "line 2: expected method POST and url"),
    (json.dumps({**request("x", "X?"), "body": None}), "line 2: body: expected a JSON object"),
    (json.dumps(request("first", "X?")), "line 2: its 'custom_id' is that of another line"),
    (json.dumps(request("x", "X?", stream=True)), "line 2: body: 'stream' is not for batches"),
    (json.dumps(request("x", "X?", base_url="http://x")), "line 2: body: "),
    (json.dumps(request("x", "X?", made_up=1)), "line 2: config: extra_params: 'made_up' is refused"),
    (json.dumps(request("x", "X?", messages=[])), "line 2: messages"),
    (json.dumps(request("x" * 2000, "X?")), "line 2: call_id"),
    (json.dumps(request("x", "X?", user=KEY)), "line 2: body: "),
]


@pytest.mark.parametrize(("line", "says"), WRONG, ids=[says[8:40] for _, says in WRONG])
async def test_a_wrong_line_is_named_before_anything_is_sent(
    server_env: WorkflowEnvironment, tmp_path: Path, line: str, says: str
) -> None:
    """One wrong line, and no request is made: the error names it and shows no key."""
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(request('first', 'A?'))}\n{line}\n")
    async with served(server_env, tmp_path) as (wire, words, env):
        end = await run(*words, **env)
    assert end.status == Exit.USAGE, end
    assert says in end.err
    assert KEY not in end.err
    assert not wire.requests
    assert not (tmp_path / "out.jsonl").exists()


async def test_files_that_cannot_be_used_are_refused(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """No requests, no file, no directory, and the answers over the requests: each is said at once."""
    file, env = tmp_path / "in.jsonl", server(server_env.client)
    good, notes = tmp_path / "good.jsonl", tmp_path / "notes.txt"
    file.write_text("\n")
    write(good, request("a", "A?"))
    notes.write_text("mine\nand mine\n")
    for words, says in [
        ((str(file), "-o", str(tmp_path / "out.jsonl")), "has no requests"),
        ((str(tmp_path / "none.jsonl"), "-o", str(tmp_path / "out.jsonl")), "cannot read"),
        ((str(file), "-o", str(tmp_path / "none" / "out.jsonl")), "there is no directory"),
        ((str(file), "-o", str(file)), "file of requests"),
        ((str(good), "-o", str(notes)), "holds something else than answers"),
    ]:
        end = await run("batch", *words, **env)
        assert (end.status, says in end.err) == (Exit.USAGE, True), end
    assert notes.read_text() == "mine\nand mine\n"


async def test_calls_go_on_while_the_client_is_dead(on_server: SetStage, tmp_path: Path) -> None:
    """Killed while everything is open, and started again: every request was asked once."""
    write(tmp_path / "in.jsonl", *(request(str(number), f"{number}?") for number in range(20)))
    may_answer = asyncio.Event()

    async def held(_: AttemptOrder) -> Answer:
        await may_answer.wait()
        return answer("at last")

    words = ("batch", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "--concurrency", "20")
    async with on_server(held) as stage:
        process = await start(*words, **at(stage))
        while len(stage.provider.orders) < 20:
            await asyncio.sleep(0.05)
        process.kill()
        await ended(process)
        may_answer.set()
        again = await run(*words, **at(stage))
    assert again.status == Exit.OK, again
    assert len(stage.provider.orders) == 20
    assert {text_of(line) for line in read(tmp_path / "out.jsonl").values()} == {"at last"}
    assert len(read(tmp_path / "out.jsonl")) == 20
