"""The worker's settings, each declared once: name, type, default and a sentence.

They come from DURABLE_LLM_* variables. The connection to Temporal comes from TEMPORAL_* (Temporal's environment
configuration). A worker checks all of them before it starts.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from durable_llm.contract.chains import CHAINS_VARIABLE
from durable_llm.contract.names import TASK_QUEUE
from durable_llm.contract.quotas import Quotas, read_quotas
from durable_llm.contract.yaml_file import read_yaml
from durable_llm.encryption.codec import data_converter
from durable_llm.errors import InvalidRequestError
from durable_llm.store import STORE_VARIABLE, Store, StoreSettingError, open_store
from durable_llm.streams import Streams, open_streams

PREFIX = "DURABLE_LLM_"

_S = TypeVar("_S", bound=BaseSettings)


class SettingsError(InvalidRequestError):
    """A setting cannot be used; the text names the variable and says what to write."""


class LogSettings(BaseSettings):
    """How a worker or a server logs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = Field(
        "INFO", description="Lowest level of log records that are written to stderr."
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="How they are written: as lines for people, or each as a JSON object."
    )


class WorkerSettings(LogSettings):
    """Settings of one worker process."""

    task_queue: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        TASK_QUEUE, description="Task queue that this worker polls; clients submit to the same one."
    )
    max_concurrent_attempts: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1000, description="Provider attempts in flight at once in this process."
    )
    max_cached_workflows: Annotated[int, Field(ge=0, le=100_000)] = Field(
        1000, description="Calls kept in memory between their events. 0: each is replayed from its history."
    )
    heartbeat_timeout_s: Annotated[float, Field(ge=1, le=3600)] = Field(
        60.0, description="Seconds without a heartbeat after which an attempt's worker counts as lost; it sends twelve."
    )
    graceful_shutdown_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        30.0,
        description="Seconds that open attempts get to finish after SIGTERM. Then another worker makes them again.",
    )
    sandbox: bool = Field(
        False, description="Whether workflow code runs in Temporal's sandbox. It is slower; tests and CI switch it on."
    )
    keys: str = Field(
        "",
        repr=False,
        description='Where keys may go beyond their own provider: "MY_KEY=openai, TEAM_API_KEY=llm.internal".',
    )
    api_base_hosts: str = Field(
        "", description='Hosts that a call\'s api_base may name: "127.0.0.1, llm.internal:8000".'
    )
    secrets_dir: Path = Field(
        Path("/run/secrets"), description="Directory of the files that references like 'secrets/NAME' name."
    )
    extra_params: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Provider parameters to let through beyond the built-in list, separated by commas."
    )
    store: str = Field(
        "", description="Store of prompts above 512 KiB: file:///DIR, s3://BUCKET/PREFIX or postgresql://USER@HOST/DB."
    )
    streams: str = Field(
        "",
        description="Where answers are published while they are written: file:///DIR, redis://HOST/0 or "
        "postgresql://USER@HOST/DB. Empty: in Temporal.",
    )
    prices: Path | None = Field(
        None, description="YAML file with your own prices of models, in place of the built-in list."
    )
    chains: Path | None = Field(None, description="YAML file of the operator's chains; workers keep the quotas in it.")
    encryption_keys: str = Field(
        "",
        repr=False,
        description='Keys that encrypt payloads: "ID=BASE64, ID=BASE64"; the first one encrypts, all decrypt.',
    )
    encryption_keys_file: str = Field("", description="File that holds the same, one a line, instead.")
    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Modules with validators and tool parsers, beside those of installed plugins; separated by commas.",
    )
    validator_timeout_s: Annotated[float, Field(ge=0.1, le=600)] = Field(
        30.0, description="Seconds that one validator or tool parser may take. Beyond that it counts as broken."
    )
    batch_window_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        60.0, description="Seconds that a provider's batch waits for more attempts."
    )
    deployment_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$", max_length=100)] = Field(
        "",
        description="Worker deployment (Temporal's term) that this worker belongs to. Empty: it has no version.",
    )
    build_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]*$", max_length=100)] = Field(
        "", description="This worker's version within its deployment, for example an image's tag."
    )
    versioning: Literal["auto-upgrade", "pinned"] = Field(
        "auto-upgrade", description="Whether a running call moves to a new current version, or ends where it began."
    )
    connect_wait_s: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        30.0, description="Seconds that a starting worker tries to reach the Temporal server."
    )
    http_host: str = Field(
        "127.0.0.1", description="Address on which the worker says how it is, if it has a port; 0.0.0.0 in a container."
    )
    http_port: Annotated[int, Field(ge=0, le=65_535)] | None = Field(
        None, description="Port of /livez, /readyz and /metrics; 0: any free one. Empty: none."
    )

    @field_validator("http_port", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("extra_params", "plugins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def heartbeat_interval(self) -> timedelta:
        """Time between two heartbeats of one attempt. A cancelled attempt learns of it with its next heartbeat."""
        return timedelta(seconds=self.heartbeat_timeout_s / 12)


def load_settings() -> WorkerSettings:
    """Settings from the environment.

    Raises:
        SettingsError: one line for each variable that cannot be used. No value is repeated.
    """
    settings = from_environment(WorkerSettings)
    try:
        data_converter()
    except InvalidRequestError as error:
        raise SettingsError(error.message) from None
    if bool(settings.deployment_name) != bool(settings.build_id):
        absent, given = ("BUILD_ID", "DEPLOYMENT_NAME") if settings.deployment_name else ("DEPLOYMENT_NAME", "BUILD_ID")
        raise SettingsError(f"{PREFIX}{absent}: expected beside {PREFIX}{given}; a version has a name and a build")
    return settings


def store_of(settings: WorkerSettings) -> Store | None:
    """The store of large prompts, None where none is set.

    Raises:
        SettingsError: it cannot be used; names the variable.
    """
    try:
        return open_store(settings.store) if settings.store else None
    except StoreSettingError as error:
        raise SettingsError(f"{STORE_VARIABLE}: {error}") from None


def streams_of(settings: WorkerSettings) -> Streams:
    """The place for streams.

    Raises:
        SettingsError: it cannot be used; names the variable.
    """
    try:
        return open_streams(settings.streams)
    except InvalidRequestError as error:
        raise SettingsError(error.message) from None


def prices_of(settings: WorkerSettings) -> dict[str, Any]:
    """The operator's own prices by the names of specs, not yet checked.

    Raises:
        SettingsError: the file cannot be read, or is not a table.
    """
    if settings.prices is None:
        return {}
    try:
        prices = read_yaml(f"{PREFIX}PRICES", settings.prices)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if not isinstance(prices, dict):
        raise SettingsError(
            f"{PREFIX}PRICES: expected a table of models, like 'openai/mine: {{input: 0.15, output: 0.6}}'"
        )
    return {str(name): price for name, price in prices.items()}


def quotas_of(settings: WorkerSettings) -> Quotas:
    """The quotas that the operator declares.

    Raises:
        SettingsError: the file or a quota in it is wrong; names the variable.
    """
    try:
        return read_quotas({CHAINS_VARIABLE: str(settings.chains or "")})
    except ValueError as error:
        raise SettingsError(str(error)) from None


def from_environment(kind: type[_S]) -> _S:
    """Settings of this kind from the environment.

    Raises:
        SettingsError: one line for each variable that cannot be used. No value is repeated.
    """
    try:
        return kind()
    except ValidationError as error:
        prefix, details = kind.model_config["env_prefix"], error.errors(include_url=False, include_input=False)
        lines = [f"{prefix}{str(detail['loc'][0]).upper()}: {detail['msg']}" for detail in details]
        raise SettingsError("\n".join(lines)) from None
