"""The development stack's codec server. With encryption keys set, the UI shows plain text after a login.

The token is made once and kept in a file beside the data that only its owner can read. So a browser stays logged in
after a restart, and no terminal shows the token.
"""

import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from durable_llm.encryption.keys import KEYS_VARIABLE, load_keys
from durable_llm.errors import InvalidRequestError

from ..codec.settings import CODEC_PREFIX, TOKEN_VARIABLE
from .children import Child, StackError
from .ports import LOOPBACK, claim_port

CODEC_COMMAND: Final = (sys.executable, "-m", "durable_llm.cli", "codec-server")


@dataclass(frozen=True, kw_only=True)
class DevCodec:
    """The codec server's port, and the file with its token."""

    port: int
    token_file: Path

    @property
    def address(self) -> str:
        """Its address for the UI."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def how_to_log_in(self) -> str:
        """Instructions for the developer."""
        return f"{self.address}/login, with the token in {self.token_file}"


def plan_codec(environment: Mapping[str, str], *, port: int, beside: Path) -> DevCodec | None:
    """A codec server if keys are set, None otherwise.

    Args:
        environment: The variables with the keys.
        port: Its port. 0 takes a free one.
        beside: A file in the folder of the token.

    Raises:
        StackError: the keys cannot be used, the port is taken, or a package is missing.
    """
    try:
        if not load_keys(environment):
            return None
    except InvalidRequestError as error:
        raise StackError(error.message) from None
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise StackError(f"{KEYS_VARIABLE} is set, and the UI needs a codec server: pip install 'durable-llm[codec]'")
    port = claim_port(port, used_for="the codec server", option="--codec-port")
    return DevCodec(port=port, token_file=_token_file(beside.with_name("codec-token")))


@asynccontextmanager
async def running_codec(plan: DevCodec | None, ui_url: str | None) -> AsyncIterator[list[Child]]:
    """The codec server as a child while the context lasts. [] without a plan or a UI."""
    if plan is None or ui_url is None:
        yield []
        return
    env = {
        f"{CODEC_PREFIX}HOST": LOOPBACK,
        f"{CODEC_PREFIX}PORT": str(plan.port),
        f"{CODEC_PREFIX}UI_ORIGINS": ui_url,
        TOKEN_VARIABLE: None,
        f"{TOKEN_VARIABLE}_FILE": str(plan.token_file),
    }
    child = await Child.start("the codec server", CODEC_COMMAND, env=env)
    try:
        yield [child]
    finally:
        await child.stop()


def _token_file(path: Path) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(f"{secrets.token_urlsafe(24)}\n")
    return path
