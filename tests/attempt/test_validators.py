"""Validators: which answers they let through, what a rejection and a broken one lead to, and how a worker gets them."""

import asyncio
import json
import sys
import time
from datetime import timedelta
from itertools import pairwise
from types import ModuleType

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.faults import LocalFaultError
from activities.validation.registry import PluginError, Registry
from durable_llm import (
    BrokenValidatorError,
    CallConflictError,
    CallOutcome,
    LLMConfig,
    LLMResult,
    ModelSpec,
    Policy,
    UnsupportedRequestError,
    Validator,
)
from durable_llm.client.fingerprint import fingerprint
from durable_llm.client.prompt import to_prompt
from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault, Sent
from durable_llm.contract.ledger import Attempt, bounded_entries
from durable_llm.contract.names import SCHEMA_VERSION
from durable_llm.contract.request import CallRequest, needed_version
from durable_llm.contract.result import Answer
from durable_llm.contract.validation import Candidate, Rejected, ValidatorOnWire, registration_of, validator
from tests.conftest import SetStage
from tests.support import plugin_checks
from tests.support.attempts import TOOLS, attempt, environment, order, says
from tests.support.calls import completion, in_turn
from tests.support.scripted import answer
from tests.support.wire import playing
from tests.support.workers import working

OPENAI = "openai/gpt-4o-mini"
QUICK = Policy(backoff_initial=0.01)
REGISTRY = Registry([plugin_checks])


def wanted(name: str, **parameters) -> ValidatorOnWire:
    """A validator as it travels."""
    return ValidatorOnWire(name=name, parameters=parameters)


async def checked(text: str, *validators: ValidatorOnWire, body: dict | None = None, timeout_s: float = 20, **prompt):
    """What an attempt makes of a text under validators."""
    async with playing({"body": body or completion(text)}) as wire:
        try:
            return await attempt(
                order(OPENAI, wire.url, timeout_s=timeout_s),
                says(validators=validators, **prompt),
                registry=REGISTRY,
                validator_timeout=timedelta(seconds=0.5),
            )
        except ApplicationError as error:
            return error.details[0]


SCHEMA = {"type": "object", "required": ["prime"]}
PASSES = [
    ("7", wanted("non_empty")),
    ("the answer is 7", wanted("regex", pattern=r"\d+")),
    ("7\n", wanted("regex", pattern=r"\d+\s*", full=True)),
    ('```json\n{"prime": 7}\n```', wanted("json_schema", schema=SCHEMA)),
    ("seven", wanted("max_length", characters=5)),
    ("7", wanted("prime")),
    ("7", wanted("asserts", word="7")),
]


@pytest.mark.parametrize(("text", "check"), PASSES)
async def test_an_answer_that_passes_is_the_answer(text, check):
    """The shipped ones and a plugin's, plain and async, with their parameters; the text stays as it is."""
    assert (await checked(text, check)).choices[0].text == text


REJECTED = [
    ("seven", wanted("regex", pattern=r"\d+"), r"validator 'regex': the text does not match '\\d+'"),
    ("7 of 9", wanted("regex", pattern=r"\d+", full=True), r"validator 'regex': the text does not match '\\d+'"),
    ("seven", wanted("json_schema", schema=SCHEMA), "validator 'json_schema': the text is not JSON"),
    ("{}", wanted("json_schema", schema=SCHEMA), "validator 'json_schema': $: 'prime' is a required property"),
    (
        "seven!",
        wanted("max_length", characters=5),
        "validator 'max_length': the text has 6 characters and the limit is 5",
    ),
    ("9", wanted("prime"), "validator 'prime': 9 is no prime above 1"),
    ("7", wanted("prime", above=10), "validator 'prime': 7 is no prime above 10"),
    ("seven", wanted("prime"), "validator 'prime': invalid literal for int() with base 10: 'seven'"),
    ("9", wanted("asserts", word="7"), "validator 'asserts': '7' is missing"),
]


@pytest.mark.parametrize(("text", "check", "reason"), REJECTED)
async def test_a_rejection_is_a_bad_sample_with_its_reason(text, check, reason):
    """Rejected, ValueError and AssertionError reject; name and reason are kept, and what the answer cost."""
    facts = await checked(text, check)

    assert (facts.answer_defect, facts.text) == (AnswerDefect.REJECTED, reason)
    assert (facts.cost > 0, facts.usage.prompt_tokens, facts.billed) == (True, 12, facts.cost)


async def test_a_tool_call_alone_has_no_text():
    """`non_empty` wants words, which a call of a tool has not."""
    facts = await checked("", wanted("non_empty"), body=completion(None, ("get_weather", "{}")), tools=TOOLS)
    assert facts.text == "validator 'non_empty': there is no text"


async def test_validators_are_asked_in_order_and_the_first_rejection_counts():
    """All must pass."""
    facts = await checked("9", wanted("non_empty"), wanted("prime"), wanted("asserts", word="7"))
    assert facts.text.startswith("validator 'prime'")


async def test_a_validator_sees_the_answer_and_its_prompt():
    """Text, decoded JSON, model, finish reason, messages."""
    answer = await checked('{"prime": 7}', wanted("sees_all"), response_format={"type": "json_object"})
    assert answer.structured


async def test_of_several_choices_those_that_pass_are_kept():
    """The rejected ones are dropped; all rejected is a rejection."""
    body = completion("9")
    body["choices"].append({**body["choices"][0], "index": 1, "message": {"role": "assistant", "content": "7"}})
    answer = await checked("", wanted("prime"), body=body)
    facts = await checked("", wanted("prime", above=10), body=body)
    assert [choice.text for choice in answer.choices] == ["7"]
    assert facts.text == "validator 'prime': 9 is no prime above 10"


async def test_a_reason_is_short_and_repeats_no_prompt():
    """What a validator says goes to the history: it is cut, and the prompt is taken out."""
    text = "Confidential: the launch is on the third of May at dawn."
    async with playing({"body": completion("7")}) as wire:
        with pytest.raises(ApplicationError) as caught:
            await attempt(order(OPENAI, wire.url), says(text, validators=[wanted("echoes")]), registry=REGISTRY)
    facts = caught.value.details[0]
    assert facts.text.startswith("validator 'echoes': [prompt] -> 7 xxx")
    assert len(facts.text) < 500


BROKEN = [
    (wanted("broken"), "validator 'broken' raised KeyError: 'section'"),
    (wanted("leaves"), "validator 'leaves' raised SystemExit: 3"),
    (wanted("says_false"), "validator 'says_false' returned False; to reject, it raises Rejected"),
    (wanted("forgets_async"), "validator 'forgets_async' returned a coroutine; write it as 'async def'"),
    (wanted("sleeps"), "validator 'sleeps' did not end within 0.5 s"),
    (wanted("waits"), "validator 'waits' did not end within 0.5 s"),
]


@pytest.mark.filterwarnings("ignore:coroutine 'asserts' was never awaited")
@pytest.mark.parametrize(("check", "text"), BROKEN, ids=[check.name for check, _ in BROKEN])
async def test_a_validator_that_fails_is_broken_and_the_answer_is_kept(check, text):
    """Any other exception, a slip, and one that never ends, plain or async."""
    facts = await checked("7", check)

    assert (facts.local_fault, facts.text) == (LocalFault.BROKEN_VALIDATOR, text)
    assert (facts.answer.choices[0].text, facts.billed) == ("7", facts.answer.cost)


async def test_an_answer_that_came_in_time_is_checked_in_its_own_time():
    """The attempt's timeout is the provider's: an answer is not thrown away because judging it takes long."""
    began = time.monotonic()
    answer = await checked("7", wanted("blocks", seconds=0.3), wanted("blocks", seconds=0.3), timeout_s=0.4)
    assert answer.choices[0].text == "7"
    assert time.monotonic() - began > 0.6


@pytest.mark.parametrize("check", [wanted("sleeps"), wanted("blocks", seconds=30)], ids=["plain", "async"])
async def test_no_validator_stops_the_heartbeats(check):
    """Code that blocks does so in a process of its own, the async kind too."""
    beats: list[float] = []
    env = environment()
    env.on_heartbeat = lambda *_: beats.append(time.monotonic())
    async with playing({"body": completion("7")}) as wire:
        options = {
            "registry": REGISTRY,
            "validator_timeout": timedelta(seconds=0.5),
            "heartbeat_interval": timedelta(seconds=0.02),
        }
        with pytest.raises(ApplicationError, match="did not end"):
            await attempt(order(OPENAI, wire.url), says(validators=[check]), env=env, **options)
    assert max(later - earlier for earlier, later in pairwise(beats)) < 0.4
    assert len(beats) > 5


async def test_a_cancelled_attempt_leaves_its_validator():
    """A cancelled call does not wait for somebody's code."""
    async with playing({"body": completion("7")}) as wire:
        running = asyncio.create_task(
            attempt(order(OPENAI, wire.url), says(validators=[wanted("waits")]), registry=REGISTRY)
        )
        await wire.asked.wait()
        await asyncio.sleep(0.2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 2)


UNUSABLE = [
    (wanted("nonesuch"), "no validator 'nonesuch'; it has asserts, blocks, broken"),
    (wanted("regex"), "validator 'regex' cannot be used: missing a required"),
    (wanted("regex", pattern="x", flags=2), "got an unexpected keyword argument 'flags'"),
    (wanted("regex", pattern="("), "validator 'regex' cannot be used: check: pattern: missing )"),
    (wanted("max_length", characters=0), "characters: expected a number from 1"),
    (wanted("json_schema", schema={"type": 5}), "validator 'json_schema' cannot be used: check: $.type"),
    (wanted("prime", below=3), "got an unexpected keyword argument 'below'"),
]


CHECKS = [
    ("check_fails", "validator 'check_fails' cannot be used: check raised KeyError: 'section'"),
    ("check_sleeps", "validator 'check_sleeps' cannot be used: check did not end within 0.5 s"),
]


@pytest.mark.parametrize(("name", "reason"), CHECKS)
async def test_a_check_of_a_plugin_s_harms_nobody(name, reason):
    """It is somebody else's code: its failure is the validator's, and it holds up no heartbeat."""
    beats: list[float] = []
    env = environment()
    env.on_heartbeat = lambda *_: beats.append(time.monotonic())
    options = {"registry": REGISTRY, "validator_timeout": timedelta(seconds=0.5),
               "heartbeat_interval": timedelta(seconds=0.02)}  # fmt: skip
    async with playing({"body": completion("7")}) as wire:
        with pytest.raises(ApplicationError) as caught:
            await attempt(order(OPENAI, wire.url), says(validators=[wanted(name)]), env=env, **options)
    facts = caught.value.details[0]
    assert (facts.local_fault, facts.text) == (LocalFault.UNKNOWN_VALIDATOR, reason)
    assert not wire.requests
    assert all(later - earlier < 0.4 for earlier, later in pairwise(beats))


@pytest.mark.parametrize(("check", "reason"), UNUSABLE)
async def test_what_the_worker_cannot_run_is_said_before_anything_is_sent(check, reason):
    """An unknown name, with the names that are there, and parameters that do not fit."""
    async with playing({"body": completion("7")}) as wire:
        with pytest.raises(ApplicationError) as caught:
            await attempt(order(OPENAI, wire.url), says(validators=[check]), registry=REGISTRY)
    facts = caught.value.details[0]
    assert (facts.local_fault, facts.request_sent, facts.billed) == (LocalFault.UNKNOWN_VALIDATOR, Sent.NO, 0.0)
    assert reason in facts.text
    assert not wire.requests


def chain(*wires, **options) -> LLMConfig:
    """A model for each wire."""
    return LLMConfig(models=[ModelSpec(name=OPENAI, api_base=wire.url) for wire in wires], **options)


async def test_a_rejected_answer_is_sampled_again(server_env: WorkflowEnvironment) -> None:
    """The same model is asked again, the rejected answer is in the ledger with its cost."""
    bodies = [completion("8"), completion("9"), completion("11")]
    async with in_turn(*bodies) as wire, working(server_env.client, registry=REGISTRY) as dispatcher:
        result = await dispatcher.call(
            chain(wire, response_validator="non_empty"),
            "Name a prime.",
            validators=[
                Validator(name="prime", parameters={"above": 8}),
                {"name": "max_length", "parameters": {"characters": 9}},
            ],
            policy=QUICK,
        )
    assert result.text == "11"
    first, second, _ = result.attempts
    assert (first.category, first.rule, first.message) == (
        "bad_sample", "rejected", "200 rejected: validator 'prime': 8 is no prime above 8",
    )  # fmt: skip
    assert (first.cost, second.cost, result.cost_complete) == (result.cost, result.cost, True)
    assert result.total_cost == pytest.approx(3 * result.cost)


@pytest.mark.parametrize("policy", [
    Policy(), Policy(preset="lmi"), Policy(rules={"misconfigured": "retry"}), Policy(on_exhausted="wait"),
], ids=["default", "lmi", "rules", "wait"])  # fmt: skip
async def test_a_broken_validator_ends_the_call_with_the_paid_answer(server_env: WorkflowEnvironment, policy) -> None:
    """Nobody buys the answer again, from this model or another, whatever the policy; the error has it and its cost."""
    async with (
        in_turn(completion("7")) as first,
        in_turn(completion("8")) as second,
        working(server_env.client, registry=REGISTRY) as dispatcher,
    ):
        handle = await dispatcher.submit(chain(first, second), "Name a prime.", validators=["broken"], policy=policy)
        with pytest.raises(BrokenValidatorError) as caught:
            await handle.result()
        status = await handle.status()
    error = caught.value
    assert (len(first.requests), len(second.requests)) == (1, 0)
    assert isinstance(error.answer, LLMResult)
    assert (error.answer.text, error.answer.cost, error.answer.usage.prompt_tokens) == ("7", error.answer.cost, 12)
    assert error.answer.total_cost == error.answer.cost > 0
    [entry] = error.attempts
    assert error.answer.attempts == [entry]
    assert (entry.category, entry.rule, entry.decision) == ("misconfigured", "broken-validator", "fail")
    assert (entry.cost, entry.usage) == (error.answer.cost, error.answer.usage)
    assert "validator 'broken' raised KeyError: 'section'" in str(error)
    assert status.outcome == CallOutcome.REJECTED


async def test_the_largest_paid_answer_fits_the_error(server_env: WorkflowEnvironment) -> None:
    """An answer that is cut to be stored is cut in an error too, beside a ledger: never a stuck call."""
    large = completion('"' * 2_000_000)
    async with in_turn(large) as wire, working(server_env.client, registry=REGISTRY) as dispatcher:
        with pytest.raises(BrokenValidatorError) as caught:
            await dispatcher.call(chain(wire), "Name a prime.", validators=["broken"])
    assert caught.value.answer.truncated
    assert len(caught.value.answer.text) > 600_000


async def test_an_unknown_validator_is_no_stuck_call(server_env: WorkflowEnvironment) -> None:
    """The call ends at once, unbilled, and says what the worker has and where others come from."""
    async with in_turn(completion("7")) as wire, working(server_env.client) as dispatcher:
        with pytest.raises(
            UnsupportedRequestError, match=r"no validator 'prime'; it has json_schema.*DURABLE_LLM_PLUGINS"
        ) as caught:
            await dispatcher.call(chain(wire, wire), "Name a prime.", validators=["prime"])
    [entry] = caught.value.attempts
    assert (entry.category, entry.rule, entry.decision, entry.cost) == (
        "misconfigured",
        "unknown-validator",
        "fail",
        0.0,
    )
    assert not wire.requests


async def test_a_broken_tool_parser_is_told_likewise(server_env: WorkflowEnvironment) -> None:
    """A plugin's parser is run like its validators."""
    async with in_turn(completion("ROME")) as wire, working(server_env.client, registry=REGISTRY) as dispatcher:
        result = await dispatcher.call(chain(wire, tool_parser="shouted"), "Where?", tools=TOOLS)
        with pytest.raises(BrokenValidatorError, match="tool parser 'careless' returned something else") as caught:
            await dispatcher.call(chain(wire, tool_parser="careless"), "Where?", tools=TOOLS)
    assert result.tool_calls[0].function.parsed_arguments() == {"city": "ROME"}
    assert caught.value.answer.text == "ROME"


async def test_other_validators_under_an_id_are_another_request(server_env: WorkflowEnvironment) -> None:
    """They are part of the question; a request without any keeps the fingerprint that it always had."""
    async with in_turn(completion("7")) as wire, working(server_env.client, registry=REGISTRY) as dispatcher:
        request = (chain(wire), "Name a prime.")
        await dispatcher.call(*request, call_id="validated", validators=["prime"])
        await dispatcher.call(*request, call_id="validated", validators=[{"name": "prime"}])
        for other in ([], ["non_empty"], [{"name": "prime", "parameters": {"above": 2}}]):
            with pytest.raises(CallConflictError, match="parameters differ"):
                await dispatcher.call(*request, call_id="validated", validators=other)
    bare = LLMConfig(models=[ModelSpec(name="m")])
    assert fingerprint(bare, to_prompt("x"))["parameters"] == "bc148f2bccb693502a18cbf8f4bed692"


def test_a_request_says_the_version_that_it_needs() -> None:
    """An older worker refuses validators and parsers instead of ignoring them, and still runs everything else."""
    assert needed_version(to_prompt("x", tools=TOOLS, response_format={"type": "object"}), stored=False) == 1
    assert needed_version(to_prompt("x", validators=[Validator(name="prime")]), stored=False) == 2 <= SCHEMA_VERSION
    assert needed_version(to_prompt("x", tool_parser="json"), stored=False) == 2
    assert needed_version(to_prompt("x"), stored=True) == 2
    assert needed_version(to_prompt("x"), stored=False, background=True) == 2
    assert CallRequest.model_validate({"models": [{"name": "m"}]}).schema_version == 1


async def test_what_an_older_worker_would_ignore_it_refuses(on_server: SetStage) -> None:
    """A call with validators or in the background is submitted under the version that knows them, others under the first."""
    background = ModelSpec(name=OPENAI, responses_api=True, background=True)
    async with on_server(answer("7")) as stage:
        for model, validators, version in ((OPENAI, ["non_empty"], 2), (OPENAI, [], 1), (background, [], 2)):
            handle = await stage.dispatcher.submit(model, "Name a prime.", validators=validators)
            events = stage.client.get_workflow_handle(handle.call_id).fetch_history_events(page_size=1)
            started = (await anext(events)).workflow_execution_started_event_attributes
            assert json.loads(started.input.payloads[0].data)["schema_version"] == version


def test_a_decorated_function_stays_one():
    """A plugin's tests call it as it is."""
    plugin_checks.prime(Candidate(text="7"))
    with pytest.raises(Rejected, match="9 is no prime"):
        plugin_checks.prime(Candidate(text="9"))
    assert registration_of(plugin_checks.prime).name == "prime"
    assert registration_of(7) is None


def module(name: str, **functions) -> ModuleType:
    """A module as a plugin is one."""
    made = ModuleType(name)
    vars(made).update(functions)
    return made


def test_plugins_are_modules_that_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module brings its functions by name; an import of the same function elsewhere is no second one."""
    again = module("again", prime=plugin_checks.prime)
    monkeypatch.setitem(sys.modules, "again", again)
    registry = Registry.load(["tests.support.plugin_checks", "again"])
    assert registry.validator(wanted("prime", above=3)).function is plugin_checks.prime
    assert registry.tool_parser("shouted").function is plugin_checks.shouted


def test_plugins_are_entry_points_too(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """An installed distribution brings its validators by itself, as a module or as one function."""
    info = tmp_path / "acme_checks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-checks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[durable_llm.validators]\nacme = acme_checks\nshort = acme_checks_too:short\n"
    )
    head = "from durable_llm.contract.validation import Rejected, validator\n"
    (tmp_path / "acme_checks.py").write_text(f"{head}@validator('acme')\ndef acme(candidate): pass\n")
    (tmp_path / "acme_checks_too.py").write_text(
        f"{head}@validator('short')\ndef short(candidate): pass\n@validator('long')\ndef long(candidate): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.load()
    assert registry.validator(wanted("acme")).label == "validator 'acme'"
    assert registry.validator(wanted("short"))
    with pytest.raises(LocalFaultError, match="no validator 'long'"):
        registry.validator(wanted("long"))


def test_a_plugin_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that lacks what its operator named must not start as if nothing were wrong."""

    @validator("regex")
    def mine(candidate):
        """Takes the name of a shipped one."""

    monkeypatch.setitem(sys.modules, "empty_plugin", module("empty_plugin", other=7))
    monkeypatch.setitem(sys.modules, "greedy_plugin", module("greedy_plugin", mine=mine))
    with pytest.raises(PluginError, match=r"'no\.such\.module' cannot be loaded: ModuleNotFoundError"):
        Registry.load(["no.such.module"])
    with pytest.raises(PluginError, match="'empty_plugin' has no function"):
        Registry.load(["empty_plugin"])
    with pytest.raises(PluginError, match=r"two of validator 'regex': activities.*matches and .*mine"):
        Registry.load(["greedy_plugin"])
    with pytest.raises(PluginError, match="validator 'local' must be defined at the top of a module"):
        Registry([validator("local")(lambda _: None)])
    with pytest.raises(ValueError, match="letters, digits"):
        validator("two words")


def test_an_unchecked_answer_and_a_full_ledger_are_one_payload():
    """What the workflow puts into its error stays below what Temporal stores."""
    from activities.answer.truncate import truncate
    from durable_llm.contract.result import CallFailure

    answer = truncate(Answer.model_validate({"choices": [{"text": 'é"' * 900_000}]}))
    entries = [Attempt(number=n, model="m" * 100, spec_index=0, try_number=1, message="é" * 380) for n in range(1000)]
    failure = CallFailure(attempts=bounded_entries(entries), answer=answer)
    facts = FailureFacts(local_fault=LocalFault.BROKEN_VALIDATOR, text="x" * 2000, answer=answer)
    assert len(failure.model_dump_json().encode()) < 2_000_000
    assert len(facts.model_dump_json().encode()) < 2_000_000
    assert json.loads(failure.model_dump_json())["answer"]["truncated"]
