"""The worker over HTTP: whether it is alive, whether it is ready, and its metrics.

It is alive if it answers: its event loop turns. What providers do is beside that, so "the worker is alive and the
provider is dead" can be told apart. It is ready if the server sees it poll and its keys are there.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.request import urlopen

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError

FRESH: Final = timedelta(seconds=150)
"""A poll lasts a minute when there is nothing to do; twice that and some is a worker that has stopped polling."""

_RPC: Final = timedelta(seconds=5)
_LOOPBACK: Final = "127.0.0.1"
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Health:
    """What is known of one worker."""

    client: Client
    task_queue: str
    missing_keys: Callable[[], Sequence[str]]
    """References of the settings that lead to no key."""
    providers: Callable[[], Mapping[str, Any]]
    """How each provider has answered lately."""
    draining: bool = False

    async def problems(self) -> list[str]:
        """Why the worker is not ready; [] if it is."""
        found = ["it is draining"] if self.draining else []
        found += [f"the key {reference} is not there" for reference in self.missing_keys()]
        try:
            seen = await self._last_poll()
        except RPCError as error:
            return [*found, f"Temporal cannot be asked: {error.message}"]
        if seen is None or datetime.now(UTC) - seen > FRESH:
            found.append(f"Temporal has not seen it poll {self.task_queue!r} since {seen or 'its start'}")
        return found

    async def _last_poll(self) -> datetime | None:
        """When the server last saw this worker poll for calls."""
        told = await self.client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self.client.namespace, task_queue=TaskQueue(name=self.task_queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            ),
            timeout=_RPC,
        )  # fmt: skip
        ours = [poller for poller in told.pollers if poller.identity == self.client.identity]
        return max((poller.last_access_time.ToDatetime(tzinfo=UTC) for poller in ours), default=None)


def health_app(health: Health, sdk_metrics: str | None) -> Starlette:
    """`/livez`, `/readyz` and `/metrics`.

    Args:
        health: What is known of the worker.
        sdk_metrics: Where Temporal's SDK serves its own metrics.
    """

    async def alive(_: Request) -> Response:
        return JSONResponse({"status": "alive", "providers": health.providers()})

    async def ready(_: Request) -> Response:
        problems = await health.problems()
        body = {"status": "not ready" if problems else "ready", "problems": problems}
        return JSONResponse(body, 503 if problems else 200)

    async def metrics(_: Request) -> Response:
        sdk = await asyncio.to_thread(_fetch, sdk_metrics) if sdk_metrics else b""
        return Response(_own_metrics() + sdk, media_type=_TEXT)

    return Starlette(routes=[Route("/livez", alive), Route("/readyz", ready), Route("/metrics", metrics)])


@asynccontextmanager
async def serving_health(health: Health, sdk_metrics: str | None, listener: socket.socket) -> AsyncIterator[None]:
    """Answer while the context lasts."""
    config = uvicorn.Config(
        health_app(health, sdk_metrics), log_level="warning", access_log=False, server_header=False, lifespan="off"
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Leaves signals to the worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See base class."""
        yield


def serve_sdk_metrics() -> str:
    """Have Temporal's SDK count, before anything connects; returns the address of what it counts."""
    while True:
        with socket.create_server((_LOOPBACK, 0)) as probe:
            address = f"{_LOOPBACK}:{probe.getsockname()[1]}"
        config = PrometheusConfig(
            bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
        )
        try:
            Runtime.set_default(Runtime(telemetry=TelemetryConfig(metrics=config)))
        except OSError:  # somebody was faster
            continue
        return f"http://{address}/metrics"


def _fetch(url: str) -> bytes:
    with urlopen(url, timeout=5) as response:  # noqa: S310  # an address of our own
        content: bytes = response.read()
    return content


def _own_metrics() -> bytes:
    """What OpenTelemetry's exporter for Prometheus has collected; it is there if the extra `otel` is."""
    try:
        from prometheus_client import generate_latest  # noqa: PLC0415  # an optional package
    except ImportError:
        return b""
    return generate_latest()
