"""The Temporal server goes away while answers arrive: killed and started again on its file, or hanging."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.service import RPCError, RPCStatusCode

from benchmarks.outage import Found, Outage, play
from durable_llm.client.connection import until_answered

AWAY_S = 13.0
"""Longer than the ten seconds after which Temporal's SDK drops a completion, and a client's RPC."""

ANSWERS = 6


@pytest.fixture(scope="module")
async def found(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Found]]:
    """What came of three outages at the same time, each with a server, a worker and a provider of its own."""
    outages = {
        "killed": Outage(kind="killed", away_s=AWAY_S, answers=ANSWERS),
        "stopped": Outage(kind="stopped", away_s=AWAY_S, answers=ANSWERS),
        "long": Outage(kind="killed", away_s=AWAY_S, answers=ANSWERS, heartbeat_timeout_s=3.0),
    }
    folder = tmp_path_factory.mktemp("servers")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("TEMPORAL_ADDRESS", raising=False)
        ends = await asyncio.gather(*(play(outage, folder / f"{name}.db") for name, outage in outages.items()))
        yield dict(zip(outages, ends, strict=True))


@pytest.mark.parametrize("kind", ["killed", "stopped"])
def test_answers_that_arrive_while_the_server_is_away_are_held(found: dict[str, Found], kind: str) -> None:
    """All are delivered when it is back: one request for each call, and no outcome unknown."""
    assert (found[kind].answered, found[kind].requests, found[kind].unknown) == (ANSWERS, ANSWERS, 0)


@pytest.mark.parametrize("kind", ["killed", "stopped", "long"])
def test_a_caller_waits_for_the_server_as_long_as_it_wants(found: dict[str, Found], kind: str) -> None:
    """Who sets no limit is served when the server is back; who would wait a second is told after a second."""
    assert found[kind].submitted_meanwhile
    assert 0.9 < found[kind].submit_gave_up_s < 2.5
    assert found[kind].status_gave_up_s < 3


def test_an_outage_longer_than_the_heartbeat_timeout_is_an_outcome_unknown(found: dict[str, Found]) -> None:
    """The server cannot tell a lost worker from its own absence: asked again, and the ledger says so."""
    assert found["long"].answered == ANSWERS
    assert found["long"].unknown >= 1
    assert found["long"].requests == ANSWERS + found["long"].unknown


@pytest.mark.parametrize(
    "status", [RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNAVAILABLE]
)
async def test_an_rpc_without_an_answer_is_asked_again(status: RPCStatusCode) -> None:
    """However the SDK calls it; a refusal is raised."""
    ends = [RPCError("Timeout expired", status, b""), None, RPCError("no", RPCStatusCode.PERMISSION_DENIED, b"")]

    async def ask() -> str:
        if (end := ends.pop(0)) is not None:
            raise end
        return "answered"

    assert await until_answered(ask) == "answered"
    with pytest.raises(RPCError, match="no"):
        await until_answered(ask)
