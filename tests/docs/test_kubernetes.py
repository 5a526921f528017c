"""The Kubernetes manifests: valid by Kubernetes' own schemas, and true to the worker that they start."""

import re

import kubernetes_validate
import pytest
import yaml

from tests.support import ROOT
from workers.health import Health, health_app
from workers.settings import PREFIX, WorkerSettings

TEXT = (ROOT / "deploy" / "kubernetes" / "worker.yaml").read_text()
MANIFESTS = {each["kind"]: each for each in yaml.safe_load_all(TEXT)}
POD = MANIFESTS["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]
SETTINGS = {each["name"]: each["value"] for each in CONTAINER["env"] if each["name"].startswith(PREFIX)}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_each_manifest_is_valid(kind: str) -> None:
    """Unknown fields are errors too."""
    kubernetes_validate.validate(MANIFESTS[kind], kubernetes_validate.latest_version(), strict=True)


def test_the_settings_exist_and_are_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker takes each of them."""
    assert {name.removeprefix(PREFIX).lower() for name in SETTINGS} <= WorkerSettings.model_fields.keys()
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    settings = WorkerSettings()
    assert settings.http_port == CONTAINER["ports"][0]["containerPort"]
    assert POD["spec"]["terminationGracePeriodSeconds"] > settings.graceful_shutdown_s
    mounts = {mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert str(settings.secrets_dir) in mounts


def test_the_probes_lead_to_what_the_worker_answers() -> None:
    """And selectors lead to its pods."""
    app = health_app(Health(None, "q", missing_keys=list, providers=dict), None)  # type: ignore[arg-type]  # nothing is asked
    paths = {route.path for route in app.routes}
    probes = [CONTAINER[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    assert {probe["path"] for probe in probes} <= paths
    assert {probe["port"] for probe in probes} == {CONTAINER["ports"][0]["name"]}
    labels = POD["metadata"]["labels"].items()
    assert MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert MANIFESTS["Service"]["spec"]["selector"].items() <= labels


def test_no_secret_is_in_the_manifests() -> None:
    """Keys come from a Secret that the operator makes."""
    assert not re.search(r"sk-[A-Za-z0-9]", TEXT)
    assert "Secret" not in MANIFESTS
