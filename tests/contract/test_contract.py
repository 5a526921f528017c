"""The messages: bounded, tolerant of other versions, and errors that survive pickling."""

import pickle
from datetime import UTC, datetime

import pytest

import durable_llm
from durable_llm import Attempt, DurableLLMError, LLMResult, Outcome, Usage
from durable_llm import errors as errors_module
from durable_llm.client.fingerprint import fingerprint
from durable_llm.client.prompt import to_prompt
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.ledger import ENTRY_BYTES, bounded, bounded_entries, clip
from workflows.policy.versions import CURRENT, VERSIONS


def failed(category: str) -> Attempt:
    return Attempt(number=1, model="m", spec_index=0, try_number=1, category=category)


@pytest.mark.parametrize("letter", ["x", "é", "漢", "🙂", '"', "\\", "\n", "\x01"])
def test_a_ledger_entry_is_at_most_one_kilobyte(letter: str) -> None:
    """An entry's JSON stays bounded and readable whatever the provider writes."""
    long = letter * 5000
    entry = Attempt(
        number=1000, model=long, spec_index=49, try_number=1000, started_at=datetime.now(UTC), duration_s=1234.5678,
        outcome=Outcome.FAILED, category="context_window", http_status=500, error_code=long, message=long,
        decision="retry", rule=long, delay_s=1234.567, delay_reason=long, request_id=long, response_id=long,
        usage=Usage(prompt_tokens=123456, completion_tokens=123456, cache_read_tokens=123456), cost=0.123456789,
    )  # fmt: skip
    size = len(bounded(entry).model_dump_json().encode())
    assert size <= ENTRY_BYTES
    assert bounded(entry).number == 1000


def test_a_short_entry_is_left_alone() -> None:
    """Bounding does not change an entry without long texts."""
    entry = Attempt(number=1, model="openai/gpt-4o", spec_index=0, try_number=1, message="429 slow down")
    assert bounded(entry) == entry


def test_a_ledger_shows_the_first_twenty_and_the_last_hundred_and_eighty() -> None:
    """A call of a thousand attempts has a result that Temporal stores."""
    entries = [Attempt(number=n, model="m", spec_index=0, try_number=1) for n in range(1, 1001)]
    numbers = [entry.number for entry in bounded_entries(entries)]
    assert numbers == [*range(1, 21), *range(821, 1001)]
    assert bounded_entries(entries[:200]) == entries[:200]


@pytest.mark.parametrize(("text", "size", "clipped"), [("abc", 3, "abc"), ("abcdef", 5, "ab…"), ("ééé", 5, "é…")])
def test_clipping_never_splits_a_character(text: str, size: int, clipped: str) -> None:
    """The size is in bytes, and a character is kept whole or dropped."""
    assert clip(text, size) == clipped


ERRORS = [
    value for value in vars(errors_module).values() if isinstance(value, type) and issubclass(value, DurableLLMError)
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling_with_its_ledger(kind: type[DurableLLMError]) -> None:
    """A job's process pool sees the same error as the job."""
    entry = Attempt(number=1, model="m", spec_index=0, try_number=1)
    error = kind("what happened", call_id="c", attempts=[entry])
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(twin) is kind
    assert (str(twin), twin.call_id, twin.attempts) == ("what happened", "c", [entry])


def test_every_public_error_is_in_the_tree_and_exported() -> None:
    """One tree: `except DurableLLMError` catches all, and all can be imported by name."""
    public = {kind.__name__ for kind in ERRORS if not kind.__name__.startswith("_")}
    assert public <= set(durable_llm.__all__)


def test_a_stored_result_of_another_version_decodes() -> None:
    """Unknown fields are ignored, and missing ones have defaults."""
    stored = '{"schema_version": 7, "choices": [{"text": "hi", "mood": "good"}], "attempts": [], "novelty": {"a": 1}}'
    assert LLMResult.model_validate_json(stored).text == "hi"
    assert LLMResult.model_validate_json("{}").text is None


def test_words_of_another_version_stay_words() -> None:
    """A category, outcome or fault that this version does not know is read as text."""
    entry = Attempt.model_validate_json(
        '{"number": 1, "model": "m", "spec_index": 0, "try_number": 1, "category": "novel", "decision": "ponder"}'
    )
    assert (entry.category, entry.decision) == ("novel", "ponder")
    facts = FailureFacts.model_validate_json(
        '{"http_status": 401, "local_fault": "brand_new", "request_sent": "maybe"}'
    )
    assert VERSIONS[CURRENT].classify(facts).category == "auth"


def test_a_headline_is_what_an_operator_reads() -> None:
    """Status, code and words on one line; the local fault if there was no response."""
    facts = FailureFacts(http_status=429, error_code="rate_limit_exceeded", text="slow\n down")
    assert facts.headline() == "429 rate_limit_exceeded: slow down"
    assert FailureFacts(local_fault="missing_key", text="set X").headline() == "missing_key: set X"


def test_a_fingerprint_is_of_what_was_written() -> None:
    """A default that is written out, or that a later version adds, makes no difference."""
    prompt = to_prompt("Name a prime.")
    bare = fingerprint(durable_llm.LLMConfig(models=[durable_llm.ModelSpec(name="m")]), prompt)
    spelt = durable_llm.ModelSpec(name="m", api_base=None, responses_api=False, timeout=600.0)
    assert fingerprint(durable_llm.LLMConfig(models=[spelt]), prompt) == bare


def test_a_fingerprint_tells_how_a_model_is_asked() -> None:
    """Another API or background mode is another request; writing out the defaults is not."""
    prompt = to_prompt("Name a prime.")

    def models(**spec: bool) -> str:
        config = durable_llm.LLMConfig(models=[durable_llm.ModelSpec(name="m", **spec)])
        return fingerprint(config, prompt)["models"]

    assert models(responses_api=False, background=False) == models()
    assert len({models(), models(responses_api=True), models(responses_api=True, background=True)}) == 3


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (errors_module.InvalidRequestError("x"), False),
        (errors_module.RequestRejectedError("x"), False),
        (errors_module.CallConflictError("x"), False),
        (errors_module.DispatcherUnavailableError("x"), True),
        (errors_module.ResultNotReadyError("x"), True),
        (errors_module.DeadlineExceededError("x"), True),
        (errors_module.CallCancelledError("x"), True),
        (errors_module.CallTerminatedError("x"), True),
        (errors_module.AllModelsExhaustedError("x", attempts=[failed("auth"), failed("overloaded")]), True),
        (errors_module.AllModelsExhaustedError("x", attempts=[failed("auth"), failed("not_found")]), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_tells_whether_the_same_may_succeed_later(error: DurableLLMError, retryable: bool) -> None:
    """What is wrong with the request stays wrong; a busy provider, a deadline and a cancellation pass."""
    assert error.retryable is retryable
