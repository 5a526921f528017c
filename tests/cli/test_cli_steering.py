"""The commands that steer calls: one call, many, and a look before it is done."""

import asyncio

from durable_llm import LLMConfig, ModelSpec, Policy
from durable_llm.cli.exits import Exit
from tests.conftest import SetStage, Stage
from tests.support.calls import until_attempted, until_parked, until_waiting
from tests.support.cli import Ended, at, run
from tests.support.scripted import answer, fresh_id, http_error, never

PAIR = LLMConfig(models=[ModelSpec(name="openai/a"), ModelSpec(name="openai/b")])
ASKED_TO_WAIT = http_error(429, retry_after_s=50.0)
WHY = ("--why", "openai is down", "--by", "ann")


async def waiting_calls(stage: Stage, session: str, count: int) -> list[str]:
    """Calls that wait after their first attempt."""
    handles = [await stage.dispatcher.submit(PAIR, f"Hi {n}.", session=session) for n in range(count)]
    for handle in handles:
        await until_waiting(handle)
    return [handle.call_id for handle in handles]


async def found(stage: Stage, count: int, *words: str) -> Ended:
    """A dry run once Temporal's list, which is a moment late, has that many calls."""
    while True:
        ended = await run(*words, "--json", **at(stage))
        assert ended.status == Exit.OK, ended
        if len(ended.json["calls"]) == count:
            return ended


async def test_many_calls_are_shown_first_and_steered_with_yes(on_server: SetStage) -> None:
    """A dry run sends nothing; --yes acts on each call that still is as the filters say."""
    session = fresh_id()
    async with on_server(ASKED_TO_WAIT, ASKED_TO_WAIT, never, answer()) as stage:
        waiting = await waiting_calls(stage, session, 2)
        busy = await stage.dispatcher.submit(PAIR, "Hi.", session=session)
        await until_attempted(stage.provider, 3)
        filters = ("skip", "--session", session, "--outcome", "waiting", "--model", "openai/a", *WHY)
        shown = await found(stage, 2, *filters)
        table = await run(*filters, **at(stage))
        assert [(await stage.dispatcher.attach(call_id).status()).waits for call_id in waiting] == [True, True]
        done = await run(*filters, "--yes", "--json", **at(stage))
        results = [await stage.dispatcher.attach(call_id).result() for call_id in waiting]
        assert not (await busy.status()).interventions
        await busy.cancel()
    assert ({call["call_id"] for call in shown.json["calls"]}, shown.json["done"]) == (set(waiting), [])
    assert "skip: 2 calls; nothing was done, --yes does it" in table.out
    assert (sorted(done.json["done"]), done.json["refused"]) == (sorted(waiting), {})
    assert [result.attempts[1].model for result in results] == ["openai/b", "openai/b"]
    assert {(told.by, told.why) for result in results for told in result.interventions} == {("ann", "openai is down")}


async def test_calls_that_refuse_are_named_and_the_others_done(on_server: SetStage) -> None:
    """1, and each refusal says why; of a single call the refusal is the error."""
    async with on_server(never) as stage:
        first = await stage.dispatcher.submit(PAIR, "Hi.")
        second = await stage.dispatcher.submit(PAIR, "Hello.")
        await until_attempted(stage.provider, 2)
        await first.pause(why="before")
        absent = fresh_id()
        both = await run("pause", first.call_id, second.call_id, absent, *WHY, "--json", **at(stage))
        words = await run("pause", first.call_id, second.call_id, *WHY, **at(stage))
        one = await run("pause", first.call_id, *WHY, "--json", **at(stage))
        for handle in (first, second):
            await handle.cancel()
    assert (both.status, both.json["done"]) == (Exit.FAILED, [second.call_id])
    assert "paused already" in both.json["refused"][first.call_id]
    assert "there is no call" in both.json["refused"][absent]
    assert words.status == Exit.FAILED
    assert "pause: 0 of 2 calls" in words.out
    assert (one.status, one.json["error"]["type"]) == (Exit.USAGE, "InvalidRequestError")


async def test_a_parked_call_is_listed_replaced_resumed_and_shown(on_server: SetStage) -> None:
    """An operator's night: find what is parked, give it another model, let it go on, read what was done."""
    session = fresh_id()
    policy = Policy(on_exhausted="park")
    async with on_server(http_error(401), answer("7")) as stage:
        handle = await stage.dispatcher.submit("openai/a", "Hi.", policy=policy, session=session)
        await until_parked(handle)
        await found(stage, 1, "list", "--outcome", "parked", "--session", session)
        head = await run("show", handle.call_id, **at(stage))
        replaced = await run("replace", handle.call_id, "--to", "openai/c", *WHY, **at(stage))
        resumed = await run("resume", handle.call_id, *WHY, **at(stage))
        result = await handle.result()
        shown = await run("show", handle.call_id, **at(stage))
    assert "parked" in head.out
    assert (replaced.out, resumed.out) == ("replace: 1 of 1 calls\n", "resume: 1 of 1 calls\n")
    assert [entry.model for entry in result.attempts] == ["openai/a", "openai/c"]
    assert "after attempt 1: replace by ann: openai is down" in shown.out


async def test_a_wait_is_ended_and_a_call_answered_from_the_command_line(on_server: SetStage) -> None:
    """`retry` and `end`."""
    async with on_server(ASKED_TO_WAIT, never) as stage:
        [call_id] = await waiting_calls(stage, fresh_id(), 1)
        retried = await run("retry", call_id, *WHY, **at(stage))
        await until_attempted(stage.provider, 2)
        ended = await run("end", call_id, "--answer", "7", *WHY, "--json", **at(stage))
        result = await stage.dispatcher.attach(call_id).result()
    assert (retried.status, ended.json) == (Exit.OK, {"call_id": call_id, "done": "end"})
    assert result.text == "7"


async def test_calls_get_more_time(on_server: SetStage) -> None:
    """A time from now or a moment; another notation is refused before anything is sent."""
    async with on_server(ASKED_TO_WAIT) as stage:
        [call_id] = await waiting_calls(stage, fresh_id(), 1)
        extended = await run("extend", call_id, "--deadline", "2d", *WHY, **at(stage))
        shorter = await run("extend", call_id, "--deadline", "1h", *WHY, **at(stage))
        unreadable = await run("extend", call_id, "--deadline", "tomorrow", *WHY, **at(stage))
        shown = await run("show", call_id, **at(stage))
        await stage.dispatcher.attach(call_id).cancel()
    assert (extended.status, extended.out) == (Exit.OK, "extend: 1 of 1 calls\n")
    assert shorter.status == Exit.USAGE
    assert "name a later moment" in shorter.err
    assert unreadable.status == Exit.USAGE
    assert "--deadline: expected a duration" in unreadable.err
    assert "after attempt 1: extend by ann: openai is down" in shown.out


async def test_calls_are_named_by_ids_or_by_filters(on_server: SetStage) -> None:
    """Neither would be every call, and both would be a riddle; a reason must be given."""
    async with on_server(answer()) as stage:
        neither, both, no_reason = await asyncio.gather(
            run("pause", *WHY, **at(stage)),
            run("pause", "some-id", "--session", "s", *WHY, **at(stage)),
            run("pause", "some-id", **at(stage)),
        )
    for ended in (neither, both):
        assert ended.status == Exit.USAGE
        assert "name calls by their ids or by filters, one of the two" in ended.err
    assert no_reason.status == Exit.USAGE
    assert "--why" in no_reason.err
