"""What the front counts for Prometheus. No tenant and no text is in it."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Counts of one front."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "durable_llm_front_requests", "Requests that have ended.", ("route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "durable_llm_front_request_seconds", "Seconds until a request has ended, its stream included.", ("route",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.open = Gauge("durable_llm_front_open_requests", "Requests that are open now.", registry=self._registry)

    def response(self) -> Response:
        """The metrics as Prometheus reads them."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class CountRequests:
    """Middleware that counts the requests of `app`.

    Args:
        app: What answers them.
        metrics: Where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and count it. One without a status was left by its client: 499, as in nginx."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = "499", time.perf_counter()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        with self._metrics.open.track_inprogress():
            try:
                await self._app(scope, receive, sent)
            finally:
                route = getattr(scope.get("route"), "path", "none")  # never the address, which has ids
                self._metrics.requests.labels(route, status).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - begun)
