"""What a worker logs: no key, no prompt, no control character, one line for each message."""

import io
import json
import logging

import pytest
from temporalio.exceptions import ApplicationError

from activities.attempt import ProviderAttempts
from durable_llm import LLMConfig, ModelSpec, Policy
from tests.conftest import SetStage
from tests.support.attempts import ReachableServer, environment, order, ring, says
from tests.support.calls import until_parked, until_waiting
from tests.support.scripted import http_error
from tests.support.wire import playing
from workers.logs import CleanFormatter, JsonFormatter

KEY = "sk-canary-0123456789abcdefghijkl"
PROMPT = "The secret of the prompt is a long sentence."


def formatted(message: str, formatter: CleanFormatter | None = None) -> str:
    """The line that a handler writes."""
    record = logging.LogRecord("durable_llm", logging.WARNING, __file__, 1, message, None, None)
    return (formatter or CleanFormatter()).format(record)


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "a\rb", "bell\x07", "c1\x9b31m", "a\u2028b"])
def test_a_message_cannot_control_the_terminal(text: str) -> None:
    """An escape sequence is shown, not obeyed."""
    line = formatted(text)
    assert line.isprintable()
    assert "\\x" in line


def test_a_message_is_one_line() -> None:
    """A provider's text cannot look like another record."""
    assert formatted("bad\n2026-01-01 INFO durable_llm: all is well").count("\n") == 0


@pytest.mark.parametrize("spelling", [KEY, KEY.upper(), "sk%2Dcanary%2D0123456789abcdefghijkl"])
async def test_a_record_during_an_attempt_has_neither_key_nor_prompt(spelling: str) -> None:
    """Whoever logs: litellm, the SDK, or a validator."""
    attempts = ProviderAttempts(ring({"OPENAI_API_KEY": KEY}), server=ReachableServer())
    formatter, stream = CleanFormatter(), io.StringIO()
    formatter.clean = attempts.clean_log
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("durable_llm.activity")
    logger.addHandler(handler)
    body = {"error": {"message": "no"}}
    try:
        async with playing({"http_status": 400, "body": body}) as wire:
            with pytest.raises(ApplicationError):
                await environment().run(
                    _logging(attempts, logger, f"{spelling} and {PROMPT}"), order("openai/m", wire.url), says(PROMPT)
                )
    finally:
        logger.removeHandler(handler)
    assert "0123456789abcdefghijkl" not in stream.getvalue().lower()
    assert PROMPT not in stream.getvalue()
    assert "[key]" in stream.getvalue()


def _logging(attempts: ProviderAttempts, logger: logging.Logger, text: str):
    """The attempt, with a record logged at its end."""

    async def logged(one, prompt):
        try:
            return await attempts.provider_attempt(one, prompt)
        finally:
            logger.warning("%s", text)

    return logged


@pytest.mark.parametrize("name", ["LiteLLM", "openai", "httpx"])
def test_the_libraries_below_litellm_are_silent(name: str) -> None:
    """Their warnings quote what a provider sent."""
    import activities.litellm_setup  # noqa: F401  # sets the levels

    assert not logging.getLogger(name).isEnabledFor(logging.WARNING)


async def test_each_decision_and_each_intervention_is_one_record(
    on_server: SetStage, caplog: pytest.LogCaptureFixture
) -> None:
    """With the call's id, the attempt, the model, the category, the decision and the wait; louder if the call ends."""
    caplog.set_level(logging.INFO, "durable_llm.calls")
    chain = LLMConfig(models=[ModelSpec(name="openai/a", max_retries=1)])
    async with on_server(http_error(429, retry_after_s=30.0), http_error(401)) as stage:
        handle = await stage.dispatcher.submit(chain, "Hi.", policy=Policy(on_exhausted="park"))
        await until_waiting(handle)
        await handle.retry(by="ann", why="it is back")
        await until_parked(handle)
        await handle.cancel()
    logged = [record for record in caplog.records if record.name == "durable_llm.calls"]
    records = list({record.getMessage(): record for record in logged}.values())  # Temporal may repeat a workflow task
    first, told, last = (record.fields for record in records)
    assert {record.fields["call_id"] for record in records} == {handle.call_id}
    assert (first["attempt"], first["model"], first["category"]) == (1, "openai/a", "rate_limited")
    assert (first["decision"], first["delay_s"] >= 30) == ("retry", True)
    assert (told["intervention"], told["by"], told["why"]) == ("retry", "ann", "it is back")
    assert (last["category"], last["decision"], last["delay_s"]) == ("auth", "park", None)
    assert [record.levelname for record in records] == ["INFO", "INFO", "WARNING"]


def test_a_record_as_json_is_one_object_with_its_fields() -> None:
    """A line break, a key and a control character stay inside their string."""
    formatter = JsonFormatter()
    record = logging.LogRecord("durable_llm", logging.WARNING, __file__, 1, f"bad\n\x1b[2J {KEY}", None, None)
    record.fields = {"call_id": "one", "delay_s": 1.5, "why": KEY}
    line = formatter.format(record)
    assert line.isprintable()
    told = json.loads(line)
    assert (told["level"], told["call_id"], told["delay_s"]) == ("WARNING", "one", 1.5)
    assert "0123456789abcdefghijkl" not in line
