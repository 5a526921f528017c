"""Alerts, scrape configuration and dashboard: Debian's Prometheus checks them, fires each alert, and is filled by a worker."""

import asyncio
import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher, LLMConfig, ModelSpec, Policy
from durable_llm.errors import AllModelsExhaustedError
from tests.front.serving import serving
from tests.support import ROOT
from tests.support.calls import until_parked
from tests.support.processes import SERVES, worker
from tests.support.wire import playing
from workers.dev.ports import free_port

PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0]["rules"]
ALERTS = ROOT / "tests" / "support" / "data" / "alerts.yml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "durable-llm.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
ONLY_IN_TROUBLE = {"temporal_workflow_task_execution_failed_total"}
"""Series that a worker has only once something is wrong."""

needs_prometheus = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed: `make prometheus`"
)


def promtool(*words: str) -> None:
    """Run it; it must find no fault."""
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_the_configuration_and_the_rules_are_valid() -> None:
    """As Prometheus reads them."""
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


@needs_prometheus
def test_each_alert_fires_on_what_it_is_for_and_none_on_an_ordinary_day(tmp_path: Path) -> None:
    """By Prometheus's own evaluation of series of half an hour."""
    tests = tmp_path / "alerts.yml"
    tests.write_text(ALERTS.read_text().replace("RULES", str(PROMETHEUS / "rules.yml")))
    promtool("test", "rules", str(tests))


def test_each_alert_is_tested_and_has_its_section_in_the_runbook() -> None:
    """So nobody is woken by something that no page explains."""
    quiet, firing = (
        {each["alertname"] for each in day["alert_rule_test"]} for day in yaml.safe_load(ALERTS.read_text())["tests"]
    )
    names = {rule["alert"] for rule in RULES}
    assert names == quiet == firing
    page = (ROOT / "docs" / "operations.md").read_text()
    for rule in RULES:
        assert f"\n### {rule['alert']}\n" in page
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


@needs_prometheus
def test_what_the_dashboard_asks_is_what_prometheus_understands(tmp_path: Path) -> None:
    """Each expression, as a rule; and each panel says what it shows."""
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(EXPRESSIONS)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(file))
    assert all(panel["title"] and panel["description"] for panel in DASHBOARD["panels"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@contextmanager
def prometheus(tmp_path: Path, **targets: str) -> Iterator[str]:
    """Debian's Prometheus with the deployment's configuration, scraping these jobs every half second."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(PROMETHEUS / "rules.yml")]
    config["scrape_configs"] = [
        {"job_name": f"durable-llm-{name}", "static_configs": [{"targets": [target]}]}
        for name, target in targets.items()
    ]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    process = subprocess.Popen([
        "prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ])  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def asked(url: str, query: str) -> list[Any]:
    """What Prometheus answers to a query; [] while it does not answer at all."""
    async with httpx.AsyncClient() as client:
        try:
            answer = await client.get(f"{url}/api/v1/query", params={"query": query})
        except httpx.ConnectError:
            return []
    result: list[Any] = answer.json()["data"]["result"] if answer.is_success else []
    return result


@needs_prometheus
async def test_a_real_scrape_fills_each_series_of_the_alerts_and_the_dashboard(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """A worker that answers, fails and parks calls, and a front, have them all, under these names and with these labels."""
    queue, port = f"scraped-{uuid.uuid4().hex[:8]}", str(free_port())
    names = {
        name
        for text in [*EXPRESSIONS, *(rule["expr"] for rule in RULES)]
        for name in re.findall(r"\b((?:durable_llm|gen_ai|temporal|process)_[a-z_]+)(?=[\[{) ])(?!\s*\()", text)
        if not re.search(rf"by \([^)]*\b{name}\b", text)
    } - ONLY_IN_TROUBLE
    async with (
        playing({**SERVES, "then": {"http_status": 401, "headers": {}, "body": {"error": {"message": "no"}}}}) as wire,
        worker(server_env, queue, DURABLE_LLM_HTTP_PORT=port),
        Dispatcher(server_env.client, task_queue=queue) as dispatcher,
        serving(dispatcher) as front,
    ):  # fmt: skip
        chain = LLMConfig(models=[ModelSpec(name="openai/gpt-4o-mini", api_base=wire.url)])
        await dispatcher.call(chain, "Hi.")
        with pytest.raises(AllModelsExhaustedError):
            await dispatcher.call(chain, "Hi.")
        parked = await dispatcher.submit(chain, "Hi.", policy=Policy(on_exhausted="park"))
        await until_parked(parked)
        await front.http.get("/v1/models")
        with prometheus(tmp_path, worker=f"127.0.0.1:{port}", front=front.address.removeprefix("http://")) as url:
            for name in sorted(names):
                while not await asked(url, name):
                    await asyncio.sleep(0.1)
            for query in (
                'durable_llm_unfinished_calls{durable_llm_outcome="parked"} > 0',
                'durable_llm_calls_total{durable_llm_outcome="exhausted"}',
                'durable_llm_attempts_total{durable_llm_outcome="failed", durable_llm_category="auth"}',
                'up{job="durable-llm-worker"} == 1',
                f'temporal_activity_schedule_to_start_latency_seconds_bucket{{task_queue="{queue}"}}',
            ):
                while not await asked(url, query):
                    await asyncio.sleep(0.1)
        await parked.cancel()
    assert len(names) >= 8, names
