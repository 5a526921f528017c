"""`make simulate`: a million calls and an outage, with the policy's own code and no network.

Calls come at seven tenths of what the provider allows. It answers in two seconds, refuses what is above its quota with
429 and the real wait, and fails with 503 for two minutes. Each call follows the pure policy; with the quota, attempts
wait in one queue whose rate follows the pure arithmetic of `workflows.policy.quota`. SimPy keeps the clock.

Four ways are compared: the default policy with the quota, the same without it, the same without jitter too, and lmi's.
"""

import argparse
import random
from collections import Counter, deque
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import simpy
from rich.console import Console

from benchmarks.tables import save, terminal
from durable_llm.contract.categories import Action, Category
from durable_llm.contract.facts import FailureFacts, Sent
from durable_llm.contract.policy import Policy, PolicyOnWire
from durable_llm.contract.quotas import Outcomes, QuotaLimits, QuotaReport
from workflows.policy.decide import Decision, Progress
from workflows.policy.quota import QuotaState, observe, pass_time, rate_of
from workflows.policy.versions import CURRENT, VERSIONS

REPORT: Final = Path(".durable-llm/bench/simulation.json")
PLOT: Final = Path("docs/images/simulation.svg")
CALLS: Final = 1_000_000
ALLOWED_PER_S: Final = 1_250.0
LOAD: Final = 0.7
LATENCY_S: Final = 2.0
REFUSED_AFTER_S: Final = 0.1
OUTAGE_S: Final = 120.0
DEADLINE_S: Final = 86_400.0
REPORT_S: Final = 1.0
BEGAN_S: Final = 1_000_000.0
"""The simulation's first second, in the epoch of the quota's state."""

HEADINGS: Final = (
    "",
    "lost",
    "requests a call",
    "wasted requests",
    "429s",
    "peak after the outage, of the quota",
    "last answer s",
)

_POLICY = VERSIONS[CURRENT]

Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Way:
    """One way to make the calls."""

    name: str
    policy: PolicyOnWire = field(default_factory=Policy)
    quota: bool = False
    jitter: bool = True


WAYS: Final = (
    Way("default, with the quota", quota=True),
    Way("default, no quota declared"),
    Way("the same, without jitter", jitter=False),
    Way("lmi's policy", Policy(preset="lmi", patience=timedelta(0))),
)


@dataclass(kw_only=True)
class Found:
    """What came of it."""

    way: str
    calls: int
    lost: int = 0
    requests: int = 0
    limited: int = 0
    failed: int = 0
    peak_after_outage: float = 0.0
    """Requests a second, in the busiest of the ten seconds after the outage, of what the provider allows."""
    ended_s: float = 0.0
    by_second: dict[int, int] = field(default_factory=dict)


class Provider:
    """Answers, refuses or fails; a bucket of one minute's requests, full at first."""

    def __init__(self, env: simpy.Environment, allowed_per_s: float, outage_at_s: float) -> None:
        self._env = env
        self._rate = allowed_per_s
        self._level = self._capacity = allowed_per_s * 60
        self._updated_s = 0.0
        self._outage = (outage_at_s, outage_at_s + OUTAGE_S)

    def ask(self) -> FailureFacts | None:
        """A failure, or None for an answer."""
        now = self._env.now
        self._level = min(self._capacity, self._level + (now - self._updated_s) * self._rate)
        self._updated_s = now
        if self._outage[0] <= now < self._outage[1]:
            return _DOWN
        if self._level < 1:
            return _LIMITED.model_copy(update={"retry_after_s": (1 - self._level) / self._rate})
        self._level -= 1
        return None


_DOWN: Final = FailureFacts(
    http_status=503, text="Service unavailable", exception="ServiceUnavailableError", request_sent=Sent.YES
)
_LIMITED: Final = FailureFacts(
    http_status=429, error_code="rate_limit_exceeded", text="Rate limit reached", exception="RateLimitError",
    request_sent=Sent.YES, retry_after_source="retry-after",
)  # fmt: skip


class Gate:
    """The quota's queue: attempts wait in order, and the rate follows what they meet."""

    def __init__(self, env: simpy.Environment, allowed_per_s: float, rng: random.Random) -> None:
        self._env = env
        self._rng = rng
        self._limits = QuotaLimits(requests_per_minute=allowed_per_s * 60)
        self._state = pass_time(QuotaState(), self._limits, BEGAN_S)
        self._waiting: deque[simpy.Event] = deque()
        self._arrived = env.event()
        self._sent = 0
        self._outcomes: list[Outcomes] = []
        env.process(self._let_out())
        env.process(self._report())

    def enter(self) -> simpy.Event:
        """An event for when it is the attempt's turn."""
        turn = self._env.event()
        self._waiting.append(turn)
        if not self._arrived.triggered:
            self._arrived.succeed()
        return turn

    def saw(self, failure: FailureFacts | None) -> None:
        """How an attempt ended."""
        last = self._outcomes[-1] if self._outcomes else None
        if last is not None and (last.failure is None) == (failure is None):
            self._outcomes[-1] = last.model_copy(update={"count": last.count + 1})
        else:
            self._outcomes.append(Outcomes(failure=failure))

    def _let_out(self) -> Process:
        """In steps of a twentieth of a second, as many as the rate allows; at most a second's worth at once."""
        tokens, step = 0.0, 0.05
        while True:
            if not self._waiting:
                self._arrived = self._env.event()
                yield self._arrived
            rate = rate_of(self._state, self._limits).per_second or 0.0
            tokens = min(tokens + rate * step, max(rate, 1.0))
            while tokens >= 1 and self._waiting:
                tokens -= 1
                self._sent += 1
                self._waiting.popleft().succeed()
            yield self._env.timeout(step)

    def _report(self) -> Process:
        while True:
            yield self._env.timeout(REPORT_S)
            now_s = BEGAN_S + self._env.now
            report = QuotaReport(sent=self._sent, outcomes=self._outcomes)
            self._sent, self._outcomes = 0, []
            self._state = observe(
                self._state, report, self._limits, now_s, classify=_category, jitter=self._rng.random()
            )
            self._state = pass_time(self._state, self._limits, now_s)


def _category(facts: FailureFacts) -> Category:
    return _POLICY.classify(facts).category


class Simulation:
    """One way's calls."""

    def __init__(self, way: Way, calls: int, seed: int) -> None:
        self._env = simpy.Environment()
        self._rng = random.Random(seed)  # noqa: S311  # a simulation
        self._way = way
        allowed = ALLOWED_PER_S * calls / CALLS  # a smaller run has the same duration
        self._provider = Provider(self._env, allowed, outage_at_s=0.4 * CALLS / (ALLOWED_PER_S * LOAD))
        self._gate = Gate(self._env, allowed, self._rng) if way.quota else None
        self._allowed = allowed
        self._counts: Counter[int] = Counter()
        self._left = calls
        self._all_ended = self._env.event()
        self.found = Found(way=way.name, calls=calls)

    def run(self) -> Found:
        """Make all calls."""
        self._env.process(self._arrivals(self.found.calls))
        self._env.run(until=self._all_ended)
        self.found.ended_s = self._env.now
        back = int(0.4 * CALLS / (ALLOWED_PER_S * LOAD) + OUTAGE_S)
        self.found.peak_after_outage = max(self._counts[back + second] for second in range(10)) / self._allowed
        self.found.by_second = dict(self._counts)
        return self.found

    def _arrivals(self, calls: int) -> Process:
        for _ in range(calls):
            yield self._env.timeout(self._rng.expovariate(self._allowed * LOAD))
            self._env.process(self._call())

    def _call(self) -> Process:
        """One call, as `LLMCall` walks its chain of one model."""
        began, progress = self._env.now, Progress(budgets=(3,))
        while True:
            if self._gate is not None:
                yield self._gate.enter()
            failure = self._provider.ask()
            self.found.requests += 1
            self._counts[int(self._env.now)] += 1
            yield self._env.timeout(LATENCY_S if failure is None else REFUSED_AFTER_S)
            if self._gate is not None:
                self._gate.saw(failure)
            if failure is None:
                break
            self.found.limited += failure.http_status == 429
            self.found.failed += failure.http_status != 429
            decision = _POLICY.decide(failure, progress, self._way.policy, DEADLINE_S - (self._env.now - began))
            if decision.action is Action.FAIL:
                self.found.lost += 1
                break
            yield self._env.timeout(self._delay(decision))
            progress = decision.progress
        self._left -= 1
        if not self._left:
            self._all_ended.succeed()

    def _delay(self, decision: Decision) -> float:
        spread = self._rng.uniform(0, decision.spread_s) if self._way.jitter else decision.spread_s
        return decision.floor_s + spread


def plot(all_found: list[Found], path: Path) -> None:
    """Requests a second over time, one way below the other."""
    from matplotlib import pyplot  # noqa: PLC0415  # half a second that only a picture needs

    figure, axes = pyplot.subplots(len(all_found), 1, figsize=(9, 9), sharex=True)
    for axis, found in zip(axes, all_found, strict=True):
        seconds = range(int(found.ended_s) + 1)
        allowed = ALLOWED_PER_S * found.calls / CALLS
        axis.plot(seconds, [found.by_second.get(second, 0) for second in seconds], linewidth=0.8)
        axis.axhline(allowed, color="grey", linewidth=0.6, linestyle="--")
        back = 0.4 * CALLS / (ALLOWED_PER_S * LOAD)
        axis.axvspan(back, back + OUTAGE_S, color="tab:red", alpha=0.12)
        axis.set_title(found.way, loc="left", fontsize=10)
        axis.set_ylabel("requests/s")
    axes[-1].set_xlabel("seconds; the outage is red, the provider's quota is dashed")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def rows(all_found: list[Found]) -> list[tuple[str, ...]]:
    """For the table."""
    return [
        (
            found.way, f"{found.lost:,}", f"{found.requests / found.calls:.2f}", f"{found.limited + found.failed:,}",
            f"{found.limited:,}", f"{found.peak_after_outage:.2f}", f"{found.ended_s:,.0f}",
        )
        for found in all_found
    ]  # fmt: skip


def main() -> None:
    """Simulate, print, plot and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--plot", type=Path, default=PLOT)
    arguments = parser.parse_args()
    all_found = []
    for way in WAYS:
        all_found.append(Simulation(way, arguments.calls, seed=1).run())
        Console(stderr=True).print(rows(all_found[-1:])[0])
    Console().print(terminal(HEADINGS, rows(all_found)))
    plot(all_found, arguments.plot)
    save(REPORT, [asdict(replace(found, by_second={})) for found in all_found])


if __name__ == "__main__":
    main()
