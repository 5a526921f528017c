"""The notations of the command line, without a server: durations, moments, pairs, chains, files, queries."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_llm import InvalidRequestError, LLMConfig, ModelSpec
from durable_llm.cli.call_options import SubmitOptions
from durable_llm.cli.exits import MEANING, Exit, exit_of
from durable_llm.cli.listing import Filters
from durable_llm.cli.model_options import ModelOptions
from durable_llm.cli.output import plain
from durable_llm.cli.parse import deadline, duration, json_or_text, pairs, read_config
from durable_llm.cli.program import _wants_json
from durable_llm.cli.prompt_options import PromptOptions
from durable_llm.client.listing import Ending
from durable_llm.client.new_call import to_config
from durable_llm.contract.categories import CallOutcome
from durable_llm.contract.ledger import usd
from durable_llm.errors import CALL_ENDINGS, DurableLLMError
from tests.support import ROOT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("90s", 90), ("15m", 900), ("24h", 86_400), ("2d", 172_800), ("1h30m", 5400), ("250ms", 0.25)],
)  # fmt: skip
def test_durations_are_read(text: str, seconds: float) -> None:
    """A number with its unit, several of them, or a bare number of seconds."""
    assert duration("--wait", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5s", "0", "0s", "5 s", "1e3", "s", "9" * 30 + "d", "9" * 400, "५m"])
def test_other_durations_are_refused_by_the_options_name(text: str) -> None:
    """The option is named; what was written is not repeated."""
    with pytest.raises(InvalidRequestError, match="--wait: ") as caught:
        duration("--wait", text)
    assert not text or text not in caught.value.message or len(text) < 3


def test_a_deadline_is_a_duration_or_a_moment_with_its_zone() -> None:
    """Moments are ISO 8601; one without a zone would mean something else on every machine."""
    assert deadline("--deadline", "30m") == timedelta(minutes=30)
    assert deadline("--deadline", "2030-01-31T12:00Z") == datetime(2030, 1, 31, 12, tzinfo=UTC)
    for text in ("2030-01-31T12:00", "2030-13-31", "tomorrow-noon"):
        with pytest.raises(InvalidRequestError, match=r"--deadline: .*2030-01-31T12:00Z"):
            deadline("--deadline", text)


def test_pairs_hold_json_or_text() -> None:
    """What parses as JSON is JSON; NaN is none; a pair needs a key and an equals sign."""
    assert pairs("--param", ["a=1", "b=x=y", "c=", "a=2"]) == {"a": "2", "b": "x=y", "c": ""}
    read = {text: json_or_text(text) for text in ("1", "0.2", "true", '["a"]', "high", "NaN", "[" * 20_000)}
    assert [read["1"], read["0.2"], read["true"], read['["a"]'], read["high"]] == [1, 0.2, True, ["a"], "high"]
    assert read["NaN"] == "NaN"
    for text in ("novalue", "=1"):
        with pytest.raises(InvalidRequestError, match="--param: expected key=value"):
            pairs("--param", [text])


def test_a_chain_of_names_is_what_a_caller_in_python_would_write() -> None:
    """-m brings no defaults of lmi's, so that the command line and a program attach to each other's calls."""
    chain = ModelOptions(model=["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"]).to_config()
    assert chain == LLMConfig(
        models=[ModelSpec(name="openai/gpt-4o-mini"), ModelSpec(name="anthropic/claude-haiku-4-5")]
    )
    assert chain.models[0].model_fields_set == {"name"}


def test_options_hold_for_every_model_of_the_chain(tmp_path: Path) -> None:
    """They go over what a configuration file says, and leave its other fields alone."""
    path = tmp_path / "chain.json"
    path.write_text(json.dumps({"models": [{"name": "a/one", "max_retries": 7, "seed": 1}, {"name": "b/two"}]}))
    chain = ModelOptions(config=path, timeout="2m", api_key="os.environ/KEY", param=["temperature=0.5"]).to_config()
    assert [(spec.name, spec.timeout, spec.api_key) for spec in chain.models] == [
        ("a/one", 120.0, "os.environ/KEY"),
        ("b/two", 120.0, "os.environ/KEY"),
    ]
    assert chain.models[0].max_retries == 7
    assert chain.models[0].extra_params == {"temperature": 0.5, "seed": 1}


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    """YAML, TOML and JSON lead to one configuration."""
    texts = {
        "chain.yaml": "models:\n  - name: a/one\n    max_retries: 2\n    temperature: 0.5\n  - b/two\n",
        "chain.toml": 'models = [{name = "a/one", max_retries = 2, temperature = 0.5}, "b/two"]\n',
        "chain.json": '{"models": [{"name": "a/one", "max_retries": 2, "temperature": 0.5}, "b/two"]}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    configs = [to_config(read_config("--config", tmp_path / name)) for name in texts]
    assert configs[0] == configs[1] == configs[2]
    assert [spec.name for spec in configs[0].models] == ["a/one", "b/two"]


KEY = "sk-proj-4f9Qw7Zx2Lk8Tn3Vb6Rm1Yc5"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", f"models: [\n  api_key: {KEY}: {{"),
        ("c.yaml", f"models: \x01{KEY}"),
        ("c.yaml", f"models: !!python/object:os.system {KEY}"),
        ("c.toml", f"api_key = {KEY}"),
        ("c.json", f'{{"api_key": {KEY}'),
        ("c.json", f'{{"name": "a/one", "api_key": "{KEY}"}}'),
        ("c.json", "[" * 20_000),
        ("c.json", f'["{KEY}"]'),
        ("c.ini", KEY),
        ("c.yaml", ""),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_its_text_is_not_repeated(tmp_path: Path, name: str, text: str) -> None:
    """Any text gives an InvalidRequestError, and a key in it stays out of the error."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidRequestError) as caught:
        ModelOptions(config=path).to_config()
    assert KEY not in caught.value.message


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    """The option and the file are said."""
    with pytest.raises(InvalidRequestError, match=r"--config: cannot read .*none\.yaml: No such file"):
        ModelOptions(config=tmp_path / "none.yaml").to_config()
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(InvalidRequestError, match=r"--file: .* is not UTF-8"):
        PromptOptions(file=tmp_path / "latin").to_messages()


def test_models_are_named_in_one_way() -> None:
    """Neither no model nor two sources of them."""
    for chain in (ModelOptions(), ModelOptions(model=["a/one"], config=Path("c.yaml"))):
        with pytest.raises(InvalidRequestError, match="either with -m"):
            chain.to_config()


def test_the_prompt_comes_from_one_place(tmp_path: Path) -> None:
    """Argument, file or messages; a system message goes before; final line breaks of a file are not the prompt's."""
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("\ufeffName a prime.\n\n", encoding="utf-8")
    chat = tmp_path / "chat.json"
    chat.write_text('[{"role": "user", "content": "Hi"}]')
    assert PromptOptions(file=prompt).to_messages() == "Name a prime."
    assert PromptOptions(prompt="Hi", system="Be brief.").to_messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert PromptOptions(messages=chat).to_messages() == [{"role": "user", "content": "Hi"}]
    for question in (PromptOptions(prompt="Hi", file=prompt), PromptOptions(prompt="-", messages=chat)):
        with pytest.raises(InvalidRequestError, match="give the prompt once"):
            question.to_messages()
    chat.write_text('{"role": "user"}')
    with pytest.raises(InvalidRequestError, match="--messages: expected a list"):
        PromptOptions(messages=chat).to_messages()
    prompt.write_text("\n")
    with pytest.raises(InvalidRequestError, match="the prompt is empty"):
        PromptOptions(file=prompt).to_messages()


def test_a_schema_becomes_a_response_format(tmp_path: Path) -> None:
    """A bare JSON Schema is wrapped under its title; what is wrapped already stays."""
    path = tmp_path / "a prime.json"
    schema = {"type": "object", "properties": {"prime": {"type": "integer"}}}
    path.write_text(json.dumps(schema))
    wrapped = {"type": "json_schema", "json_schema": {"name": "a_prime", "schema": schema}}
    assert PromptOptions(schema=path).response_format() == wrapped
    path.write_text(json.dumps(wrapped))
    assert PromptOptions(schema=path).response_format() == wrapped
    path.write_text("[]")
    with pytest.raises(InvalidRequestError, match="--schema"):
        PromptOptions(schema=path).response_format()


def test_policy_fields_are_durations_json_or_text() -> None:
    """A policy on the command line is what it is in Python."""
    options = SubmitOptions(
        policy=["max_wait=2m", "max_attempts=5", "on_exhausted=wait", 'rules={"auth": "fail"}']
    ).to_arguments()
    assert options["policy"] == {
        "max_wait": timedelta(minutes=2), "max_attempts": 5, "on_exhausted": "wait", "rules": {"auth": "fail"},
    }  # fmt: skip
    assert "deadline" not in options


def test_a_query_holds_its_values_as_text() -> None:
    """A quote in a value ends nothing."""
    query = Filters(session="o'brien' OR 'a'='a", model="a\\b", outcome=Ending.EXHAUSTED).query()
    assert query == (
        "WorkflowType = 'LLMCall' AND ExecutionStatus != 'ContinuedAsNew' AND LLMModel = 'a\\b' AND LLMSession = 'o''brien'' OR ''a''=''a' "
        "AND LLMOutcome = 'exhausted'"
    )
    for session in ("a\\", "a\\' OR LLMOutcome = 'answered"):
        with pytest.raises(InvalidRequestError, match="backslash"):
            Filters(session=session).query()


def test_every_outcome_can_be_listed() -> None:
    """The outcomes of the contract, the end by force, and calls that wait, whatever for."""
    assert {ending.value for ending in Ending} == {outcome.value for outcome in CallOutcome} | {"terminated", "waiting"}


def test_every_error_has_an_exit_code_and_every_exit_code_its_meaning() -> None:
    """The table of the page is the table of the program; a call that ended without an answer is 1."""
    assert set(MEANING) == set(Exit)
    assert all(exit_of(kind("x")) == Exit.FAILED for kind in CALL_ENDINGS.values())
    assert exit_of(DurableLLMError("x")) == Exit.FAILED
    page = (ROOT / "docs" / "cli.md").read_text()
    for code, meaning in MEANING.items():
        assert f"| {code.value} | {meaning} |" in page


def test_json_is_wanted_where_the_option_stands() -> None:
    """After '--' it is the prompt."""
    assert _wants_json(["call", "--json", "-m", "x"])
    assert not _wants_json(["call", "-m", "x", "--", "--json"])


def test_unknown_is_not_nothing_and_nothing_steers_a_terminal() -> None:
    """Costs are shown as they are known; control characters are not shown at all."""
    assert [usd(cost) for cost in (None, 0.0, 0.01, 1e-8, 12.5)] == ["?", "$0", "$0.01", "<$0.000001", "$12.5"]
    assert plain("a\x1b[2Jb\x07\tc\nd") == "a[2Jb\tc\nd"
