"""The worker process: polls one task queue, runs calls and attempts, and drains on a signal."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from durable_llm.background import running
from durable_llm.client.connection import check_namespace, connect_client, missing_search_attributes
from durable_llm.contract import search_attributes

from .health import Health, serve_sdk_metrics, serving_health
from .http import listening
from .logs import show_logs
from .plugin import DurableLLMPlugin, build_attempts
from .settings import PREFIX, WorkerSettings, load_settings
from .telemetry.exporting import unfinished_gauge
from .unfinished import count_unfinished
from .versioning import log_current_version, versioning_options
from .watchdog import watching_the_loop

if TYPE_CHECKING:
    from .rooms.activities import ProviderAttempts

logger = logging.getLogger("durable_llm.worker")

# Measured at 50 callers: with the SDK's default of five pollers new calls waited behind sticky ones, p99 5.6 s. With
# these it was 1.7 s at the same throughput.
_POLLERS = PollerBehaviorAutoscaling(initial=10, minimum=2, maximum=50)

HTTP_PORT = f"{PREFIX}HTTP_PORT"

_STICKY_TIMEOUT = timedelta(seconds=2)
"""How long a call waits for the worker that has it in its cache before another may take it."""


def build_worker(client: Client, settings: WorkerSettings, attempts: "ProviderAttempts | None" = None) -> Worker:
    """A Temporal worker for calls and attempts on the settings' task queue.

    Args:
        client: A connected client.
        settings: The checked settings.
        attempts: The activity. None: real attempts.

    Raises:
        SettingsError: a setting of keys, hosts, plugins or the store cannot be used; names the variable.
    """
    return _worker_with(client, settings, DurableLLMPlugin(settings, attempts=attempts))


def _worker_with(client: Client, settings: WorkerSettings, plugin: DurableLLMPlugin) -> Worker:
    return Worker(client, task_queue=settings.task_queue, plugins=[plugin], **worker_options(settings))


def worker_options(settings: WorkerSettings) -> dict[str, Any]:
    """Temporal's options for polling, caching and stopping, from the settings."""
    return {
        "workflow_runner": SandboxedWorkflowRunner() if settings.sandbox else UnsandboxedWorkflowRunner(),
        "max_cached_workflows": settings.max_cached_workflows,
        "max_concurrent_activities": settings.max_concurrent_attempts,
        "workflow_task_poller_behavior": _POLLERS,
        "activity_task_poller_behavior": _POLLERS,
        "sticky_queue_schedule_to_start_timeout": _STICKY_TIMEOUT,
        "graceful_shutdown_timeout": timedelta(seconds=settings.graceful_shutdown_s),
        **versioning_options(settings),
    }


async def run_worker(announce: Callable[[str], None]) -> None:
    """Work until SIGTERM or SIGINT, then drain: open attempts get `graceful_shutdown_s` to finish.

    Args:
        announce: Called with one line when the worker polls.

    Raises:
        SettingsError: a setting cannot be used; names the variable.
        DurableLLMError: no server, or no such namespace.
    """
    settings = load_settings()
    logs = show_logs(settings)
    listener = None if settings.http_port is None else listening(settings.http_host, settings.http_port, HTTP_PORT)
    sdk_metrics = serve_sdk_metrics() if listener else None
    attempts = build_attempts(settings, os.environ)  # before connecting: a wrong setting is reported at once
    logs.clean = attempts.clean_log
    wait = timedelta(seconds=settings.connect_wait_s)
    client = await connect_client(wait=wait)
    await check_namespace(client, want_search_attributes=False, wait=wait)
    await _warn_of_missing_search_attributes(client)
    await log_current_version(client, settings)
    await attempts.warm_up()
    gc.collect()
    gc.freeze()  # what is loaded now stays; each full collection of it would stop the event loop for 0.2 s
    health = Health(client, settings.task_queue, attempts.missing_keys, attempts.recent.by_provider)
    async with watching_the_loop(settings.heartbeat_timeout_s), AsyncExitStack() as stack:
        if listener is not None:
            await stack.enter_async_context(serving_health(health, sdk_metrics, stack.enter_context(listener)))
            if (gauge := unfinished_gauge()) is not None:
                await stack.enter_async_context(running(count_unfinished(client, settings.task_queue, gauge)))
            logger.info("its health is at http://%s:%d/readyz", *listener.getsockname()[:2])
        await _work(client, settings, attempts, health, announce)


async def _work(
    client: Client, settings: WorkerSettings, attempts: "ProviderAttempts", health: Health,
    announce: Callable[[str], None],
) -> None:  # fmt: skip
    """Poll until a signal, then drain."""
    stop = _stop_on_signals()
    plugin = DurableLLMPlugin(settings, attempts=attempts)
    worker = _worker_with(client, settings, plugin)
    working = asyncio.create_task(worker.run())
    announce(
        f"worker ready: task queue {settings.task_queue!r} at {client.service_client.config.target_host} "
        f"(namespace {client.namespace}), pid {os.getpid()}"
    )
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        health.draining = True
        logger.info("draining: open attempts get %g s to finish", settings.graceful_shutdown_s)
        await plugin.shutdown(worker)
    stopping.cancel()
    await working


async def _warn_of_missing_search_attributes(client: Client) -> None:
    """Log missing search attributes. The worker runs without them; clients refuse to submit unless told otherwise."""
    try:
        absent = await search_attributes.missing(client)
    except RPCError as error:
        logger.warning("cannot check the search attributes: %s", error.message)
        return
    if absent:
        logger.warning("%s", missing_search_attributes(client, absent))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
