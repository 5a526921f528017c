"""`durable-llm show`, `list`, `cancel` and `setup` against a real server, with and without a worker."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.testing import WorkflowEnvironment

from durable_llm import CallCancelledError
from durable_llm.cli.exits import Exit
from durable_llm.cli.tables import ledger_table
from durable_llm.contract.ledger import Attempt
from tests.client.test_dispatcher import fresh_id
from tests.conftest import SetStage, binary
from tests.support.cli import MODEL, Ended, at, run, server
from tests.support.scripted import answer, http_error, never


async def test_show_tells_the_whole_call(on_server: SetStage) -> None:
    """Status, every attempt with what it came to and what it cost, and totals that own up to what is unknown."""
    async with on_server(http_error(503, "overloaded", "busy \x1b[2J now"), answer("7")) as stage:
        handle = await stage.dispatcher.submit(MODEL, "Name a prime.")
        await handle.result()
        for_people, for_scripts = await asyncio.gather(
            run("show", handle.call_id, **at(stage)), run("show", handle.call_id, "--json", **at(stage))
        )
    assert for_people.status == for_scripts.status == Exit.OK
    for text in (f"{handle.call_id}: answered", MODEL, "503", "busy", "retry", "2 attempts, $0.01"):
        assert text in for_people.out, for_people
    assert "\x1b" not in for_people.out
    shown = for_scripts.json
    assert (shown["call_id"], shown["status"]["outcome"]) == (handle.call_id, "answered")
    assert [entry["outcome"] for entry in shown["attempts"]] == ["failed", "answered"]
    assert shown["totals"] == {"attempts": 2, "total_cost": 0.01, "cost_complete": True}


@pytest.mark.parametrize(("waited_s", "shown"), [(4.23, "4.2 s for quota mini; busy"), (0.4, "busy"), (None, "busy")])
def test_a_wait_for_a_quota_is_shown_beside_the_message(waited_s: float | None, shown: str) -> None:
    """From a second on: less is nothing that an operator looks for."""
    at = datetime.now(UTC)
    entry = Attempt(
        number=1,
        spec_index=0,
        try_number=1,
        model=MODEL,
        started_at=at,
        message="busy",
        quota="mini",
        waited_s=waited_s,
    )
    [message] = ledger_table([entry]).columns[4].cells
    assert str(message) == shown


async def test_show_and_cancel_need_no_worker(on_server: SetStage) -> None:
    """With every worker gone the ledger comes from the history, and that nobody works on the call is said."""
    async with on_server(http_error(503), never, graceful_shutdown_timeout=timedelta(0)) as stage:
        handle = await stage.dispatcher.submit(MODEL, "Name a prime.")
        while len(stage.provider.orders) < 2:
            await asyncio.sleep(0.05)
    shown, absent = await asyncio.gather(
        run("show", handle.call_id, "--json", **at(stage)), run("show", fresh_id(), "--json", **at(stage))
    )
    assert (shown.status, shown.json["status"]["outcome"]) == (Exit.OK, "running")
    assert shown.json["attempts"][0]["http_status"] == 503
    assert not shown.json["totals"]["cost_complete"]
    assert (absent.status, absent.json["error"]["type"]) == (Exit.NOT_FOUND, "CallNotFoundError")
    cancelled, unknown = await asyncio.gather(
        run("cancel", handle.call_id, **at(stage)), run("cancel", fresh_id(), **at(stage))
    )
    assert (cancelled.status, unknown.status) == (Exit.OK, Exit.NOT_FOUND)
    await stage.client.get_workflow_handle(handle.call_id).terminate()


async def listed(count: int, *filters: str, **env: str) -> Ended:
    """The list once it has `count` calls: visibility lags the history a little."""
    for _ in range(10):
        end = await run("list", *filters, "--json", **env)
        assert end.status == Exit.OK, end
        if len(end.json["calls"]) == count:
            break
    return end


async def test_list_filters_by_outcome_model_category_and_session(on_server: SetStage) -> None:
    """Each filter narrows, a quote in one is a letter, the latest comes first, and --limit is the most."""
    session, other = f"{fresh_id()} a\\b o'brien", "anthropic/claude-haiku-4-5"
    async with on_server(http_error(401), answer("7"), answer("7"), never) as stage:
        submitted = []
        for model in (MODEL, MODEL, other, MODEL, MODEL):
            submitted.append((await stage.dispatcher.submit(model, "Name a prime.", session=session)).call_id)
            while len(stage.provider.orders) < len(submitted):
                await asyncio.sleep(0.02)
        exhausted, _, answered_by_other, running, forced = submitted
        await stage.client.get_workflow_handle(forced).terminate()
        env = at(stage)
        everything = await listed(5, "--session", session, **env)
        narrowed = [
            ("--outcome", "exhausted", exhausted), ("--outcome", "terminated", forced),
            ("--category", "auth", exhausted), ("--model", other, answered_by_other), ("--outcome", "running", running),
        ]  # fmt: skip
        found = await asyncio.gather(*(listed(1, "--session", session, *row[:2], **env) for row in narrowed))
        limited, table = await asyncio.gather(
            listed(2, "--session", session, "--limit", "2", **env), run("list", "--session", session, **env)
        )
        await stage.dispatcher.attach(running).cancel()
    assert [call["call_id"] for call in everything.json["calls"]] == submitted[::-1]
    assert [[call["call_id"] for call in end.json["calls"]] for end in found] == [[row[2]] for row in narrowed]
    assert len(limited.json["calls"]) == 2
    first = found[0].json["calls"][0]
    assert (first["outcome"], first["model"], first["attempts"], first["session"]) == ("exhausted", MODEL, 1, session)
    assert found[1].json["calls"][0]["outcome"] == "terminated"
    assert all(call_id in table.out for call_id in submitted)


async def test_setup_makes_a_bare_namespace_ready_and_keeps_calls_as_long_as_told() -> None:
    """Before it, list with a filter says what to run (3) and a plain list works; --retention DAYS is set."""
    env = await WorkflowEnvironment.start_local(dev_server_existing_path=binary("temporal"))
    async with env:
        to = server(env.client)
        bare, plain = await asyncio.gather(run("list", "--session", "x", "--json", **to), run("list", "--json", **to))
        first = await run("setup", "--retention", "30", "--json", **to)
        second = await run("setup", **to)
        described = await env.client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    assert (bare.status, "durable-llm setup" in bare.json["error"]["message"]) == (Exit.UNAVAILABLE, True)
    assert (plain.status, plain.json) == (Exit.OK, {"calls": []})
    assert (first.status, first.json["retention_days"], first.json["namespace"]) == (Exit.OK, 30, "default")
    assert "LLMOutcome" in first.json["registered"]
    assert (second.status, "all search attributes were there" in second.out) == (Exit.OK, True)
    assert described.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=30)


async def test_job_and_cost_tell_what_was_used(on_server: SetStage) -> None:
    """A job's calls with attempts, waits, tokens and cost; totals by session; what is unknown is no zero."""
    job_id = f"{fresh_id()} o'brien"
    async with on_server(http_error(503), answer("7"), answer("8", cost=None)) as stage:
        env, job = at(stage), stage.dispatcher.job(job_id)
        await job.call(MODEL, "Name a prime.")
        await job.step("again").call(MODEL, "Name a prime.")
        for _ in range(20):
            shown = await run("job", job_id, "--json", **env)
            if shown.status == Exit.OK and len(shown.json["calls"]) == 2:
                break
        people, costs, none, too_few, limited = await asyncio.gather(
            run("job", job_id, **env), run("cost", "--session", job_id, "--since", "1h", "--json", **env),
            run("job", fresh_id(), **env), run("cost", "--job", job_id, **env), run("job", job_id, "--limit", "1", **env),
        )  # fmt: skip
    totals = shown.json["totals"]
    assert (totals["calls"], totals["attempts"], totals["cost"], totals["cost_complete"]) == (2, 3, 0.01, False)
    assert totals["waited_s"] > 0
    assert {each["spent"]["attempts"] for each in shown.json["calls"]} == {1, 2}
    assert (people.status, costs.status, none.status, too_few.status) == (Exit.OK, Exit.OK, Exit.NOT_FOUND, Exit.OK)
    assert "2 calls, 3 attempts, $0.01 known, the rest unknown" in people.out
    assert "10 + 2 tokens" in people.out
    assert "unknown" in people.out
    assert [(each["session"], each["calls"]) for each in costs.json["sessions"]] == [(job_id, 2)]
    assert job_id in too_few.out
    assert "raise --limit" in limited.err


async def test_a_job_is_cancelled_from_the_command_line(on_server: SetStage) -> None:
    """`job ID --cancel` asks every running call of the job to end."""
    async with on_server(never) as stage:
        job = stage.dispatcher.job(fresh_id())
        handles = [await job.submit(MODEL, text) for text in ("One.", "Two.")]
        while len(await stage.dispatcher.find(f"WorkflowId STARTS_WITH '{job.name}/'")) < 2:
            await asyncio.sleep(0.05)  # Temporal lists a call a moment after it
        end = await run("job", job.name, "--cancel", **at(stage))
        assert end.status == Exit.OK, end
        for handle in handles:
            with pytest.raises(CallCancelledError):
                await handle.result()
