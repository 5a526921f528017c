"""No credential of the worker reaches an address that a caller wrote, whichever provider's adapter does the talking.

litellm fills a missing key from the environment, for most providers at any address. So every variable that its source
reads as a credential is set to a canary here, and each provider is sent to a server that keeps what it hears.
"""

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from activities.litellm_setup import litellm
from activities.secrets.key_ring import KeyRing
from tests.support import ROOT
from tests.support.attempts import attempt, order

pytestmark = pytest.mark.proof  # every provider of litellm, in a process of its own

CANARY = "cAnArY0lEaK0123456789"


def credential_variables() -> set[str]:
    """The names that litellm's source passes to something that reads the environment and that look like credentials."""
    root = Path(find_spec("litellm").submodule_search_locations[0])
    sources = [path.read_text(errors="replace") for path in root.rglob("*.py") if "proxy" not in path.parts]
    found = {name for source in sources for name in re.findall(r"[\"']([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)[\"']", source)}
    numbers = {name for source in sources for name in re.findall(r"(?:int|float)\(os\.getenv\(\"(\w+)\"", source)}
    return {
        name for name in found - numbers if re.search(r"(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS|JWT|KEY_ID)$", name)
    }


def canary_environment() -> dict[str, str]:
    """An environment where every credential is a canary."""
    plain = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    planted = {name: f"{CANARY}{index:04d}" for index, name in enumerate(sorted(credential_variables()))}
    steering = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "AWS_REGION_NAME": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return {**planted, **plain, **steering}


@pytest.fixture(scope="module")
def report() -> dict:
    """What a process with canaries for keys sent to a caller's address, for every provider."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.attempt.test_key_leak"],
        env=canary_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_canaries_cover_what_litellm_reads():
    """The walk over litellm's source finds the variables that everybody knows, and many more."""
    names = credential_variables()

    assert {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} <= names
    assert len(names) > 150


def test_no_provider_sends_a_key_to_a_callers_address(report):
    """Raw bytes, plain and in base64, at a server that `api_base` names."""
    assert report["leaks"] == []


def test_no_provider_tells_a_key_in_its_failure(report):
    """Nor does one stand in what goes to history."""
    assert report["told"] == []


def test_most_providers_were_really_asked(report):
    """The test is worth something only when requests arrive."""
    assert len(report["asked"]) >= 60
    assert {"openai", "anthropic", "gemini", "azure", "mistral", "groq", "openrouter", "hosted_vllm"} <= set(
        report["asked"]
    )


def _contains_canary(raw: bytes) -> bool:
    """In plain, or in base64 at any of its three alignments."""
    tail = {base64.b64encode(b"x" * shift + CANARY.encode())[4:-4] for shift in range(3)}
    return CANARY.encode() in raw or any(piece in raw for piece in tail)


async def _ask(provider: str, port: int) -> str:
    """One attempt at a provider; what it leaves behind as text."""
    keys = KeyRing(dict(os.environ), hosts={"127.0.0.1"})
    try:
        asked = order(f"{provider}/some-model", f"http://127.0.0.1:{port}/{provider}/v1", timeout_s=25.0)
        return (await attempt(asked, keys=keys)).model_dump_json()
    except ApplicationError as error:
        return error.message + error.details[0].model_dump_json()


async def _main() -> dict:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65_536))
        writer.write(b"HTTP/1.1 418 Teapot\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    providers = sorted(str(getattr(item, "value", item)) for item in litellm.provider_list)
    outcomes = dict(zip(providers, await asyncio.gather(*(_ask(name, port) for name in providers)), strict=True))
    asked = {match.group(1).decode() for raw in heard if (match := re.search(rb"^\w+ /([\w-]+)/", raw))}
    return {
        "leaks": [raw.decode(errors="replace") for raw in heard if _contains_canary(raw)],
        "told": [name for name, text in outcomes.items() if _contains_canary(text.encode())],
        "asked": sorted(asked),
        "outcomes": outcomes,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main())), flush=True)  # the report is what this process is for
    os._exit(0)  # providers that litellm asks in threads must not keep the process
