"""The front's settings, each declared once. Chains and tokens are in files of their own."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..settings import PREFIX, SettingsError, from_environment

FRONT_PREFIX: Final = f"{PREFIX}FRONT_"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class FrontSettings(BaseSettings):
    """Settings of one front."""

    model_config = SettingsConfigDict(env_prefix=FRONT_PREFIX, frozen=True, extra="ignore")

    host: Annotated[str, Field(min_length=1)] = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(8000, description="Port to listen on. 0 takes a free one.")
    tokens: Path | None = Field(
        None,
        description="File of tokens, written by `durable-llm token`. Without it, the front listens on loopback only.",
    )
    models: bool = Field(
        False, description="Whether callers may name models ('provider/model') beside the operator's chains."
    )
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = Field(
        2000, description="Connections at once; one more is refused with 503."
    )
    max_body_bytes: Annotated[int, Field(ge=1000)] = Field(
        20_000_000, description="Bytes of a request's body. A larger one is refused with 413."
    )
    drain_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        10.0,
        description="Seconds that open requests get after SIGTERM. Then they are answered with 503 and Retry-After.",
    )


def load_front_settings() -> FrontSettings:
    """Settings from the environment.

    Raises:
        SettingsError: a setting cannot be used, or strangers could reach a front without tokens.
    """
    settings = from_environment(FrontSettings)
    if settings.tokens is None and settings.host not in _LOOPBACK:
        raise SettingsError(
            f"{FRONT_PREFIX}HOST: {settings.host!r} is not loopback, and {FRONT_PREFIX}TOKENS is not set; make a file "
            "of tokens with 'durable-llm token TENANT --file FILE'"
        )
    return settings
