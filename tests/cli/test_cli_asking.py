"""`durable-llm call`, `submit` and `result` against a real server with a scripted provider."""

import asyncio
import json
import os
import pty
import signal
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import CallOutcome
from durable_llm.cli.exits import Exit
from durable_llm.contract.facts import FailureFacts
from tests.client.test_dispatcher import fresh_id
from tests.conftest import SetStage
from tests.support.cli import MODEL, at, ended, run, server, start
from tests.support.scripted import answer, http_error, never


async def test_a_prompt_comes_as_an_argument_a_file_or_stdin(on_server: SetStage, tmp_path: Path) -> None:
    """The same words under the same id are the same request, wherever they come from; the answer is all of stdout."""
    (tmp_path / "prompt.txt").write_text("Name a prime.\n")
    call_id = fresh_id()
    ways = (["Name a prime."], ["-f", str(tmp_path / "prompt.txt")], ["-"], [], ["-f", "-"])
    async with on_server(answer("7\n[bold]eleven[/bold]")) as stage:
        got = await asyncio.gather(*(
            run("call", "-m", MODEL, "--id", call_id, *way, stdin=b"Name a prime.\n", **at(stage)) for way in ways
        ))  # fmt: skip
    assert {(end.status, end.out) for end in got} == {(Exit.OK, "7\n[bold]eleven[/bold]\n")}, got
    assert len(stage.provider.orders) == 1
    assert f"{call_id}: gpt-4o-mini-2024-07-18, 1 attempt, $0.01" in got[0].err


async def test_what_the_command_line_says_reaches_the_call(on_server: SetStage, tmp_path: Path) -> None:
    """Chain, parameters, policy, schema, session and labels are those of a call in Python; --json gives all of it."""
    (tmp_path / "schema.json").write_text('{"title": "prime", "type": "object"}')
    (tmp_path / "chat.json").write_text('[{"role": "user", "content": "Name a prime."}]')
    call_id = fresh_id()
    async with on_server(http_error(401, "invalid_api_key", "no"), answer("7")) as stage:
        end = await run(
            "call", "-m", MODEL, "-m", "anthropic/claude-haiku-4-5", "--messages", str(tmp_path / "chat.json"),
            "--system", "Be brief.", "--id", call_id, "--session", "s-1", "--deadline", "30m", "--param", "seed=1",
            "--max-retries", "1", "--timeout", "20s", "--policy", "max_wait=5s", "--metadata", "run=2",
            "--schema", str(tmp_path / "schema.json"), "--api-key", "os.environ/SOME_KEY", "--wait", "30s", "--json",
            **at(stage),
        )  # fmt: skip
        description = await stage.client.get_workflow_handle(call_id).describe()
    assert (end.status, end.err) == (Exit.OK, "")
    result = end.json
    assert (result["call_id"], result["text"], result["spec_index"], result["cost"]) == (call_id, "7", 1, 0.01)
    assert [entry["category"] for entry in result["attempts"]] == ["auth", None]
    first, second = (order.spec for order in stage.provider.orders)
    assert (second.name, second.max_retries, second.timeout) == ("anthropic/claude-haiku-4-5", 1, 20.0)
    assert (first.extra_params, first.api_key) == ({"seed": 1}, "os.environ/SOME_KEY")
    prompt = stage.provider.prompts[0]
    assert [message["role"] for message in prompt.messages] == ["system", "user"]
    assert prompt.response_format["json_schema"]["name"] == "prime"
    assert await description.memo_value("metadata") == {"run": "2"}
    assert description.typed_search_attributes.get(search_attribute("LLMSession")) == "s-1"


async def test_validators_are_named_with_their_parameters(on_server: SetStage) -> None:
    """A name alone, or with a JSON object; what is none is refused before anything is sent."""
    async with on_server(answer("7")) as stage:
        checks = ["--validator", "non_empty", "--validator", 'regex:{"pattern": "7:8"}']
        end = await run("call", "-m", MODEL, *checks, "Name a prime.", **at(stage))
        bad = await run("call", "-m", MODEL, "--validator", "regex:^7", "Name a prime.", **at(stage))
    assert (end.status, end.out) == (Exit.OK, "7\n"), end
    [prompt] = stage.provider.prompts
    assert [(check.name, check.parameters) for check in prompt.validators] == [
        ("non_empty", {}), ("regex", {"pattern": "7:8"}),
    ]  # fmt: skip
    assert (bad.status, "--validator: expected NAME or NAME:{...}" in bad.err) == (Exit.USAGE, True)


async def test_a_paid_answer_that_nobody_checked_is_shown(on_server: SetStage) -> None:
    """A broken validator ends the call; the answer goes where errors go, and into the JSON document."""
    broken = FailureFacts(
        http_status=200, local_fault="broken_validator", text="it broke", answer=answer("7"), cost=0.01
    )
    async with on_server(broken) as stage:
        end = await run("call", "-m", MODEL, "--validator", "x", "Name a prime.", **at(stage))
        as_json = await run("call", "-m", MODEL, "--validator", "x", "--json", "Name a prime.", **at(stage))
    assert (end.status, end.out) == (Exit.FAILED, "")
    assert "it broke" in end.err
    assert "the answer that was paid for:\n7\n" in end.err
    error = as_json.json["error"]
    assert (error["type"], error["answer"]["choices"][0]["text"]) == ("BrokenValidatorError", "7")
    assert error["answer"]["total_cost"] == 0.01


def search_attribute(name: str):
    from durable_llm.contract import search_attributes

    return next(key for key in search_attributes.ALL if key.name == name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chain.yaml", f"models:\n  - name: {MODEL}\n    temperature: 0.5\n"),
        ("chain.toml", f'[[models]]\nname = "{MODEL}"\ntemperature = 0.5\n'),
        ("chain.json", json.dumps({"model_list": [
            {"model_name": "x", "litellm_params": {"model": MODEL, "temperature": 0.5}}]})),
    ],
)  # fmt: skip
async def test_a_chain_comes_from_a_file(on_server: SetStage, tmp_path: Path, name: str, text: str) -> None:
    """YAML, TOML and JSON, in any of the shapes that `to_config` takes."""
    (tmp_path / name).write_text(text)
    async with on_server(answer("7")) as stage:
        end = await run("call", "-c", str(tmp_path / name), "Name a prime.", **at(stage))
    assert (end.status, end.out) == (Exit.OK, "7\n"), end
    [order] = stage.provider.orders
    assert (order.spec.name, order.spec.extra_params) == (MODEL, {"temperature": 0.5})


async def test_submit_prints_the_id_and_result_fetches_the_answer(on_server: SetStage) -> None:
    """Stdout of submit is the id and nothing else, so that a script can keep it."""
    async with on_server(answer("7", choices=[{"tool_calls": [{"id": "t"}]}])) as stage:
        submitted = await run("submit", "-m", MODEL, "Name a prime.", **at(stage))
        call_id = submitted.out.strip()
        as_json, as_text, again = await asyncio.gather(
            run("result", call_id, "--json", **at(stage)),
            run("result", call_id, **at(stage)),
            run("submit", "-m", MODEL, "Name a prime.", "--id", call_id, "--json", **at(stage)),
        )
    assert (submitted.status, submitted.err, call_id.startswith("llm-")) == (Exit.OK, "", True), submitted
    assert (as_json.json["call_id"], as_json.json["attempts_total"]) == (call_id, 1)
    assert (as_text.status, json.loads(as_text.out)["id"]) == (Exit.OK, "t")  # no text: the tool calls
    assert again.json == {"call_id": call_id}


async def test_a_failed_call_exits_with_1_and_shows_its_ledger(on_server: SetStage) -> None:
    """People see every attempt on stderr, a script gets it as JSON; stdout of a failed call is else empty."""
    call_id = fresh_id()
    arguments = ("call", "-m", MODEL, "Name a prime.", "--id", call_id)
    async with on_server(http_error(401, "invalid_api_key", "that key is wrong")) as stage:
        for_people = await run(*arguments, **at(stage))
        for_scripts = await run(*arguments, "--json", **at(stage))
    assert (for_people.status, for_people.out) == (for_scripts.status, "") == (Exit.FAILED, "")
    for text in ("error: ", "that key is wrong", "auth", "401", MODEL):
        assert text in for_people.err
    error = for_scripts.json["error"]
    assert (error["type"], error["call_id"]) == ("AllModelsExhaustedError", call_id)
    assert "that key is wrong" in error["last_error"]
    assert [entry["http_status"] for entry in error["attempts"]] == [401]


async def test_cancelled_and_terminated_calls_exit_with_1(on_server: SetStage) -> None:
    """However a call ends without an answer, a script learns it from the status."""
    async with on_server(never) as stage:
        cancelled, terminated = [await stage.dispatcher.submit(MODEL, "Name a prime.") for _ in range(2)]
        asked = await run("cancel", cancelled.call_id, "--json", **at(stage))
        await stage.client.get_workflow_handle(terminated.call_id).terminate(reason="enough")
        ends = await asyncio.gather(*(
            run("result", handle.call_id, "--json", **at(stage)) for handle in (cancelled, terminated)
        ))  # fmt: skip
    assert (asked.status, asked.json) == (Exit.OK, {"call_id": cancelled.call_id, "cancel_requested": True})
    assert [(end.status, end.json["error"]["type"]) for end in ends] == [
        (Exit.FAILED, "CallCancelledError"), (Exit.FAILED, "CallTerminatedError"),
    ]  # fmt: skip


async def test_conflict_unknown_and_unready_have_exit_codes_of_their_own(on_server: SetStage) -> None:
    """5, 4 and 6, each with its error on stdout under --json and a hint on stderr."""
    async with on_server(never) as stage:
        handle = await stage.dispatcher.submit(MODEL, "Name a prime.")
        ask = ("call", "--id", handle.call_id, "-m", MODEL, "--json", "--wait", "1s")
        conflict, unknown, unready, attached = await asyncio.gather(
            run(*ask, "Name a colour.", **at(stage)),
            run("result", fresh_id(), "--json", **at(stage)),
            run("result", handle.call_id, "--wait", "1s", "--json", **at(stage)),
            run(*ask, "Name a colour.", "--if-different", "attach", **at(stage)),
        )
        assert (await handle.status()).outcome == CallOutcome.RUNNING
        await handle.cancel()
    assert (conflict.status, conflict.json["error"]["differing"]) == (Exit.CONFLICT, ["messages"])
    assert (unknown.status, unknown.json["error"]["type"]) == (Exit.NOT_FOUND, "CallNotFoundError")
    assert (unready.status, unready.json["error"]["type"]) == (Exit.NOT_READY, "ResultNotReadyError")
    assert f"durable-llm result {handle.call_id}" in unready.err
    assert attached.status == Exit.NOT_READY


@pytest.mark.parametrize(
    ("named", "stop"), [(False, signal.SIGINT), (True, signal.SIGINT), (False, signal.SIGTERM)],
)  # fmt: skip
async def test_ctrl_c_cancels_only_a_call_that_nobody_can_attach_to(
    on_server: SetStage, named: bool, stop: signal.Signals
) -> None:
    """Without --id the call ends with its caller; with one it goes on, and how to attach is said. SIGTERM is the same."""
    call_id = fresh_id()
    name = ["--id", call_id] if named else []
    async with on_server(never) as stage:
        process = await start("call", "-m", MODEL, "Name a prime.", "--json", *name, **at(stage))
        process.stdin.close()
        while not stage.provider.orders:
            await asyncio.sleep(0.02)
        process.send_signal(stop)
        end = await ended(process)
        error = end.json["error"]
        handle = stage.dispatcher.attach(error["call_id"])
        if named:
            assert (await handle.status()).outcome == CallOutcome.RUNNING
            assert f"goes on: durable-llm result {call_id}" in end.err
            await handle.cancel()
        else:
            assert "was cancelled" in end.err
            while (await handle.status()).outcome == CallOutcome.RUNNING:
                await asyncio.sleep(0.05)
            assert (await handle.status()).outcome == CallOutcome.CANCELLED
    assert (end.status, error["type"]) == (Exit.INTERRUPTED, "CallInterruptedError")
    assert "Traceback" not in end.err


async def test_interrupting_result_leaves_the_call_alone(on_server: SetStage) -> None:
    """Who only looks on ends nothing; on a terminal one line says what the call is doing."""
    async with on_server(never) as stage:
        handle = await stage.dispatcher.submit(MODEL, "Name a prime.")
        ours, theirs = pty.openpty()
        process = await start("result", handle.call_id, **at(stage), stderr=theirs, TERM="xterm")
        shown = b""
        while b"attempt 1: openai/gpt-4o-mini" not in shown:
            shown += await asyncio.to_thread(os.read, ours, 1000)
        process.send_signal(signal.SIGINT)
        end = await ended(process)
        os.close(theirs)
        assert (end.status, end.out) == (Exit.INTERRUPTED, "")
        assert (await handle.status()).outcome == CallOutcome.RUNNING
        await handle.cancel()
    os.close(ours)


async def test_progress_says_which_attempt_and_until_when_it_waits(on_server: SetStage) -> None:
    """With --progress each change is a line on stderr; stdout has the answer alone."""
    async with on_server(http_error(429, retry_after_s=2.5), answer("7")) as stage:
        end = await run("call", "-m", MODEL, "Name a prime.", "--progress", **at(stage))
    assert (end.status, end.out) == (Exit.OK, "7\n")
    assert "waiting " in end.err
    assert "rate_limited" in end.err
    assert ", until " in end.err


async def test_a_literal_key_is_refused_and_not_printed(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Wherever a key landed on the command line, it is not repeated; nothing is sent, and the status is 2."""
    key = "sk-proj-4f9Qw7Zx2Lk8Tn3Vb6Rm1Yc5"
    (tmp_path / "chain.yaml").write_text(f"name: {MODEL}\napi_key: {key}\n")
    ask = ("call", "-m", MODEL, "Name a prime.", "--json")
    ends = await asyncio.gather(*(
        run(*arguments, **server(server_env.client))
        for arguments in (
            (*ask, "--api-key", key),
            (*ask, "--param", f"{key}=1"),
            (*ask, "--id", key),
            (*ask, key),
            ("call", "-c", str(tmp_path / "chain.yaml"), "Name a prime.", "--json"),
        )
    ))  # fmt: skip
    for end in ends:
        assert end.status == Exit.USAGE, end
        assert end.json["error"]["message"]
        assert key not in end.out + end.err


@pytest.mark.parametrize("call_id", ["team[/x]", "a[red]b", "job:warning:1"])
async def test_an_id_is_shown_as_it_is(on_server: SetStage, call_id: str) -> None:
    """On a terminal an id is no markup: it neither breaks the progress line nor is drawn as something else."""
    call_id = f"{call_id}-{fresh_id()}"
    async with on_server(answer("7")) as stage:
        end = await run("call", "-m", MODEL, "Hi", "--id", call_id, "--progress", **at(stage), FORCE_COLOR="1")
    assert (end.status, end.out) == (Exit.OK, "7\n"), end.err
    assert call_id in end.err.replace("\x1b[1m", "")
