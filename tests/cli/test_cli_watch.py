"""`durable-llm watch`, `stats` and `open`: many calls at a glance, one while it runs, and the way to the UI."""

import asyncio
import os
import pty
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_llm import LLMConfig, ModelSpec, Policy
from durable_llm.cli.exits import Exit
from durable_llm.cli.watch_commands import fleet_of, may_wait
from durable_llm.client.listing import CallRow
from durable_llm.client.stats import figures_of, stats_of
from tests.conftest import SetStage
from tests.support import ROOT
from tests.support.calls import until_parked
from tests.support.cli import PROGRAM, at, run
from tests.support.scripted import answer, fresh_id, http_error, never

NOW = datetime(2026, 11, 29, 3, 0, tzinfo=UTC)


def row(**fields: Any) -> CallRow:
    """A call of Temporal's list."""
    given = {
        "call_id": fresh_id(), "run_id": "r", "outcome": "answered", "model": "openai/a", "category": None,
        "attempts": 1, "cost": 0.5, "session": None, "started_at": NOW, "ended_at": NOW + timedelta(seconds=2),
    }  # fmt: skip
    return CallRow(**{**given, **fields})


def test_figures_own_up_to_what_is_unknown() -> None:
    """Calls that run have no duration, and an unknown cost is counted and not zero."""
    rows = [row(ended_at=NOW + timedelta(seconds=second)) for second in range(1, 21)]
    figures = figures_of([*rows, row(ended_at=None, cost=None, attempts=None)])
    assert (figures.calls, figures.attempts, figures.cost, figures.cost_unknown) == (21, 20, 10.0, 1)
    assert (figures.seconds_p50, figures.seconds_p95) == (10.0, 19.0)
    nothing = figures_of([])
    assert (nothing.calls, nothing.seconds_p50) == (0, None)


def test_stats_group_by_outcome_model_and_last_failure() -> None:
    """The largest group first; calls without a failure are in no category."""
    stats = stats_of([row(), row(), row(outcome="exhausted", model="openai/b", category="auth"), row(model=None)])
    assert {name: each.calls for name, each in stats.by_outcome.items()} == {"answered": 3, "exhausted": 1}
    assert list(stats.by_model) == ["openai/a", "openai/b", "unknown"]
    assert list(stats.by_category) == ["auth"]


def test_the_fleet_is_counted_by_model_and_state() -> None:
    """And says when there is more than it has counted."""
    running = [row(outcome=outcome, ended_at=None, category=category) for outcome, category in (
        ("running", None), ("running", "overloaded"), ("paused", None), ("parked", "auth"),
    )]  # fmt: skip
    assert may_wait(running) == [running[1]]  # the others have not failed, or wait for an operator
    fleet = fleet_of(running, [running[1]], [row(cost=1.25), row(cost=None)])
    assert fleet.by_model == {"openai/a": {"running": 2, "waiting": 1, "after a failure": 2, "paused": 1, "parked": 1}}
    assert fleet.failures == {"overloaded": 1, "auth": 1}
    assert (fleet.spent_usd, fleet.complete, fleet.all_asked) == (1.25, True, True)
    more = fleet_of(running * 2500, [], [])
    assert (more.complete, more.all_asked) == (False, False)


async def test_the_command_line_shows_the_fleet_the_figures_and_one_call(on_server: SetStage) -> None:
    """Once, off a terminal; as JSON and for people."""
    session, policy = fresh_id(), Policy(on_exhausted="park")
    chain = LLMConfig(models=[ModelSpec(name=f"openai/{session[:8]}")])
    async with on_server(answer("7"), http_error(401), http_error(429, retry_after_s=50.0), never) as stage:
        await stage.dispatcher.call(chain, "Hi.", session=session)
        parked = await stage.dispatcher.submit(chain, "Hi.", session=session, policy=policy)
        await until_parked(parked)
        waiting, running = [await stage.dispatcher.submit(chain, "Hi.", session=session) for _ in range(2)]
        model = chain.models[0].name
        while True:  # Temporal's list is a moment late
            fleet = await run("watch", "--json", **at(stage))
            seen = fleet.json["by_model"].get(model, {})
            if (seen.get("running"), seen.get("waiting"), seen.get("parked")) == (2, 1, 1):
                break
        table, one, figures, words = await asyncio.gather(
            run("watch", **at(stage)), run("watch", parked.call_id, "--json", **at(stage)),
            run("stats", "--session", session, "--since", "1h", "--json", **at(stage)),
            run("stats", "--session", session, **at(stage)),
        )  # fmt: skip
        await asyncio.gather(parked.cancel(), waiting.cancel(), running.cancel())
    assert fleet.json["failures"]["auth"] >= 1
    assert model in table.out
    assert "calls in flight" in table.out
    assert one.json["status"]["outcome"] == "parked"
    assert {name: each["calls"] for name, each in figures.json["by_outcome"].items()} == {
        "answered": 1, "parked": 1, "running": 2,
    }  # fmt: skip
    assert figures.json["by_outcome"]["answered"]["cost"] == pytest.approx(0.01)
    assert "4 calls" in words.out


async def test_open_prints_where_the_ui_has_the_call(on_server: SetStage) -> None:
    """With every character of the id escaped; a call that is not there is 4."""
    call_id = f"job/{fresh_id()} 1"
    async with on_server(never) as stage:
        handle = await stage.dispatcher.submit("openai/a", "Hi.", call_id=call_id)
        found, absent = await asyncio.gather(
            run("open", call_id, "--ui", "http://ui:8080/", **at(stage)), run("open", fresh_id(), **at(stage))
        )
        await handle.cancel()
    assert found.out == f"http://ui:8080/namespaces/default/workflows/job%2F{call_id[4:-2]}%201\n"
    assert absent.status == Exit.NOT_FOUND


async def test_on_a_terminal_one_call_is_watched_in_place_until_it_ends(on_server: SetStage) -> None:
    """Its ledger is drawn again and again; with NO_COLOR without a colour."""
    async with on_server(http_error(503), answer("7")) as stage:
        handle = await stage.dispatcher.submit("openai/a", "Hi.")
        ours, theirs = pty.openpty()
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *PROGRAM, "watch", handle.call_id, "--every", "100ms", cwd=ROOT, stdout=theirs,
            env={**plain, **at(stage), "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "120"},
        )  # fmt: skip
        os.close(theirs)
        seen = ""
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # how Linux says that the other side has closed
            while more := await loop.run_in_executor(None, os.read, ours, 65_536):
                seen += more.decode(errors="replace")
        os.close(ours)
        assert await process.wait() == 0
    assert f"{handle.call_id}: answered" in seen
    assert "overloaded" in seen
    assert not re.search(r"\x1b\[(?:\d+;)*3[0-7]m", seen)
