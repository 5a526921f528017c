"""Recorded calls decided again: no difference without a change, and exactly the one that was made."""

import asyncio
import base64
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from durable_llm import DurableLLMError, LLMConfig, ModelSpec, Policy
from durable_llm.contract.categories import Category
from durable_llm.contract.facts import FailureFacts, LocalFault
from tests.conftest import SetStage
from tests.support import ROOT
from tests.support.record_histories import FOLDER
from tests.support.scripted import answer, http_error
from workers.recorded.histories import from_files, from_server
from workers.recorded.reclassify import Report, differences, read_call, reclassify
from workflows.policy.rules import Rule
from workflows.policy.versions import VERSIONS

HISTORIES = FOLDER
FALLBACK = HISTORIES / "v1-fallback.json"
OUT_OF_QUOTA = {HISTORIES / f"v{version}-{scene}.json" for version in VERSIONS for scene in ("fallback", "next-models")}


async def report_of(*paths: Path) -> Report:
    """The report over files."""
    return await reclassify(from_files(paths), pydantic_data_converter)


async def test_saved_histories_are_classified_as_they_were() -> None:
    """The policy version of each saved call decides as was recorded; the current one differs only on purpose."""
    report = await report_of(HISTORIES)
    assert (report.calls, report.unreadable) == (len(list(HISTORIES.glob("*.json"))), [])
    assert report.attempts >= 14
    changed = {(str(each.recorded.category), str(each.recorded.decision)) for each in report.differences}
    assert changed <= {("timeout", "retry"), ("invalid_request", "fail")}
    async for history in from_files([HISTORIES]):
        call = await read_call(history, pydantic_data_converter)
        assert not differences(call, VERSIONS[call.policy_version]), call.call_id


def edited(path: Path, change: Callable[[str], str]) -> str:
    """The history with every payload's JSON changed."""

    def walk(value: object) -> object:
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        if isinstance(value, dict):
            return {name: _changed(inner, change) if name == "data" else walk(inner) for name, inner in value.items()}
        return value

    return json.dumps(walk(json.loads(path.read_text())))


def _changed(data: str, change: Callable[[str], str]) -> str:
    return base64.b64encode(change(base64.b64decode(data).decode()).encode()).decode()


def _as_rate_limit(text: str) -> str:
    """The first failure as if an older policy had classified it as a rate limit."""
    old = '"category":"quota_exhausted"'
    return text.replace(old, '"category":"rate_limited"').replace('"rule":"429-quota"', '"rule":"old"')


async def test_an_edited_decision_is_the_one_difference(tmp_path: Path) -> None:
    """It names the attempt, what was recorded and what today's policy says."""
    path = tmp_path / "edited.json"
    path.write_text(edited(FALLBACK, _as_rate_limit))
    [found] = (await report_of(path)).differences
    assert found.attempt == 1
    assert (found.recorded.category, found.recorded.rule) == (Category.RATE_LIMITED, "old")
    assert (found.today.category, found.today.decision, found.today.rule) == ("quota_exhausted", "next", "429-quota")
    assert found.message == "429 insufficient_quota"


async def test_a_changed_policy_shows_where_it_decides_otherwise() -> None:
    """A new first row changes the calls that it fits, and no others."""
    stricter = Rule("no-quota", Category.INVALID_REQUEST, "a test", fields="insufficient_quota")
    for path in sorted(HISTORIES.glob("*.json")):
        call = await read_call(WorkflowHistory.from_json(path.stem, path.read_text()), pydantic_data_converter)
        version = VERSIONS[call.policy_version]
        changed = dataclasses.replace(version, rules=(stricter, *version.rules))
        found = [(row.attempt, row.recorded.decision, row.today.decision) for row in differences(call, changed)]
        assert found == ([(1, "next", "fail")] if path in OUT_OF_QUOTA else []), path.stem


async def test_what_is_no_call_is_named(tmp_path: Path) -> None:
    """One bad file does not hide the others."""
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "b.json").write_text('{"events": []}')
    (tmp_path / "c.json").write_text(FALLBACK.read_text())
    (tmp_path / "d.json").write_text(edited(FALLBACK, lambda _: "{"))
    report = await report_of(tmp_path, tmp_path / "absent.json")
    assert report.calls == 1
    assert [line.partition(":")[0].rpartition("/")[2] for line in report.unreadable] == [
        "a.json",
        "b",
        "d",
        "absent.json",
    ]


async def test_calls_are_read_from_the_server(on_server: SetStage) -> None:
    """Every kind of failure, budget and round is decided as it was, and a query selects the calls."""
    steps = [
        http_error(503),
        FailureFacts(local_fault=LocalFault.LOST),
        http_error(429, "rate_limit_exceeded", retry_after_s=0.01),
        http_error(500, should_retry=False),
        http_error(403),
        http_error(503),
        http_error(503),
        answer(),
    ]
    pair = LLMConfig(models=[ModelSpec(name="openai/gpt-4o-mini"), ModelSpec(name="openai/b", max_retries=1)])
    brief = timedelta(milliseconds=10)
    quick = Policy(backoff_initial=brief, backoff_cap=brief, patience=timedelta(0))
    async with on_server(*steps) as stage:
        ids = []
        for _ in range(2):
            handle = await stage.dispatcher.submit(pair, "Name a prime.", policy=quick)
            ids.append(handle.call_id)
            with suppress(DurableLLMError):
                await handle.result()
        query = " OR ".join(f"WorkflowId = '{call_id}'" for call_id in ids)
        while (await stage.client.count_workflows(query)).count < len(ids):  # visibility lags behind
            await asyncio.sleep(0.1)
        report = await reclassify(from_server(stage.client, query, 10), stage.client.data_converter)
    assert (report.calls, report.differences, report.unreadable) == (2, [], [])
    assert report.attempts == 7


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    """One is for people, one for programs; the status shows a history that could not be read."""
    path = tmp_path / "edited.json"
    path.write_text(edited(FALLBACK, _as_rate_limit))
    command = [sys.executable, "-m", "workers", "reclassify", str(path)]
    table = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}, cwd=ROOT
    )
    assert "rate_limited -> next (old)" in " ".join(table.stdout.split())
    assert "1 of 2 decisions in 1 calls" in table.stdout
    as_json = json.loads(
        subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )
    assert as_json["differences"][0]["today"]["rule"] == "429-quota"
    (tmp_path / "bad.json").write_text("{")
    assert subprocess.run([*command[:-1], str(tmp_path)], cwd=ROOT, capture_output=True, check=False).returncode == 1
