"""The codec server's settings, each declared once. It has the same encryption keys as every other process."""

import os
import re
from typing import Annotated, Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from durable_llm.encryption.keys import KEYS_VARIABLE, load_keys
from durable_llm.encryption.secret_settings import secret_setting
from durable_llm.errors import InvalidRequestError

from ..settings import PREFIX, SettingsError, from_environment

CODEC_PREFIX: Final = f"{PREFIX}CODEC_"
TOKEN_VARIABLE: Final = f"{CODEC_PREFIX}TOKEN"
DEFAULT_PORT: Final = 8234

_LEAST_TOKEN: Final = 16
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


class CodecSettings(BaseSettings):
    """Settings of one codec server."""

    model_config = SettingsConfigDict(env_prefix=CODEC_PREFIX, frozen=True, extra="ignore")

    token: str = Field(
        "",
        repr=False,
        description="Token for reading payloads, at least 16 characters. Programs send it, people type it.",
    )
    token_file: str = Field("", description="File that holds the token instead.")
    host: Annotated[str, Field(min_length=1)] = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        DEFAULT_PORT, description="Port to listen on. 0 takes a free one."
    )
    ui_origins: str = Field("http://127.0.0.1:8233", description="Addresses of the Temporal UIs, separated by commas.")

    @property
    def origins(self) -> list[str]:
        """The UIs' addresses in the form of a browser's Origin header."""
        return [part.strip().rstrip("/") for part in self.ui_origins.split(",") if part.strip()]

    @property
    def secret_token(self) -> str:
        """The token, from the variable or the file.

        Raises:
            ValueError: both are set, or the file cannot be read.
        """
        return secret_setting({TOKEN_VARIABLE: self.token, f"{TOKEN_VARIABLE}_FILE": self.token_file}, TOKEN_VARIABLE)


def load_codec_settings() -> tuple[CodecSettings, dict[str, bytes]]:
    """Settings and keys from the environment.

    Raises:
        SettingsError: a setting is missing or cannot be used; names the variable, never its value.
    """
    settings = from_environment(CodecSettings)
    try:
        keys, token = load_keys(os.environ), settings.secret_token
    except (InvalidRequestError, ValueError) as error:
        raise SettingsError(str(error)) from None
    if not keys:
        raise SettingsError(f"{KEYS_VARIABLE} is not set, so there is nothing to decrypt")
    if len(token) < _LEAST_TOKEN:
        raise SettingsError(
            f"{TOKEN_VARIABLE}: expected at least {_LEAST_TOKEN} characters that nobody can guess ('head -c 24 "
            "/dev/urandom | base64'); it protects every prompt"
        )
    if not settings.origins:
        raise SettingsError(f"{CODEC_PREFIX}UI_ORIGINS is empty, so no UI could use the server")
    for origin in settings.origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"{CODEC_PREFIX}UI_ORIGINS: {origin!r} is not an origin; write 'http://127.0.0.1:8233, https://ui.internal'"
            )
    return settings, keys
