"""`make bench-quotas`: 450 calls at once against a provider that allows three hundred a minute.

The provider is `llmock`, which keeps quotas as buckets that refill continuously and answers beyond them with 429 and
the real wait. Each contestant has a provider of its own: with a quota of requests, with one of tokens, and with one of
requests and an outage of a minute in the middle. What the provider received is counted from its journal.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # its annotations are a package of their own
from rich.console import Console

from benchmarks.bench import Contestant, alone, start
from benchmarks.stand import Stand
from benchmarks.tables import Row, save, terminal
from tests.harness.parts.provider import Provider, client, journal

REPORT: Final = Path(".durable-llm/bench/quotas.json")
CALLS: Final = 450
PER_MINUTE: Final = 300
LATENCY_MS: Final = 200
WORKERS: Final = 3
OUTAGE_FROM_S: Final = 30.0
OUTAGE_S: Final = 60.0
TOKENS_OF_A_REQUEST: Final = 125
"""What llmock charges for the contestants' request: a quarter of its bytes, and its max_tokens."""

MAX_TOKENS: Final = 100
_JOURNAL_S: Final = 60.0

CONTESTANTS: Final = (
    Contestant("durable-llm, three workers", ("-m", "benchmarks.contestants.ours"), ("-m", "workers"), "temporal"),
    alone("fhlmi", "fhlmi_model", environment="fhlmi"),
    alone("litellm Router, three retries", "litellm_caller", "router"),
)
HEADINGS: Final = (
    "quota",
    "asked by",
    "lost",
    "seconds",
    "of the quota's time",
    "requests a call",
    "10 s after outage",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One provider."""

    name: str
    options: tuple[str, ...]
    quota: dict[str, int]
    parameters: dict[str, int]
    outage: bool = False


REQUESTS: Final = {"requests_per_minute": PER_MINUTE}
CASES: Final = (
    Case(name="300 requests a minute", options=("--rpm", str(PER_MINUTE)), quota=REQUESTS, parameters={}),
    Case(
        name="tokens for 300 requests a minute", options=("--tpm", str(PER_MINUTE * TOKENS_OF_A_REQUEST)),
        quota={"tokens_per_minute": PER_MINUTE * TOKENS_OF_A_REQUEST}, parameters={"max_tokens": MAX_TOKENS},
    ),
    Case(
        name="300 requests, and a minute's outage", options=("--rpm", str(PER_MINUTE)), quota=REQUESTS, parameters={},
        outage=True,
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of one contestant's calls."""

    case: str
    contestant: str
    lost: int
    seconds: float
    requests: int
    after_outage: int | None
    """Requests in the ten seconds after the provider is back."""

    def row(self) -> Row:
        """For the table."""
        share = self.seconds / (CALLS / PER_MINUTE * 60)
        after = "" if self.after_outage is None else str(self.after_outage)
        return (
            self.case, self.contestant, str(self.lost), f"{self.seconds:.0f}", f"{share:.2f}",
            f"{self.requests / CALLS:.2f}", after,
        )  # fmt: skip


async def measure(case: Case, contestant: Contestant) -> Found:
    """Let a contestant make all calls at once."""
    options = ("--response-style", "hello", "--latency-ms", str(LATENCY_MS), *case.options)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(Provider("openai", options=options))
        await provider.ready()
        chains = Path(stack.enter_context(TemporaryDirectory())) / "chains.yaml"
        chains.write_text(yaml.safe_dump({"quotas": {"mini": {"models": ["openai/gpt-4o-mini"], **case.quota}}}))
        stand = Stand(stack)
        await stand.build((contestant.server,))
        stand.env |= {
            "OPENAI_BASE_URL": provider.api_base, "BENCH_PARAMETERS": json.dumps(case.parameters),
            "DURABLE_LLM_CHAINS": str(chains),
        }  # fmt: skip
        for _ in range(WORKERS - 1 if contestant.worker else 0):
            await stand.worker()
        running = await start(stand, contestant)
        outage = asyncio.create_task(_outage(provider)) if case.outage else None
        began = time.time()
        ended = await running.order({"at_once": CALLS})
        if outage is not None:
            outage.cancel()
        records = await journal(provider.root, _JOURNAL_S)
        back_at = began + OUTAGE_FROM_S + OUTAGE_S
        after = sum(back_at <= record["started_at"] < back_at + 10 for record in records)
        return Found(
            case=case.name, contestant=contestant.name, lost=ended["lost"], seconds=ended["wall_s"],
            requests=len([record for record in records if record["path"].endswith("/chat/completions")]),
            after_outage=after if case.outage else None,
        )  # fmt: skip


async def _outage(provider: Provider) -> None:
    """Every request fails with a 503 for a minute."""
    await asyncio.sleep(OUTAGE_FROM_S)
    await provider.script([{"type": "fail", "status": 503, "times": 1_000_000}])
    await asyncio.sleep(OUTAGE_S)
    async with client(provider.root) as http:
        (await http.delete("/_llmock/scenario")).raise_for_status()


async def measure_all(cases: Sequence[Case], contestants: Sequence[Contestant]) -> list[Found]:
    """One after the other: they would disturb each other."""
    console = Console(stderr=True)
    found = []
    for case in cases:
        for contestant in contestants:
            console.print(f"{contestant.name}: {case.name} ...")
            found.append(await measure(case, contestant))
            console.print(asdict(found[-1]))
    return found


def main() -> None:
    """Measure, print and save. Arguments choose contestants and cases by a part of their names."""
    chosen = sys.argv[1:]

    def wanted(names: Sequence[Any]) -> list[Any]:
        found = [each for each in names if any(part in each.name for part in chosen)]
        return found or list(names)

    found = asyncio.run(measure_all(wanted(CASES), wanted(CONTESTANTS)))
    Console().print(terminal(HEADINGS, [each.row() for each in found]))
    kept = {(one["case"], one["contestant"]): one for one in json.loads(REPORT.read_text())} if REPORT.exists() else {}
    save(REPORT, list({**kept, **{(each.case, each.contestant): asdict(each) for each in found}}.values()))


if __name__ == "__main__":
    main()
