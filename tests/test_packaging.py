"""What a stranger gets from the wheel: a client alone, or the whole service beside packages that took its names."""

import base64
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from durable_llm.service import PACKAGES, ServiceError, check_service_modules, service_environment, service_folder
from workers.ports import free_port

ROOT = Path(__file__).parents[1]
ONE_CALL = """
import asyncio, os, sys
from durable_llm import Dispatcher, ModelSpec

async def main():
    async with Dispatcher.connect() as dispatcher:
        spec = ModelSpec(name="openai/gpt-4o-mini", api_base=sys.argv[1])
        print((await dispatcher.call(spec, "Name a prime.")).text, flush=True)

asyncio.run(main())
assert not {"workflows", "activities", "workers", "litellm"} & set(sys.modules)
"""

RUN = "import sys; from durable_llm.service import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a user's pip would build it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "-w", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


def pip(python: str | Path, *arguments: str) -> None:
    """Run pip, quietly unless it fails."""
    command = [str(python), "-m", "pip", *arguments, "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def squatter(folder: Path) -> Path:
    """The wheel of a distribution that owns a top-level `workflows`, as one on the package index does."""
    entries = {
        "workflows/__init__.py": "raise ImportError('this is the wrong workflows')\n",
        "squatter-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: squatter\nVersion: 1.0\n",
        "squatter-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "squatter-1.0.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in entries.items()]
    path = folder / "squatter-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**entries, record: "\n".join([*lines, f"{record},,", ""])}.items():
            archive.writestr(name, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


class Stranger:
    """A fresh environment, used from a folder that has nothing to do with the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "elsewhere"
        (self.folder / "workflows").mkdir(parents=True)
        (self.folder / "workflows" / "__init__.py").write_text("raise ImportError('a folder of mine')\n")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        self._programs = folder / "venv" / "bin"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self._programs / "python"

    def command(self, *arguments: str) -> list[str]:
        """A `durable-llm` command."""
        return [str(self._programs / "durable-llm"), *arguments]

    def env(self, **changes: str) -> dict[str, str]:
        """Its variables: nothing of the project's environment."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        return {"PATH": f"{self._programs}{os.pathsep}/usr/bin{os.pathsep}/bin", **kept, **changes}

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command, cwd=self.folder, env=self.env(**env), capture_output=True, text=True, timeout=60, check=False
        )


@contextmanager
def running(command: list[str], until: Callable[[str], bool], **options: object) -> Iterator[subprocess.Popen[str]]:
    """A program that has printed a line for which `until` holds; killed if it still runs at the end."""
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options) as process:
        try:
            for line in process.stdout:
                lines.append(line)
                if until(line):
                    break
            else:
                pytest.fail(f"{command} ended with {process.wait()}:\n{''.join(lines)}")
            yield process
        finally:
            process.kill()


def test_the_wheel_carries_the_service_and_no_more(wheel: Path) -> None:
    """The service's packages are inside ours and whole; nothing else is at the top, no tests, no caches."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"durable_llm"}
    assert "durable_llm/py.typed" in names
    for package in PACKAGES:
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert {name.removeprefix("durable_llm/_service/") for name in names} >= sources
    assert not [name for name in names if re.search(r"test|__pycache__|\.pyc$|\.env|benchmarks|examples", name)]


def test_the_wheel_installs_a_client_and_then_the_service_beside_a_squatter(wheel: Path, tmp_path: Path) -> None:
    """Without extras: client and command line, and what to install for a worker; with them: `dev` answers a call."""
    stranger = Stranger(tmp_path)
    constraints = ["-c", str(ROOT / "constraints.txt")]
    pip(stranger.python, "install", *constraints, str(wheel))

    assert stranger.run(*stranger.command("--help")).returncode == 0
    assert stranger.run(str(stranger.python), "-c", "import durable_llm").returncode == 0
    for command, extras in (("worker", "worker"), ("dev", "worker,dev"), ("codec-server", "codec")):
        refused = stranger.run(*stranger.command(command))
        assert refused.returncode == 2
        assert f"pip install 'durable-llm[{extras}]'" in refused.stderr
        assert "Traceback" not in refused.stderr

    pip(stranger.python, "install", *constraints, f"{wheel}[worker,dev]", str(squatter(tmp_path)))
    provider_port, port = free_port(), free_port()
    provider = [sys.executable, str(ROOT / "benchmarks" / "provider.py"), str(provider_port)]
    options = ["--port", str(port), "--ui-port", "0", "--data", str(tmp_path / "dev.db")]
    with (
        running(provider, lambda line: "Running" in line, env={**os.environ, "PYTHONUNBUFFERED": "1"}),
        running(
            stranger.command("dev", *options), lambda line: "Ctrl-C" in line, cwd=stranger.folder, env=stranger.env()
        ) as dev,
    ):
        base = f"http://127.0.0.1:{provider_port}/v1"
        answered = stranger.run(str(stranger.python), "-P", "-c", ONE_CALL, base, TEMPORAL_ADDRESS=f"127.0.0.1:{port}")
        assert answered.stdout == "7\n", answered.stderr
        dev.send_signal(signal.SIGINT)
        said = dev.stdout.read()
        assert dev.wait(timeout=45) == 0, said
        assert "Traceback" not in said


def test_a_foreign_package_is_named_and_refused(tmp_path: Path) -> None:
    """When somebody else's `workflows` comes first, no command starts, and its path is said."""
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "__init__.py").write_text("raise ImportError('not yours')\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}
    for command in ([], ["dev"], ["policy"]):
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
