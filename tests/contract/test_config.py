"""From what callers write to a chain of models: lmi's three shapes, names and specs."""

import inspect
import subprocess
import sys

import litellm
import pytest

from durable_llm import InvalidRequestError, LLMConfig, ModelSpec
from durable_llm.client.new_call import to_config
from durable_llm.contract.key_reference import find_literal_key
from durable_llm.contract.parameters import ALLOWED, REPLACEMENTS, STEERING, check_parameters
from tests.support import ROOT


def test_a_bare_name_brings_no_parameters_and_ten_minutes() -> None:
    """A name alone has no parameters, so the provider's own defaults apply."""
    [spec] = to_config("openai/gpt-4o-mini").models
    assert (spec.name, spec.extra_params, spec.timeout, spec.max_retries) == ("openai/gpt-4o-mini", {}, 600.0, 3)


def test_a_spec_and_a_config_are_taken_as_they_are() -> None:
    """A constructed ModelSpec or LLMConfig is used unchanged."""
    spec = ModelSpec(name="openai/gpt-4o-mini", max_retries=0)
    assert to_config(spec).models == [spec]
    config = LLMConfig(models=[spec])
    assert to_config(config) is config


def test_lmis_name_shape_brings_its_defaults() -> None:
    """{"name": ...}: temperature 1, sixty seconds, loose keys are parameters."""
    [spec] = to_config({"name": "openai/gpt-4o-mini", "top_p": 0.5, "max_retries": 1}).models
    assert spec.extra_params == {"temperature": 1.0, "top_p": 0.5}
    assert (spec.timeout, spec.max_retries) == (60.0, 1)


def test_gemini_gets_lmis_safety_settings() -> None:
    """Four categories at BLOCK_ONLY_HIGH, when "gemini" is in the name."""
    [spec] = to_config({"name": "gemini/gemini-2.5-flash"}).models
    settings = spec.extra_params["safety_settings"]
    assert len(settings) == 4
    assert {setting["threshold"] for setting in settings} == {"BLOCK_ONLY_HIGH"}


def test_explicit_parameters_win_over_loose_ones_and_those_over_defaults() -> None:
    """Precedence: defaults < loose overrides < extra_params."""
    spec = ModelSpec.from_name("openai/gpt-4o-mini", temperature=0.1, top_p=0.2, extra_params={"top_p": 0.3})
    assert spec.extra_params == {"temperature": 0.1, "top_p": 0.3}


def test_the_models_shape_is_a_chain() -> None:
    """{"models": [...]} takes names, specs and dicts, in order."""
    config = to_config({"models": ["openai/a", ModelSpec(name="openai/b"), {"name": "openai/c", "timeout": 5}]})
    assert [spec.name for spec in config.models] == ["openai/a", "openai/b", "openai/c"]
    assert [spec.timeout for spec in config.models] == [60.0, 600.0, 5.0]


def entry(name: str, **params: object) -> dict:
    """One entry of litellm's Router."""
    return {"model_name": name, "litellm_params": {"model": f"openai/{name}", **params}}


def test_the_router_shape_is_flattened_in_lmis_order() -> None:
    """First entry, its own fallback list, then the rest; other entries' lists are ignored."""
    config = to_config({
        "model_list": [entry("a"), entry("b"), entry("c", timeout=7), entry("d", num_retries=9)],
        "fallbacks": [{"a": ["c"]}, {"b": ["d"]}],
        "router_kwargs": {"timeout": 30, "num_retries": 2},
    })  # fmt: skip
    assert [spec.name for spec in config.models] == ["openai/a", "openai/c", "openai/b", "openai/d"]
    assert [spec.timeout for spec in config.models] == [30, 7, 30, 30]
    assert [spec.max_retries for spec in config.models] == [2, 2, 2, 9]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("", "name"),
        (" openai/x", "without spaces"),
        (None, "expected a model name"),
        (7, "expected a model name"),
        ({}, "expected a model name"),
        ({"models": []}, "at least 1"),
        ({"models": ["a"], "colour": "red"}, "unknown fields colour"),
        ({"models": [7]}, "each entry is"),
        ({"model_list": []}, "list at least one"),
        ({"model_list": [entry("a")], "fallbacks": [{"a": ["x", "y"]}]}, "not in model_list: x, y"),
        ({"model_list": [entry("a")], "strategy": 1}, "unknown fields strategy"),
        ({"name": "openai/x", "api_key": "sk-live-0123456789abcdef"}, "os.environ/"),
        ({"name": "openai/x", "api_base": "https://user:pass@h/v1"}, "credential"),
        ({"name": "openai/x", "api_base": "https://h/v1?key=AIzaSy012345678901234567890"}, "credential"),
        ({"name": "openai/x", "api_base": "h/v1"}, "https://host"),
        ({"name": "openai/x", "extra_headers": {"Authorization": "Bearer x"}}, "'Authorization' is refused"),
        ({"name": "openai/x", "extra_headers": {"X-Trace": "sk-live-0123456789abcdef"}}, "looks like a key"),
        ({"name": "openai/x", "extra_body": {"api_key": "x"}}, "credential is refused"),
        ({"name": "openai/x", "extra_params": {"fallbacks": ["y"]}}, "LLMConfig(models=[...])"),
        ({"name": "openai/x", "mock_response": "hi"}, "'mock_response' is refused"),
        ({"name": "openai/x", "base_url": "http://h"}, "set the spec's own api_base"),
        ({"name": "openai/x", "timeout": -1}, "greater than 0"),
        ({"name": "openai/x", "max_retries": -1}, "greater than or equal to 0"),
        ({"name": "openai/x", "callbacks": ["y"]}, "'callbacks' is refused"),
    ],
)
def test_bad_configs_are_refused_with_what_to_write_instead(config: object, says: str) -> None:
    """Each error names the field and what to write instead, and repeats no key."""
    with pytest.raises(InvalidRequestError) as caught:
        to_config(config)
    assert says in str(caught.value)


def test_refusals_repeat_no_key() -> None:
    """A key that was pasted by mistake must not reach a log through our own error."""
    secret = "sk-live-0123456789abcdef"  # a canary
    for config in (
        {"name": "openai/x", "api_key": secret},
        {"name": "openai/x", "extra_headers": {"X": secret}},
        {"name": "openai/x", "extra_params": {secret: 1}},
    ):
        with pytest.raises(InvalidRequestError) as caught:
            to_config(config)
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.__cause__)


@pytest.mark.parametrize("field", ["api_key", "api_base", "name"])
def test_constructing_a_spec_repeats_no_key(field: str) -> None:
    """An error at construction does not repeat it either, although pydantic would show the input."""
    secret = "sk-live-0123456789abcdef"  # a canary
    with pytest.raises(ValueError, match=r"api_key|api_base|name") as caught:
        ModelSpec(**{"name": "openai/x", field: f" https://{secret}@h "})
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["sk-abcdefghijklmnopqrstuvwx", "sk-ant-api03-abc", "AIzaSyA1234567890abcdefghij", "sk-ab***yz12345"]
)
def test_keys_of_known_shapes_are_recognised(text: str) -> None:
    """Also if a provider has masked the middle of the key."""
    assert find_literal_key(f"Incorrect API key provided: {text}.")


@pytest.mark.parametrize(
    "text",
    [
        "key-extraction-job-1",
        "hf_transformers_model",
        "pk_products_table_id",
        "sk-learn-pipeline",
        "task-1234567890123",
    ],
)
def test_ordinary_words_are_no_keys(text: str) -> None:
    """A prefix that is also a word must be followed by a digit or by its issuer's exact shape."""
    assert not find_literal_key(text)


def test_unknown_fields_of_a_spec_are_errors() -> None:
    """A misspelt field is not silently ignored."""
    with pytest.raises(ValueError, match="max_retrys"):
        ModelSpec(name="openai/x", max_retrys=3)


def test_every_parameter_of_litellm_that_steers_it_is_refused() -> None:
    """Walk litellm's own parameter list: every name that is not on our list of request-shaping names is refused."""
    own = set(inspect.signature(litellm.acompletion).parameters) | set(litellm.types.utils.all_litellm_params)
    steering = own - ALLOWED
    assert {"api_key", "base_url", "fallbacks", "mock_response", "max_retries", "custom_llm_provider"} <= steering
    for name in steering - {"kwargs"}:
        with pytest.raises(ValueError, match="is refused"):
            check_parameters({name: "x"})
    assert not ALLOWED & ({*REPLACEMENTS} | STEERING)


def test_a_schema_is_the_calls_and_not_a_models() -> None:
    """As a parameter a schema would be sent and never checked; the same holds for the format inside Responses' `text`."""
    instead = r"pass response_format to call\(\) or submit\(\)"
    wanted = {"type": "json_object"}
    shapes = [
        {"name": "openai/x", "response_format": wanted},
        {"models": [{"name": "openai/x", "extra_params": {"text": {"format": wanted}}}]},
        {"model_list": [{"model_name": "x", "litellm_params": {"model": "openai/x", "response_format": wanted}}]},
    ]
    for shape in shapes:
        with pytest.raises(InvalidRequestError, match=instead):
            to_config(shape)
    assert ModelSpec(name="openai/x", extra_params={"text": {"verbosity": "low"}})


def test_the_operator_may_add_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec's validity does not depend on the environment; DURABLE_LLM_EXTRA_PARAMS is read at submit."""
    spec = ModelSpec(name="openai/x", extra_params={"mirostat": 2})
    assert spec.extra_params == {"mirostat": 2}
    for config in (spec, LLMConfig(models=[spec]), {"name": "openai/x", "mirostat": 2}):
        with pytest.raises(InvalidRequestError, match="'mirostat' is refused: it is not on the list"):
            to_config(config)
    monkeypatch.setenv("DURABLE_LLM_EXTRA_PARAMS", "mirostat, typical_p,")
    assert to_config(spec).models == [spec]
    with pytest.raises(InvalidRequestError, match="'mirostat_tau' is refused"):
        to_config(ModelSpec(name="openai/x", extra_params={"mirostat_tau": 2}))


@pytest.mark.parametrize("name", ["mock_response", "fallbacks", "base_url", "api_key", "callbacks", "client"])
def test_what_steers_litellm_is_refused_whatever_the_operator_allows(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It is refused by name when the spec is constructed and again on the worker."""
    monkeypatch.setenv("DURABLE_LLM_EXTRA_PARAMS", name)
    with pytest.raises(ValueError, match=f"'{name}' is refused"):
        ModelSpec(name="openai/x", extra_params={name: "x"})
    with pytest.raises(ValueError, match=f"'{name}' is refused"):
        check_parameters({name: "x"}, also_allowed={name})


LMI_SHAPES = """
import logging
logging.basicConfig(level="INFO", format="%(name)s %(levelname)s %(message)s")
from durable_llm import LLMConfig, ModelSpec
from durable_llm.client.new_call import to_config
to_config("openai/a"), to_config(ModelSpec(name="openai/b")), LLMConfig.from_lmi({"models": ["openai/c"]})
to_config({"models": [ModelSpec(name="openai/d"), {"name": "openai/e", "timeout": 5, "temperature": 0.0}]})
print("silent so far", flush=True)
for _ in range(2):
    to_config({"models": ["openai/f", {"name": "openai/g", "temperature": 0.0}]})
"""


def test_the_log_says_once_what_lmis_shapes_bring() -> None:
    """Names, specs and `from_lmi` log nothing, and neither does a shape that overrides every default."""
    done = subprocess.run([sys.executable, "-c", LMI_SHAPES], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "silent so far\n"
    [line] = done.stderr.splitlines()
    assert line.startswith("durable_llm INFO config: lmi's dict shapes bring lmi's defaults, here timeout=60.0, ")
    assert "temperature=1.0" in line
    assert "LLMConfig.from_lmi" in line


def test_from_lmi_is_the_coercion_of_lmis_shapes() -> None:
    """The explicit way has the same result, and a bare name in it has lmi's defaults too."""
    shape = {"models": ["gemini/a", ModelSpec(name="openai/b"), {"name": "openai/c", "top_p": 0.5}], "tool_parser": "p"}
    assert LLMConfig.from_lmi(shape) == to_config(shape)
    assert LLMConfig.from_lmi({"name": "openai/c"}).models == [ModelSpec.from_name("openai/c")]
    with pytest.raises(ValueError, match="unknown fields colour"):
        LLMConfig.from_lmi({"models": ["a"], "colour": "red"})


def test_what_litellm_calls_its_own_is_not_on_our_list() -> None:
    """The allow-list must not overlap with the parameters that litellm keeps to itself."""
    shaping = {"api_version", "text", "guided_json", "safe_prompt", "prompt_cache_key", "store", "metadata"}
    overlap = ALLOWED & set(litellm.types.utils.all_litellm_params) - shaping
    assert not overlap, overlap
