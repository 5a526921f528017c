"""What a stranger gets from the wheel: a client alone, or the whole service beside packages that took its names."""

import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from durable_llm.service import PACKAGES, ServiceError, check_service_modules, service_environment, service_folder
from tests.support import ROOT
from tests.support.stranger import Stranger, pip

RUN = "import sys; from durable_llm.service import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a user's pip would build it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "-w", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_the_service_and_no_more(wheel: Path) -> None:
    """The service's packages are inside ours and whole; nothing else is at the top, no tests, no caches."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"durable_llm"}
    assert "durable_llm/py.typed" in names
    for package in PACKAGES:
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert {name.removeprefix("durable_llm/_service/") for name in names} >= sources
    assert not [name for name in names if re.search(r"test|__pycache__|\.pyc$|\.env|benchmarks|examples", name)]


def test_the_wheel_alone_is_a_client(wheel: Path, tmp_path: Path) -> None:
    """Without extras: the package and the command line, and what to install for a worker."""
    stranger = Stranger(tmp_path)
    pip(stranger.python, "install", "-c", str(ROOT / "constraints.txt"), str(wheel))

    assert stranger.run(*stranger.command("--help")).returncode == 0
    assert stranger.run(str(stranger.python), "-c", "import durable_llm").returncode == 0
    for command, extras in (("worker", "worker"), ("dev", "worker,dev"), ("codec-server", "codec")):
        refused = stranger.run(*stranger.command(command))
        assert refused.returncode == 2
        assert f"pip install 'durable-llm[{extras}]'" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_foreign_package_is_named_and_refused(tmp_path: Path) -> None:
    """When somebody else's `workflows` comes first, no command starts, and its path is said."""
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "__init__.py").write_text("raise ImportError('not yours')\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}
    for command in ([], ["dev"], ["reclassify"]):
        done = subprocess.run(
            [sys.executable, "-m", "workers", *command], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert f"'workflows' is {tmp_path / 'workflows'}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["module", "namespace"])
def test_a_foreign_package_is_recognised_in_every_shape(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain module and a folder without `__init__.py` take the name as well."""
    culprit = tmp_path / ("workflows.py" if kind == "module" else "workflows")
    culprit.write_text("") if kind == "module" else culprit.mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ServiceError, match=re.escape(f"'workflows' is {culprit}")):
        check_service_modules()


def test_our_own_packages_pass() -> None:
    """In a checkout the service is beside the package, and nothing is complained about."""
    assert service_folder() == ROOT
    check_service_modules()


def test_the_service_comes_first_and_the_working_directory_never() -> None:
    """Its folder precedes what PYTHONPATH had, and `python -m` does not look where the command is typed."""
    env = service_environment({"PYTHONPATH": "/theirs", "KEPT": "1"})
    assert env == {"PYTHONPATH": f"{ROOT}{os.pathsep}/theirs", "PYTHONSAFEPATH": "1", "KEPT": "1"}
    assert service_environment({})["PYTHONPATH"] == str(ROOT)


def test_the_status_is_the_services_own() -> None:
    """A setting that cannot be used is status 2 through `durable_llm.service` as well."""
    env = {**os.environ, "DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "soon"}
    done = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "DURABLE_LLM_HEARTBEAT_TIMEOUT_S" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_signals_reach_the_service_itself() -> None:
    """The service takes over the process, so that a supervisor's signal to the process it started needs no passing on."""
    env = {**os.environ, "TEMPORAL_ADDRESS": "127.0.0.1:1", "DURABLE_LLM_CONNECT_WAIT_S": "60"}
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, env=env) as process:
        give_up = time.monotonic() + 20
        while b"workers" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            assert time.monotonic() < give_up
            time.sleep(0.02)
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("system", "machine", "wanted"),
    [
        ("linux", "x86_64", True),
        ("linux", "aarch64", True),
        ("darwin", "arm64", True),
        ("darwin", "x86_64", True),
        ("win32", "AMD64", False),
        ("linux", "ppc64le", False),
    ],
)
def test_the_development_server_is_asked_for_only_where_it_has_wheels(system: str, machine: str, wanted: bool) -> None:
    """`pip install 'durable-llm[dev]'` succeeds everywhere; without the binary the stack says what to install."""
    (line,) = re.findall(r'^dev = \["(.+)"\]$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    environment = {"sys_platform": system, "platform_machine": machine}
    assert Requirement(line).marker.evaluate(environment) is wanted
