"""What a stranger gets from the wheel: a client alone, or the whole service beside packages that took its names."""

import asyncio
import re
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from temporalio.testing import WorkflowEnvironment

from tests.support import ROOT
from tests.support.bodies import openai
from tests.support.stranger import Stranger, pip, squatter
from tests.support.wire import playing

ROOMS = ("workflows", "activities", "workers")


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
    for package in ROOMS:
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert {name.removeprefix("durable_llm/") for name in names} >= sources
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


HOST = """
import asyncio, sys
from datetime import timedelta
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

import durable_llm
# The sandbox imports this file again, beside what the worker has loaded meanwhile.
assert __name__ != "__main__" or "litellm" not in sys.modules
from durable_llm import Dispatcher, ModelSpec
from durable_llm.plugin import DurableLLMPlugin


@workflow.defn
class MyAgent:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"hello, {name}"


async def main(address: str, api_base: str) -> None:
    client = await Client.connect(address)
    async with Worker(client, task_queue="mine", workflows=[MyAgent], plugins=[DurableLLMPlugin()]):
        print(await client.execute_workflow(MyAgent.run, "host", id="agent", task_queue="mine"))
        model = ModelSpec(name="openai/local", api_base=api_base)
        async with Dispatcher.connect(task_queue="mine") as dispatcher:
            for prompt in ("Name a prime.", "Name a prime. " + "pad " * 3000):
                print((await dispatcher.call(model, prompt)).text)
    print("foreign" if hasattr(sys.modules.get("workflows"), "__path__") else "alone")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_users_own_worker_answers_calls_beside_its_own_workflow(
    wheel: Path, tmp_path: Path, server_env: WorkflowEnvironment
) -> None:
    """The plugin from the wheel in an ordinary program, in its sandbox, beside a foreign top-level `workflows`."""
    stranger = Stranger(tmp_path)
    pip(stranger.python, "install", str(squatter(tmp_path)))
    pip(stranger.python, "install", "-c", str(ROOT / "constraints.txt"), f"{wheel}[worker]")
    (stranger.folder / "host.py").write_text(HOST)
    address = server_env.client.service_client.config.target_host
    async with playing({"body": openai(text="forty-one")}) as wire:
        env = stranger.env(TEMPORAL_ADDRESS=address, DURABLE_LLM_API_BASE_HOSTS="127.0.0.1")
        process = await asyncio.create_subprocess_exec(
            str(stranger.python), "host.py", address, f"{wire.url}/v1", cwd=stranger.folder, env=env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, complaints = await asyncio.wait_for(process.communicate(), 90)
    assert (process.returncode, printed.decode().split("\n")) == (
        0, ["hello, host", "forty-one", "forty-one", "alone", ""],
    ), complaints.decode()  # fmt: skip


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
