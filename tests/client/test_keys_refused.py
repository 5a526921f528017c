"""Keys in the wrong place: refused before anything is sent, and never repeated."""

import pickle
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.observation import Observation
from activities.secrets.key_ring import KeyRing
from activities.wire.exchange import Exchange
from durable_llm import Dispatcher, DurableLLMError, InvalidRequestError, LLMConfig, ModelSpec
from durable_llm.cli import program
from durable_llm.cli.exits import Exit, report
from durable_llm.client.connection import connect_client
from durable_llm.contract.names import WORKFLOW
from tests.support.canary import SHAPED, Canary
from workers.plugin import build_attempts
from workers.settings import SettingsError, WorkerSettings, load_settings

PLAIN = Canary("n3Gd7UqYw2VtKx6LpB9sMz4Ej8Rf")
MODEL = "openai/gpt-4o-mini"


def spec(**fields: object) -> dict:
    """A call with one model."""
    return {"config": {"models": [{"name": MODEL, **fields}]}}


def address(text: str) -> dict:
    """A call to an address."""
    return spec(api_base=text)


def extra(**parameters: object) -> dict:
    """A call with provider parameters."""
    return spec(extra_params=parameters)


def router(**parameters: object) -> dict:
    """A call in the shape of litellm's Router."""
    entry = {"model_name": "m", "litellm_params": {"model": MODEL, **parameters}}
    return {"config": {"model_list": [entry]}}


UNMISTAKABLE = {
    "api_key": spec(api_key=PLAIN.key),
    "api_key in lmi's shape": {"config": {"name": MODEL, "api_key": PLAIN.key}},
    "api_key in a router's": router(api_key=PLAIN.key),
    "api_key in a file's reference": spec(api_key=f"secrets/../{PLAIN.key}"),
    "another credential in a router's": router(aws_secret_access_key=PLAIN.key),
    "user of an address": address(f"https://{PLAIN.key}@host/v1"),
    "password of an address": address(f"https://user:{PLAIN.key}@host/v1"),
    "query of an address": address(f"https://host/v1?key={PLAIN.key}"),
    "escaped query of an address": address(f"https://host/v1?api%5Fkey={PLAIN.key}"),
    "code in a query": address(f"https://host/v1?v=1&code={PLAIN.key}"),
    "fragment of an address": address(f"https://host/v1#access_token={PLAIN.key}"),
    "address that is none": address(f"https://[{PLAIN.key}/v1"),
    "extra_params": extra(api_key=PLAIN.key),
    "a credential's header": extra(extra_headers={"Authorization": f"Bearer {PLAIN.key}"}),
    "a header with a bearer": extra(extra_headers={"X-Forwarded": f"Bearer {PLAIN.key}"}),
    "a header with basic": extra(extra_headers={"X-Upstream": f"basic {PLAIN.key}"}),
    "extra_body": extra(extra_body={"options": [{"api_key": PLAIN.key}]}),
}
"""A key without a known shape, in a place for keys."""

RECOGNISABLE = {
    "the model's name": spec(name=f"openai/{SHAPED}"),
    "path of an address": address(f"https://host/{SHAPED}/v1"),
    "a harmless parameter": extra(user=SHAPED),
    "deep in the body": extra(extra_body={"a": [{"b": f"x {SHAPED}"}]}),
    "a name in the body": extra(extra_body={SHAPED: 1}),
    "a parameter's name": extra(**{SHAPED: 1}),
    "a header's name": extra(extra_headers={f"x-{SHAPED}-key": "1"}),
    "a header's value": extra(extra_headers={"x-trace": SHAPED}),
    "an unknown field": {"config": {"models": [MODEL], SHAPED: 1}},
    "a fallback": {"config": {**router()["config"], "fallbacks": [{"m": [SHAPED]}]}},
    "a model list's name": {"config": {"model_list": [{"model_name": SHAPED}]}},
    "call_id": {"config": MODEL, "call_id": SHAPED},
    "session": {"config": MODEL, "session": SHAPED},
    "metadata": {"config": MODEL, "metadata": {"k": SHAPED}},
    "a name in metadata": {"config": MODEL, "metadata": {SHAPED: "v"}},
    "a policy's rule": {"config": MODEL, "policy": {"rules": {SHAPED: "fail"}}},
    "an option": {"config": MODEL, "if_failed": SHAPED},
}
"""A key with a known shape, in any place."""


@pytest.mark.parametrize("call", [*UNMISTAKABLE.values(), *RECOGNISABLE.values()], ids=[*UNMISTAKABLE, *RECOGNISABLE])
async def test_a_key_in_a_call_is_refused_and_not_repeated(server_env: WorkflowEnvironment, call: dict) -> None:
    """It is not in the error, its pickle or its traceback."""
    async with Dispatcher(server_env.client, task_queue="refused") as dispatcher:
        with pytest.raises(InvalidRequestError) as refused:
            await dispatcher.submit(**{"messages": "Name a prime.", **call})
    printed = "".join(traceback.format_exception(refused.value))
    shown = f"{refused.value!r} {pickle.dumps(refused.value).decode(errors='replace')} {printed}"
    assert not PLAIN.seen_in(shown)
    assert SHAPED not in shown


async def test_nothing_of_a_refused_call_was_sent(server_env: WorkflowEnvironment) -> None:
    """None of the refused calls reached the server."""
    query = f"WorkflowType = '{WORKFLOW}' AND TaskQueue = 'refused'"
    assert (await server_env.client.count_workflows(query)).count == 0


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--api-key", PLAIN.key), ("--api-base", f"https://u:{PLAIN.key}@host"), ("--api-base", f"https://h?key={PLAIN.key}"),
        ("--param", f"api_key={PLAIN.key}"), ("--id", SHAPED), ("--session", SHAPED), ("--metadata", f"k={SHAPED}"),
        ("--policy", f'rules={{"{SHAPED}": "fail"}}'), (f"--{SHAPED}",),
    ],
    ids=lambda arguments: arguments[0][:12],
)  # fmt: skip
def test_a_key_on_the_command_line_is_refused_and_not_repeated(
    server_env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], as_json: tuple[str, ...],
) -> None:  # fmt: skip
    """The key must not reach a terminal or a CI log; the status is that of wrong usage."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server_env.client.service_client.config.target_host)
    try:
        status: int = program._run(["call", "-m", MODEL, *arguments, *as_json, "Hi"])
    except BaseException as error:
        status = report(error, as_json=bool(as_json))
    printed = "".join(capfd.readouterr())
    assert status == Exit.USAGE, printed
    assert not PLAIN.seen_in(printed)
    assert SHAPED not in printed


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DURABLE_LLM_KEYS", PLAIN.key), ("DURABLE_LLM_KEYS", f"{PLAIN.key}=a b"), ("DURABLE_LLM_KEYS", f"{SHAPED}=openai"),
        ("DURABLE_LLM_KEYS", f"openai={SHAPED}"), ("DURABLE_LLM_KEYS", f"MY_KEY=openai:{PLAIN.key}"),
        ("DURABLE_LLM_API_BASE_HOSTS", f"https://u:{PLAIN.key}@host"), ("DURABLE_LLM_API_BASE_HOSTS", f"ok, {SHAPED}"),
        ("DURABLE_LLM_HEARTBEAT_TIMEOUT_S", PLAIN.key), ("DURABLE_LLM_LOG_LEVEL", PLAIN.key),
        ("DURABLE_LLM_DEPLOYMENT_NAME", f"{PLAIN.key}/"), ("DURABLE_LLM_VERSIONING", PLAIN.key),
    ],
)  # fmt: skip
def test_a_key_in_a_workers_setting_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The error names the variable and not its value, because a worker's first lines are in a log."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as refused:
        build_attempts(load_settings(), {})
    assert not PLAIN.seen_in(str(refused.value))
    assert SHAPED not in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"TEMPORAL_API_KEY": f"{PLAIN.key}\n", "TEMPORAL_TLS": "false"},
        {"TEMPORAL_API_KEY": f"{PLAIN.key}é\x7f", "TEMPORAL_TLS": "false"},
        {"TEMPORAL_TLS_CLIENT_CERT_DATA": PLAIN.key, "TEMPORAL_TLS_CLIENT_KEY_DATA": PLAIN.key},
        {"TEMPORAL_ADDRESS": f"user:{PLAIN.key}@127.0.0.1:1"},
        {"TEMPORAL_GRPC_META_AUTHORIZATION": f"Bearer {PLAIN.key}\n"},
    ],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
async def test_what_opens_temporal_is_not_repeated_where_it_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], settings: dict[str, str]
) -> None:
    """A key in Temporal's own settings is an error that names the place and not the value."""
    for name, value in {"TEMPORAL_ADDRESS": "127.0.0.1:1", **settings}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DurableLLMError) as failed:
        await connect_client(wait=timedelta(seconds=0.1))
    assert not PLAIN.seen_in(f"{failed.value!r} {failed.value} {''.join(capfd.readouterr())}")


def test_no_object_of_ours_shows_a_key(tmp_path: Path) -> None:
    """A debugger's or a log's repr: settings, rings, what a ring resolved, what an attempt saw."""
    (tmp_path / "team").write_text(PLAIN.key)
    environment = {"TEAM_API_KEY": PLAIN.key, "OPENAI_API_KEY": PLAIN.key}
    settings = WorkerSettings(keys=f"TEAM_API_KEY=openai, {PLAIN.key}=openai", secrets_dir=tmp_path)
    ring = KeyRing.from_settings(environment, keys="TEAM_API_KEY=openai", hosts="", secrets_dir=tmp_path)
    passage = ring.resolve("openai", None, "os.environ/TEAM_API_KEY")
    exchange = Exchange(
        forbidden={PLAIN.key}, headers={"x-request-id": PLAIN.key}, raw_body=bytearray(PLAIN.key.encode())
    )
    seen = Observation(exchange=exchange, secrets=ring.secrets)
    spec = LLMConfig(models=[ModelSpec(name=MODEL, api_key="os.environ/TEAM_API_KEY")])
    shown = (
        f"{settings!r} {ring!r} {passage!r} {exchange!r} {seen!r} {spec!r} {build_attempts(settings, environment)!r}"
    )
    assert not PLAIN.seen_in(shown)
