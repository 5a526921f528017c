"""The worker process: polls one task queue, runs calls and attempts, and drains when it is told to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import (
    Plugin,
    PollerBehaviorAutoscaling,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from durable_llm.client.connection import check_namespace, connect_client, missing_search_attributes
from durable_llm.contract import search_attributes

from .heartbeat_timeout import HeartbeatTimeout
from .rooms.activities import KeyRing, PluginError, ProviderAttempts, Registry
from .rooms.workflows import LLMCall
from .settings import SettingsError, WorkerSettings, store_of
from .versioning import say_who_gets_calls, versioning_options

logger = logging.getLogger("durable_llm.worker")

# Measured at 50 callers: the SDK's default of five pollers let new calls starve behind sticky ones, p99 5.6 s; these
# gave 1.7 s at the same throughput.
_POLLERS = PollerBehaviorAutoscaling(initial=10, minimum=2, maximum=50)

_STICKY_TIMEOUT = timedelta(seconds=2)
"""How long a call waits for the worker that had it in its cache before any other may take it."""


def build_worker(
    client: Client, settings: WorkerSettings, attempts: ProviderAttempts, plugins: Sequence[Plugin] = ()
) -> Worker:
    """A Temporal worker for calls and attempts on the settings' task queue."""
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=[LLMCall],
        activities=[attempts.provider_attempt],
        interceptors=[HeartbeatTimeout(timedelta(seconds=settings.heartbeat_timeout_s))],
        plugins=plugins,
        **worker_options(settings),
    )


def worker_options(settings: WorkerSettings) -> dict[str, Any]:
    """How a worker of ours polls, caches and stops: Temporal's own options, as the settings say."""
    heartbeat_interval = timedelta(seconds=settings.heartbeat_interval_s)
    return {
        "workflow_runner": _runner(settings.sandbox),
        "max_cached_workflows": settings.max_cached_workflows,
        "max_concurrent_activities": settings.max_concurrent_attempts,
        "max_concurrent_workflow_tasks": settings.max_concurrent_workflow_tasks,
        "workflow_task_poller_behavior": _POLLERS,
        "activity_task_poller_behavior": _POLLERS,
        "sticky_queue_schedule_to_start_timeout": _STICKY_TIMEOUT,
        "graceful_shutdown_timeout": timedelta(seconds=settings.graceful_shutdown_s),
        "max_heartbeat_throttle_interval": heartbeat_interval,
        "default_heartbeat_throttle_interval": heartbeat_interval,
        **versioning_options(settings),
    }


def build_attempts(settings: WorkerSettings, environment: Mapping[str, str]) -> ProviderAttempts:
    """The activity, with the keys and addresses that the operator allows, and the store of large prompts.

    Raises:
        SettingsError: a list of keys or hosts cannot be read, a plugin not be loaded, or the store not be used; names
            the variable.
    """
    try:
        keys = KeyRing.from_settings(
            environment, keys=settings.keys, hosts=settings.api_base_hosts, secrets_dir=settings.secrets_dir
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return ProviderAttempts(
        keys,
        heartbeat_interval=timedelta(seconds=settings.heartbeat_interval_s),
        also_allowed=settings.extra_params,
        store=store_of(settings),
        registry=_registry(settings.plugins),
        validator_timeout=timedelta(seconds=settings.validator_timeout_s),
    )


def _registry(plugins: Sequence[str]) -> Registry:
    try:
        return Registry.load(plugins)
    except PluginError as error:
        raise SettingsError(f"DURABLE_LLM_PLUGINS or an installed plugin: {error}") from None


def _runner(sandbox: bool) -> WorkflowRunner:
    if not sandbox:
        return UnsandboxedWorkflowRunner()
    restrictions = SandboxRestrictions.default.with_passthrough_modules("durable_llm")
    return SandboxedWorkflowRunner(restrictions=restrictions)


async def run_worker(settings: WorkerSettings, announce: Callable[[str], None], plugins: Sequence[Plugin] = ()) -> None:
    """Work until SIGTERM or SIGINT, then drain: open attempts get `graceful_shutdown_s` to finish.

    Args:
        settings: The checked settings.
        announce: Told in one line when the worker polls.
        plugins: Temporal's plugins for the worker: its telemetry, if it has any.

    Raises:
        DurableLLMError: no server or no namespace.
        SettingsError: a setting of keys, hosts or the store is unusable; names the variable.
    """
    attempts = build_attempts(settings, os.environ)
    wait = timedelta(seconds=settings.connect_wait_s)
    client = await connect_client(wait=wait)
    await check_namespace(client, want_search_attributes=False, wait=wait)
    await _warn_of_missing_search_attributes(client)
    await say_who_gets_calls(client, settings)
    stop = _stop_on_signals()
    worker = build_worker(client, settings, attempts, plugins)
    working = asyncio.create_task(worker.run())
    announce(
        f"worker ready: task queue {settings.task_queue!r} at {client.service_client.config.target_host} "
        f"(namespace {client.namespace}), pid {os.getpid()}"
    )
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        logger.info("draining: open attempts get %g s to finish", settings.graceful_shutdown_s)
        await worker.shutdown()
    stopping.cancel()
    await working


async def _warn_of_missing_search_attributes(client: Client) -> None:
    """Clients refuse to submit without them unless told to do without, so a worker may run; it says what is missing."""
    try:
        absent = await search_attributes.missing(client)
    except RPCError as error:
        logger.warning("search attributes are not checked: %s", error.message)
        return
    if absent:
        logger.warning("%s", missing_search_attributes(client, absent))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
