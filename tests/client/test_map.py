"""Many calls at once: results as they end or in order, errors apart, bounded, resumable by ids."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import timedelta

import pytest

from durable_llm import (
    AllModelsExhaustedError,
    Dispatcher,
    DispatcherUnavailableError,
    InvalidRequestError,
    LLMConfig,
    MapResult,
    ModelSpec,
    Policy,
)
from durable_llm.client.many import at_once, with_bar
from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.result import Answer
from tests.conftest import SetStage
from tests.support.scripted import answer, fresh_id, http_error, never

MODEL = "openai/gpt-4o-mini"
QUICK = Policy(patience=timedelta(0))
ONE_TRY = LLMConfig(models=[ModelSpec(name=MODEL, max_retries=0)])


async def test_each_prompt_has_its_result(on_server: SetStage) -> None:
    """All of them, each with its place; a second run with the same ids asks nothing."""
    prompts = [f"Prompt {number}" for number in range(30)]
    ids = [f"{fresh_id()}/{number}" for number in range(30)]
    async with on_server(answer("yes")) as stage:
        for _ in range(2):
            found = [each async for each in stage.dispatcher.map(MODEL, prompts, ids=ids)]
            assert sorted(each.index for each in found) == list(range(30))
            assert {each.result.text for each in found if each.result} == {"yes"}
    assert len(stage.provider.orders) == 30
    asked = [prompt.messages[0]["content"] for prompt in stage.provider.prompts]
    assert sorted(asked) == sorted(prompts)


async def test_a_failed_call_is_a_result(on_server: SetStage) -> None:
    """It does not end the others; what is wrong with one prompt is that one's error."""
    async with on_server(http_error(401, text="no such key"), answer("yes")) as stage:
        found = [
            each
            async for each in stage.dispatcher.map(
                ONE_TRY, ["fails", "", "works"], ordered=True, concurrency=1, policy=QUICK
            )
        ]
    assert isinstance(found[0].error, AllModelsExhaustedError)
    assert isinstance(found[1].error, InvalidRequestError)
    assert found[2] == MapResult(index=2, result=found[2].result)
    assert found[2].result is not None


async def test_results_come_in_order_where_that_is_asked(on_server: SetStage) -> None:
    """The first prompt's answer comes last, and is given out first."""
    others = asyncio.Event()

    async def slow_first(order: AttemptOrder) -> Answer:
        if not stage.provider.orders[1:]:
            await others.wait()
            return answer("first")
        if len(stage.provider.orders) == 3:
            others.set()
        return answer("other")

    async with on_server(slow_first) as stage:
        found = [each async for each in stage.dispatcher.map(MODEL, ["A", "B", "C"], ordered=True)]
    texts = [(each.index, each.result.text if each.result else None) for each in found]
    assert [index for index, _ in texts] == [0, 1, 2]
    assert sorted(text or "" for _, text in texts) == ["first", "other", "other"]


async def test_who_leaves_early_leaves_nothing_running_without_ids(on_server: SetStage) -> None:
    """Calls that nobody can attach to are cancelled with their reader; with ids they go on."""
    async with on_server(answer("quick"), never) as stage:
        for ids in (None, [f"{fresh_id()}/{number}" for number in range(3)]):
            before = len(stage.provider.orders)
            mapped = stage.dispatcher.map(MODEL, ["A", "B", "C"], ids=ids, session=(session := fresh_id()))
            reading = asyncio.ensure_future(anext(mapped))
            while len(stage.provider.orders) < before + 3:
                await asyncio.sleep(0.02)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await mapped.aclose()
            while len(rows := await stage.dispatcher.find(f"LLMSession = '{session}'")) < 3:
                await asyncio.sleep(0.05)  # Temporal lists a call a moment after it
            if ids is None:
                while any(row.outcome == "running" for row in rows):
                    await asyncio.sleep(0.05)
                    rows = await stage.dispatcher.find(f"LLMSession = '{session}'")
            else:
                assert sum(row.outcome == "running" for row in rows) == 3
                for row in rows:
                    await stage.dispatcher.attach(row.call_id).cancel()


@pytest.mark.parametrize(("ids", "says"), [(["a"], "1 ids and 2 prompts"), (iter(["a"]), "1 ids and more prompts")])
async def test_ids_and_prompts_must_be_as_many(on_server: SetStage, ids: object, says: str) -> None:
    """Else a prompt would silently have none."""
    async with on_server(answer()) as stage:
        with pytest.raises(InvalidRequestError, match=says):
            [each async for each in stage.dispatcher.map(MODEL, ["A", "B"], ids=ids)]


async def test_a_concurrency_that_is_none_is_refused(on_server: SetStage) -> None:
    """A count above zero."""
    async with on_server(answer()) as stage:
        for wrong in (0, -1, 1.5, True):
            with pytest.raises(InvalidRequestError, match="concurrency"):
                stage.dispatcher.map(MODEL, ["A"], concurrency=wrong)


async def test_what_ends_every_call_ends_the_map() -> None:
    """A server that refuses everything is one error, not one for each prompt."""
    made = 0

    async def unavailable(item: int) -> int:
        nonlocal made
        made += 1
        raise DispatcherUnavailableError("Temporal is away")

    with pytest.raises(DispatcherUnavailableError):
        [each async for each in at_once(unavailable, range(1000), concurrency=3)]
    assert made <= 3


@pytest.mark.parametrize("ordered", [True, False])
async def test_no_more_are_read_than_can_be_in_flight(ordered: bool) -> None:
    """A generator of millions is read as results are taken, and never more than `concurrency` ahead."""
    read = taken = 0
    furthest = 0

    def items() -> Iterator[int]:
        nonlocal read, furthest
        for number in range(500):
            read += 1
            furthest = max(furthest, read - taken)
            yield number

    async def make(item: int) -> int:
        await asyncio.sleep(0)
        return item

    found = []
    async for each in at_once(make, items(), concurrency=7, ordered=ordered):
        found.append(each)
        taken += 1
    assert sorted(found) == list(range(500))
    assert not ordered or found == sorted(found)
    assert furthest <= 8  # the one that has just been taken is still held by the reader


async def test_prompts_may_trickle_in() -> None:
    """Results are given out while the next item has not come."""
    more = asyncio.Event()

    async def items() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    async def make(item: int) -> int:
        return item

    async with aclosing(at_once(make, items(), concurrency=5)) as each:
        assert await anext(each) == 1
        more.set()
        assert [item async for item in each] == [2]


async def test_a_bar_counts_answers_and_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, and it changes nothing of what is given out."""

    async def make(item: int) -> int:
        return item

    ended = at_once(make, range(5), concurrency=2, ordered=True)
    found = [each async for each in with_bar(ended, 5, failed=lambda each: each == 3)]
    shown = capsys.readouterr()
    assert found == [0, 1, 2, 3, 4]
    assert "5/5" in shown.err
    assert "1 failed" in shown.err
    assert not shown.out


async def test_a_map_with_a_bar_gives_the_same(on_server: SetStage, capsys: pytest.CaptureFixture[str]) -> None:
    """`progress` only shows."""
    async with on_server(answer("yes")) as stage:
        dispatcher: Dispatcher = stage.dispatcher
        found = [each async for each in dispatcher.map(MODEL, ["A", "B"], progress=True)]
    assert len(found) == 2
    assert "2/2" in capsys.readouterr().err
