"""The plugin that makes a Temporal worker answer calls. `durable-llm worker` uses it too."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from temporalio.client import Client
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultFailureConverter, DefaultPayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    Interceptor,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerConfig,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from durable_llm.client.connection import rest_at_exit
from durable_llm.client.trace_context import TraceContext
from durable_llm.contract.names import HEARTBEAT_TIMEOUT_FUNCTION, STORE_FUNCTION
from durable_llm.contract.wire import describe_validation_error
from durable_llm.encryption.codec import EncryptionCodec, data_converter
from durable_llm.encryption.keys import KEYS_VARIABLE, load_keys
from durable_llm.errors import DurableLLMError, InvalidRequestError
from durable_llm.store.codec import StoringCodec

from .holds import following_holds
from .nexus import NexusHandler
from .quotas import QuotaQueues, QuotaWorkers
from .rooms.workflows import (
    LLMBatchCollector,
    LLMBudget,
    LLMCall,
    LLMHold,
    LLMProviderBatch,
    LLMQuota,
    RefuseSurplusArguments,
)
from .settings import SettingsError, WorkerSettings, load_settings, prices_of, quotas_of, store_of, streams_of
from .telemetry.exporting import exporting

if TYPE_CHECKING:
    from .rooms.activities import ProviderAttempts


class DurableLLMPlugin(SimplePlugin):
    """Adds calls and provider attempts to a worker, and their data converter to its client.

    Task queue, concurrency, pollers and sandbox stay as the worker sets them. OTEL_* variables work as in `durable-llm
    worker`, unless the process has a tracer provider already.

    Args:
        settings: Settings of keys, addresses, heartbeats and plugins. None: from the DURABLE_LLM_* variables.
        answers: False: workflows of this worker make calls, and other workers answer them.
        attempts: The activity; for tests. None: real attempts.

    Raises:
        InvalidRequestError: a setting cannot be used; names the variable. Some are only found when the worker is made.
    """

    def __init__(
        self, settings: WorkerSettings | None = None, *, answers: bool = True,
        attempts: "ProviderAttempts | None" = None,
    ) -> None:  # fmt: skip
        self._settings = settings or load_settings()
        self._answers = answers
        self._attempts = attempts
        self._quotas = quotas_of(self._settings)
        self.quota_queues: QuotaQueues | None = None
        self._quota_workers: QuotaWorkers | None = None
        self._running = AsyncExitStack()
        rest_at_exit()  # a program whose workflows only call has no dispatcher that does it
        super().__init__(
            "durable_llm.DurableLLMPlugin",
            data_converter=readable_converter,
            interceptors=[
                TraceContext(),
                HeartbeatTimeout(
                    timedelta(seconds=self._settings.heartbeat_timeout_s), has_store=bool(self._settings.store)
                ),
            ],
            workflows=[LLMCall, LLMBatchCollector, LLMProviderBatch, LLMQuota, LLMBudget, LLMHold] if answers else [],
            workflow_runner=_with_our_modules,
            nexus_service_handlers=[NexusHandler()] if answers else [],
            workflow_failure_exception_types=[DurableLLMError],  # of a workflow that calls, and does not catch it
        )

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """See base class."""
        if any(isinstance(each, HeartbeatTimeout) for each in config.get("interceptors") or ()):
            return config  # the client has this plugin too
        # The base class does not change the client, and the SDK's default converter cannot read our messages.
        client = config["client"].config(active_config=True)
        client["data_converter"] = readable_converter(client["data_converter"])
        client["plugins"] = []  # they have been applied
        converter = client["data_converter"]
        if (store := store_of(self._settings)) is not None:
            client["data_converter"] = replace(converter, payload_codec=StoringCodec(store, converter.payload_codec))
        config["client"] = Client(**client)
        if self._answers:
            attempts = self._attempts
            if attempts is None:
                attempts = build_attempts(self._settings, os.environ, converter)
                self._running.push_async_callback(attempts.close)
            self._attempts = attempts
            config["activities"] = [*config.get("activities", ()), attempts.provider_attempt, *_others(attempts)]
            self.quota_queues = QuotaQueues(config["task_queue"], self._quotas)
            config["interceptors"] = [*config.get("interceptors", ()), self.quota_queues]
            config["max_heartbeat_throttle_interval"] = self._settings.heartbeat_interval
            config["default_heartbeat_throttle_interval"] = self._settings.heartbeat_interval
        config = super().configure_worker(config)
        for telemetry in self._running.enter_context(exporting()):
            config = telemetry.configure_worker(config)
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:  # noqa: A002  # Temporal's own name
        """See base class."""
        async with self._running:
            if self._attempts is None or self.quota_queues is None:
                await super().run_worker(worker, next)
                return
            from .rooms.activities import ProviderAttempts, tell_quota  # noqa: PLC0415  # as in build_attempts

            self._quota_workers = QuotaWorkers(worker, self.quota_queues, self._attempts.provider_attempt, tell_quota)
            if isinstance(self._attempts, ProviderAttempts):  # a test's own attempts know no holds
                followed = following_holds(worker.client, worker.task_queue, self._attempts.holds.now)
                await self._running.enter_async_context(followed)
            async with self._quota_workers.running(self._quotas):
                await super().run_worker(worker, next)

    async def shutdown(self, worker: Worker) -> None:
        """Drain a worker and those that poll quotas beside it, together.

        A worker that is shut down by itself drains first, and they drain after it.
        """
        polling = self._quota_workers.shutdown() if self._quota_workers is not None else asyncio.sleep(0)
        await asyncio.gather(worker.shutdown(), polling)


def readable_converter(given: DataConverter | None) -> DataConverter:
    """The client's converter, changed so that it reads our messages.

    The SDK's default is replaced. A converter for pydantic models stays, and gets encryption where our keys are set.

    Raises:
        InvalidRequestError: it does not read pydantic models, or it has another codec while our keys are set.
    """
    ours = data_converter()
    given = given or DataConverter.default
    payload_converter = given.payload_converter_class
    if payload_converter is DefaultPayloadConverter:
        payload_converter = PydanticPayloadConverter
    elif not issubclass(payload_converter, PydanticPayloadConverter):
        raise InvalidRequestError(
            f"the client's payload converter {payload_converter.__name__} does not read pydantic models; derive it "
            "from temporalio.contrib.pydantic.PydanticPayloadConverter"
        )
    codec = given.payload_codec or ours.payload_codec
    if not isinstance(codec, EncryptionCodec) and load_keys(os.environ):
        raise InvalidRequestError(
            f"{KEYS_VARIABLE} is set and the client has another payload codec; encrypt with one of the two"
        )
    plain_failures = given.failure_converter_class is DefaultFailureConverter
    return replace(
        given,
        payload_converter_class=payload_converter,
        payload_codec=codec,
        failure_converter_class=ours.failure_converter_class if plain_failures else given.failure_converter_class,
    )


def _with_our_modules(runner: WorkflowRunner | None) -> WorkflowRunner:
    """The worker's runner. Its sandbox does not import our contract again for each call.

    Nor litellm: that has put a filter on every logger, which imports parts of it for each record. In a sandbox the
    import is refused, so a workflow that logs would be stuck.
    """
    if isinstance(runner, SandboxedWorkflowRunner):
        return replace(runner, restrictions=runner.restrictions.with_passthrough_modules("durable_llm", "litellm"))
    return runner or UnsandboxedWorkflowRunner()


class HeartbeatTimeout(Interceptor):
    """Gives this worker's heartbeat timeout to its calls, because a workflow must not read the environment.

    A replay does not compare an activity's timeouts, so workers may differ.
    """

    def __init__(self, heartbeat_timeout: timedelta, *, has_store: bool = False) -> None:
        self._heartbeat_timeout = heartbeat_timeout
        self._has_store = has_store

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002  # Temporal's own name for it
    ) -> type[WorkflowInboundInterceptor] | None:
        """Register the function, and refuse what no client of ours starts."""
        input.unsafe_extern_functions[HEARTBEAT_TIMEOUT_FUNCTION] = lambda: self._heartbeat_timeout
        if self._has_store:
            input.unsafe_extern_functions[STORE_FUNCTION] = lambda: None
        return RefuseSurplusArguments


def _others(attempts: "ProviderAttempts") -> "list[Callable[..., Any]]":
    """The activities of providers' batches and of quotas. A test's own attempts have none."""
    from .rooms import activities  # noqa: PLC0415  # as in build_attempts

    if not isinstance(attempts, activities.ProviderAttempts):
        return []
    batches = activities.ProviderBatches(attempts)
    return [batches.send, batches.poll, batches.cancel, batches.settle, activities.set_quota_rate]


def build_attempts(
    settings: WorkerSettings, environment: Mapping[str, str], converter: DataConverter | None = None
) -> "ProviderAttempts":
    """The activity, with the operator's keys and addresses and the store of large prompts.

    Args:
        settings: The checked settings.
        environment: The variables that hold keys.
        converter: Decodes prompts. None: the converter of the worker's client.

    Raises:
        SettingsError: a list of keys or hosts cannot be read, a plugin cannot be loaded, or the store cannot be used;
            names the variable.
    """
    from .rooms import activities  # noqa: PLC0415  # litellm takes seconds to import, and a client does not need it

    try:
        keys = activities.KeyRing.from_settings(
            environment, keys=settings.keys, hosts=settings.api_base_hosts, secrets_dir=settings.secrets_dir
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None
    try:
        registry = activities.Registry.load(settings.plugins)
    except activities.PluginError as error:
        raise SettingsError(f"DURABLE_LLM_PLUGINS or an installed plugin: {error}") from None
    try:
        activities.set_prices(prices_of(settings))
    except ValidationError as error:
        raise SettingsError(f"DURABLE_LLM_PRICES: {describe_validation_error(error)}") from None
    return activities.ProviderAttempts(
        keys,
        heartbeat_interval=settings.heartbeat_interval,
        also_allowed=settings.extra_params,
        store=store_of(settings),
        registry=registry,
        validator_timeout=timedelta(seconds=settings.validator_timeout_s),
        converter=converter,
        streams=streams_of(settings),
        batch_window=timedelta(seconds=settings.batch_window_s),
        quotas=quotas_of(settings),
    )
