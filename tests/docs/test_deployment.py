"""The deployment holds against what it deploys: the settings, the search attributes, the server's own version.

No container engine runs where these tests do. So what can be held against something real is (the server's binary, a
running server, a shell), and the rest is read.
"""

import os
import re
import shutil
import stat
import subprocess
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from durable_llm.contract import search_attributes
from durable_llm.encryption.keys import KEY_BYTES, KEYS_VARIABLE, parse_keys
from durable_llm.store import open_store
from tests.conftest import binary
from tests.support import ROOT
from workers.codec.settings import CODEC_PREFIX, CodecSettings
from workers.dev import server as dev_server
from workers.settings import PREFIX, WorkerSettings

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DYNAMIC_CONFIG = yaml.safe_load((DEPLOY / "dynamicconfig" / "production.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCRIPTS = sorted(DEPLOY.glob("*.sh"))
JOBS = {name for name, service in SERVICES.items() if service["restart"] == "on-failure"}
FILES = {
    path.name: path.read_text() for path in (ROOT / "docker-compose.yml", ROOT / "Dockerfile", DEPLOY / "worker.env.example")
}  # fmt: skip

services = pytest.mark.parametrize("name", sorted(SERVICES))
scripts = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)


def seconds(text: str) -> float:
    """A compose duration of one unit, in seconds."""
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def run_script(script: str, *, path: Path | str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one of the deployment's scripts with programs of `path` first."""
    env = {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}", **env}
    return subprocess.run(
        ["sh", str(DEPLOY / script)], env=env, capture_output=True, text=True, timeout=60, check=False
    )


# The compose file


@services
def test_images_are_pinned(name: str) -> None:
    """An image has a tag with at least two numbers; the worker's own is built here."""
    image = SERVICES[name]["image"]
    if "build" in SERVICES[name]:
        assert image == "${WORKER_IMAGE:-durable-llm:local}"
    else:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image)


def test_temporal_is_the_version_that_is_tested_against() -> None:
    """Server, schema tools and UI are those inside the CLI that development and tests run; tools match the server."""
    said = subprocess.run([binary("temporal"), "--version"], capture_output=True, text=True, check=True).stdout
    server, ui = re.search(r"Server ([\d.]+), UI ([\d.]+)", said).groups()
    assert SERVICES["temporal"]["image"] == f"temporalio/server:{server}"
    assert {SERVICES[job]["image"] for job in JOBS} == {f"temporalio/admin-tools:{server}"}
    assert SERVICES["temporal-ui"]["image"] == f"temporalio/ui:{ui}"


@services
def test_ports_are_on_loopback(name: str) -> None:
    """Temporal has no authentication unless told, so nothing listens for other machines; its database for none."""
    ports = SERVICES[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert bool(ports) == (name in {"temporal", "temporal-ui", "store", "codec", "prometheus", "grafana"})


@services
def test_what_runs_on_is_watched_and_restarted(name: str) -> None:
    """Jobs end; all else has a health check, comes back by itself, and keeps its logs from filling the disk."""
    service = SERVICES[name]
    assert service["logging"]["options"]["max-size"]
    if name not in JOBS:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


def test_things_start_in_order() -> None:
    """Database, schema, server, namespace, worker: each waits until the one before is healthy or done."""

    def waits_for(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in SERVICES[name].get("depends_on", {}).items()}

    assert waits_for("temporal-schema") == {"postgresql": "service_healthy"}
    assert waits_for("temporal")["temporal-schema"] == "service_completed_successfully"
    assert waits_for("temporal-namespace") == {"temporal": "service_healthy"}
    assert waits_for("worker")["temporal-namespace"] == "service_completed_successfully"
    assert waits_for("worker")["store"] == "service_healthy"


def test_workers_scale() -> None:
    """`--scale worker=4` works: no name, host name or port that only one container can have."""
    assert not {"container_name", "hostname", "ports"} & set(SERVICES["worker"])


def test_a_stopping_worker_has_time_to_drain() -> None:
    """Docker's patience is longer than the worker's, which is longer than the default."""
    drains = float(SERVICES["worker"]["environment"]["DURABLE_LLM_GRACEFUL_SHUTDOWN_S"])
    assert drains >= WorkerSettings().graceful_shutdown_s
    assert seconds(SERVICES["worker"]["stop_grace_period"]) >= drains + 20
    assert SERVICES["worker"]["init"], "a process 1 without a handler does not hear SIGTERM"


@pytest.mark.parametrize("name", ["postgresql", "store"])
def test_what_a_database_holds_survives(name: str) -> None:
    """Its data is in a named volume of its own."""
    (volume,) = SERVICES[name]["volumes"]
    assert volume == f"{name}:/var/lib/postgresql/data"
    assert name in COMPOSE["volumes"]


def test_temporals_database_is_private() -> None:
    """Only Temporal shares its network, which leads nowhere else: workers and the store reach each other, not it."""
    assert COMPOSE["networks"]["database"]["internal"]
    sharing = {name for name, service in SERVICES.items() if "database" in service.get("networks", [])}
    assert sharing == {"postgresql", "temporal-schema", "temporal"}
    assert {"networks"} & {*SERVICES["worker"], *SERVICES["store"]} == set()


def test_workers_find_the_store() -> None:
    """The worker's setting is a URL that it can open, with the store's own service and role, and a mounted password."""
    written = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", SERVICES["worker"]["environment"]["DURABLE_LLM_STORE"])
    assert (
        open_store(written).place
        == f"postgresql://{SERVICES['store']['environment']['POSTGRES_USER']}@store/durable_llm"
    )
    password = parse_qs(urlsplit(written).query)["password_file"][0]
    assert f"./deploy/secrets/store_password:{password}:ro" in SERVICES["worker"]["volumes"]
    assert not password.startswith(SERVICES["worker"]["environment"]["DURABLE_LLM_SECRETS_DIR"]), "a call could name it"
    assert COMPOSE["secrets"]["store_password"]["file"] == "deploy/secrets/store_password"


# Settings and secrets


@pytest.mark.parametrize("file", FILES)
def test_every_setting_exists(file: str) -> None:
    """A DURABLE_LLM_* variable that no worker reads would be a setting without effect."""
    used = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+", FILES[file]))
    codec_servers = {f"{CODEC_PREFIX}{name.upper()}" for name in CodecSettings.model_fields}
    assert used <= codec_servers | {f"{PREFIX}{name.upper()}" for name in WorkerSettings.model_fields}


def test_the_workers_environment_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing set by the operator, the variables are settings that a worker accepts, at their defaults."""
    for name, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(name, plain(value))
    changed = {
        "graceful_shutdown_s": 120.0,
        "store": os.environ["DURABLE_LLM_STORE"],
        "http_host": os.environ["DURABLE_LLM_HTTP_HOST"],
        "http_port": 9464,
    }
    assert WorkerSettings().model_dump() == WorkerSettings.model_construct().model_copy(update=changed).model_dump()


def test_the_codec_server_serves_the_ui_and_shares_the_workers_keys() -> None:
    """It is started on demand, reads the token and the very file of the workers, and lets in the UI that asks it."""
    codec, ui, worker = SERVICES["codec"], SERVICES["temporal-ui"]["environment"], SERVICES["worker"]
    environment = {name: plain(value) for name, value in codec["environment"].items()}
    settings = CodecSettings(**{
        name.removeprefix(CODEC_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(CODEC_PREFIX)
    })  # fmt: skip
    assert codec["profiles"] == ["codec"]
    assert settings.origins == [f"http://{plain(SERVICES['temporal-ui']['ports'][0]).removesuffix(':8080')}"]
    assert settings.host == SERVICES["temporal"]["environment"]["BIND_ON_IP"], "the port is published on loopback"
    assert plain(codec["ports"][0]) == f"127.0.0.1:8234:{settings.port}"
    assert codec["secrets"] == [Path(settings.token_file).name]
    assert codec["volumes"][0] in worker["volumes"]
    assert environment[f"{KEYS_VARIABLE}_FILE"].startswith(codec["volumes"][0].split(":")[1])
    assert (plain(ui["TEMPORAL_CODEC_ENDPOINT"]), ui["TEMPORAL_CODEC_INCLUDE_CREDENTIALS"]) == ("", "true")


def plain(value: str) -> str:
    """`value` with nothing set by the operator."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)


@services
def test_no_secret_is_written_down(name: str) -> None:
    """Passwords and keys come from files; what looks like one in the environment is a path or the operator's."""
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|PWD|SECRET|TOKEN|KEY", variable):
            assert str(value).startswith(("/run/secrets", "${")), variable


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_secrets_stay_out_of_git() -> None:
    """What an operator writes is ignored, and the example of variables has no values."""
    ignored = [
        "deploy/secrets/postgres_password",
        "deploy/secrets/store_password",
        "deploy/secrets/keys/OPENAI_API_KEY",
        "deploy/worker.env",
    ]
    for path in (*ignored, "deploy/worker.env.example"):
        asked = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False)
        assert (asked.returncode == 0) == (path in ignored), path
    assert not re.search(r"^[^#\s]", FILES["worker.env.example"], re.MULTILINE)


# The image


def test_the_image_is_built_from_pinned_parts_and_runs_as_nobody_special() -> None:
    """Both stages start from one exact Python, packages are constrained, and the process is not root."""
    assert len(set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))) == 1
    assert re.match(r"python:3\.\d+\.\d+-slim-[a-z]+$", re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)[0])
    assert "-c constraints.txt '.[worker,otel,s3,postgres,redis,codec,serve]'" in DOCKERFILE
    assert int(re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1]) > 1000
    assert 'ENTRYPOINT ["durable-llm"]\nCMD ["worker"]' in DOCKERFILE


def test_what_the_image_copies_exists_and_is_let_through() -> None:
    """`.dockerignore` shuts out everything but what the Dockerfile asks for, the secrets of `deploy` too."""
    copied = {
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    }
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert all((ROOT / source).exists() for source in copied)
    assert {source.partition("/")[0] for source in copied} == {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"
    assert not any("deploy" in rule for rule in rules)


# Temporal's own configuration


def test_the_server_knows_every_variable() -> None:
    """What the compose file sets is read by this version's configuration, by the image's start or by our own script."""
    known = set(re.findall(rb'env "([A-Z0-9_]+)"', Path(binary("temporal")).read_bytes()))
    ours = {"POSTGRES_PASSWORD_FILE"}
    assert set(SERVICES["temporal"]["environment"]) - ours <= {name.decode() for name in known} | {"BIND_ON_IP"}


def test_the_server_knows_every_dynamic_setting() -> None:
    """A misspelt name in the dynamic configuration is ignored by the server, so it is looked up in its binary."""
    program = Path(binary("temporal")).read_bytes().lower()
    for name in DYNAMIC_CONFIG:
        assert name.lower().encode() in program, name


def test_production_has_what_was_measured_in_development() -> None:
    """The values that the development stack's server needs are those of the deployment, in a file that is mounted."""
    for name, value in dev_server._DYNAMIC_CONFIG.items():
        assert DYNAMIC_CONFIG[name] == [{"value": value}]
    path = Path(SERVICES["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"])
    assert f"./deploy/dynamicconfig:{path.parent}:ro" in SERVICES["temporal"]["volumes"]
    assert (DEPLOY / "dynamicconfig" / path.name).exists()


# The scripts


@scripts
def test_scripts_are_posix_shell(script: Path) -> None:
    """The images have busybox's shell: each script parses as POSIX and stops at its first failure."""
    assert script.read_text().startswith("#!/bin/sh\n")
    assert "\nset -eu\n" in script.read_text()
    assert os.access(script, os.X_OK)
    subprocess.run(["sh", "-n", str(script)], check=True)


@scripts
@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_scripts_pass_shellcheck(script: Path) -> None:
    """Shellcheck finds nothing."""
    subprocess.run(["shellcheck", "--shell=sh", str(script)], check=True)


@scripts
def test_every_script_is_the_one_that_is_run(script: Path) -> None:
    """A script is mounted where its service starts it, or is the operator's and in the documentation."""
    place = f"/deploy/{script.name}"
    users = [service for service in SERVICES.values() if place in service.get("entrypoint", [])]
    for service in users:
        assert f"./deploy/{script.name}:{place}:ro" in service["volumes"]
    assert users or f"deploy/{script.name}" in (ROOT / "docs" / "deployment.md").read_text()


async def test_the_namespace_job_makes_what_calls_need(server_env: WorkflowEnvironment) -> None:
    """Run twice against a real server: the namespace with 30 days of retention and our attributes, each of its type."""
    namespace = f"deployed-{uuid.uuid4().hex[:8]}"
    address = server_env.client.service_client.config.target_host
    environment = SERVICES["temporal-namespace"]["environment"]
    for retention in ("24h", environment["RETENTION"]):
        done = run_script(
            "namespace.sh", path=Path(binary("temporal")).parent,
            TEMPORAL_ADDRESS=address, TEMPORAL_NAMESPACE=namespace, RETENTION=retention,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    client = await Client.connect(address, namespace=namespace)
    told = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    assert told.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=30)
    listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
    assert dict(listed.custom_attributes) == {key.name: int(key.indexed_value_type) for key in search_attributes.ALL}
    assert await search_attributes.missing(client) == []


def test_the_schema_job_prepares_both_databases_in_order(tmp_path: Path) -> None:
    """Each database is created, stamped and brought up to date; the password reaches the tool and no command line."""
    calls = tmp_path / "calls"
    tool = tmp_path / "temporal-sql-tool"
    tool.write_text(f'#!/bin/sh\necho "$SQL_PASSWORD: $*" >> {calls}\n')
    tool.chmod(0o755)
    password = tmp_path / "password"
    password.write_text("open sesame")
    environment = {**SERVICES["temporal-schema"]["environment"], "POSTGRES_PASSWORD_FILE": str(password)}
    done = run_script("schema.sh", path=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    start = "open sesame: --plugin postgres12 --ep postgresql -p 5432 -u temporal --db"
    schema = "/etc/temporal/schema/postgresql/v12"
    assert calls.read_text().splitlines() == [
        f"{start} temporal create",
        f"{start} temporal setup-schema -v 0.0",
        f"{start} temporal update-schema -d {schema}/temporal/versioned",
        f"{start} temporal_visibility create",
        f"{start} temporal_visibility setup-schema -v 0.0",
        f"{start} temporal_visibility update-schema -d {schema}/visibility/versioned",
    ]


@pytest.mark.parametrize("script", ["schema.sh", "server.sh"])
@pytest.mark.parametrize(("content", "says"), [("", "the password file is empty"), (None, "No such file")])
def test_a_missing_password_stops_at_once(script: str, content: str | None, says: str, tmp_path: Path) -> None:
    """Nothing is tried with an empty password; the script says why."""
    password = tmp_path / "password"
    if content is not None:
        password.write_text(content)
    done = run_script(
        script, path=tmp_path, POSTGRES_HOST="postgresql", POSTGRES_USER="temporal",
        POSTGRES_PASSWORD_FILE=str(password),
    )  # fmt: skip
    assert done.returncode != 0
    assert says in done.stderr


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    """What was made is kept; containers can read the files, other users of the host cannot reach them."""
    script = shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    folder = tmp_path / "secrets"
    files = [folder / name for name in ("postgres_password", "store_password", "codec_token", "encryption/keys")]
    subprocess.run(["sh", script], check=True, capture_output=True)
    made = [file.read_text() for file in files]
    subprocess.run(["sh", script], check=True, capture_output=True)
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", text) for text in made[:3])
    assert len(set(made)) == 4
    assert [len(key) for key in parse_keys(made[3]).values()] == [KEY_BYTES]
    assert [file.read_text() for file in files] == made
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (*files, folder, folder / "keys", folder / "encryption")]
    assert modes == [0o644] * 4 + [0o700, 0o755, 0o755]


# The tools of others, where they are installed


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_compose_accepts_the_file(tmp_path: Path) -> None:
    """`docker-compose config` finds no fault, with and without what an operator may set."""
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for env in ({}, {"WORKER_IMAGE": "registry.example/durable-llm:1", "TEMPORAL_NAMESPACE": "llm", "UI_PORT": "8081"}):
        subprocess.run(["docker-compose", "config", "-q"], cwd=ROOT, env={**plain, **env}, check=True)


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint_accepts_the_dockerfile() -> None:
    """Hadolint finds no fault."""
    subprocess.run(["hadolint", "--failure-threshold", "info", str(ROOT / "Dockerfile")], check=True)
