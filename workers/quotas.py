"""The quotas of one worker: it polls their task queues, says what is declared, and shares limits of concurrency."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    Interceptor,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    Worker,
    WorkerTuner,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.names import DECLARE_SIGNAL, QUOTA_QUEUE_FUNCTION, QUOTA_WORKFLOW
from durable_llm.contract.quotas import (
    Quota,
    QuotaLimits,
    Quotas,
    is_learned,
    learned_name,
    of_quota_queue,
    quota_queue,
)

logger = logging.getLogger("durable_llm.worker")

COUNT_EVERY_S: Final = 10.0
"""How often a worker counts those that share a limit of concurrency, and says what is declared."""

LEARN_EVERY_S: Final = 5.0
"""How often a worker looks for limits that other workers have met."""

_MOST_LEARNED: Final = 200
_COUNTING: Final = timedelta(seconds=5)

_SHARED_OPTIONS: Final = (
    "interceptors", "graceful_shutdown_timeout", "max_heartbeat_throttle_interval",
    "default_heartbeat_throttle_interval", "activity_task_poller_behavior", "identity",
)  # fmt: skip

Tell = Callable[[Client, str, QuotaLimits, str, QuotaLimits], Awaitable[None]]
"""`tell_quota` of the activities."""


class QuotaQueues(Interceptor):
    """Tells this worker's calls the task queue of a model's quota.

    Attributes:
        learned: Names of the quotas that were learned, whose queues this worker polls.
    """

    def __init__(self, task_queue: str, quotas: Quotas) -> None:
        self._task_queue = task_queue
        self._quotas = quotas
        self.learned: frozenset[str] = frozenset()

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002  # Temporal's own name for it
    ) -> type[WorkflowInboundInterceptor] | None:
        """Register the function."""
        input.unsafe_extern_functions[QUOTA_QUEUE_FUNCTION] = self._queue_of
        return None

    def _queue_of(self, spec: ModelSpecOnWire) -> str | None:
        quota = self._quotas.of(spec)
        if quota is None and not self.learned:
            return None
        name = quota.name if quota else learned_name(spec)
        return quota_queue(self._task_queue, name) if quota or name in self.learned else None


class SharedSlots(CustomSlotSupplier):
    """This worker's share of a limit of concurrent requests.

    Args:
        limit: Requests at once, of all workers together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = limit
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()

    def divide(self, workers: int) -> None:
        """Take the share of one of `workers`: at least one request."""
        self._share = max(self._limit // max(workers, 1), 1)
        self._let_in()

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:  # noqa: ARG002  # the base class's
        """See base class."""
        while self._used >= self._share:
            turn = self._loop.create_future()
            self._waiting.append(turn)
            await turn
        self._used += 1
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:  # noqa: ARG002  # the base class's
        """See base class. It is for eager activities, and a quota's queue has none."""
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """See base class."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:  # noqa: ARG002  # the base class's
        """See base class. The SDK calls it from threads of its own."""
        self._loop.call_soon_threadsafe(self._released)

    def _released(self) -> None:
        self._used -= 1
        self._let_in()

    def _let_in(self) -> None:
        for _ in range(min(max(self._share - self._used, 0), len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)


class QuotaWorkers:
    """Polls the task queues of quotas beside a worker's own, and keeps the quotas' workflows running.

    Args:
        worker: The worker, whose options the others take.
        queues: Where calls learn of quotas.
        attempt: The activity.
        tell: Signals the workflow of a quota.
    """

    def __init__(self, worker: Worker, queues: QuotaQueues, attempt: Callable[..., Any], tell: Tell) -> None:
        self._config = worker.config(active_config=True)
        self._queues = queues
        self._attempt = attempt
        self._tell = tell
        self._polling: dict[str, Worker] = {}
        self._runs: list[asyncio.Task[None]] = []
        self._watches: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self, quotas: Quotas) -> AsyncIterator[None]:
        """Poll while the context lasts."""
        client = self._config["client"]
        for quota in quotas:
            slots = SharedSlots(quota.concurrent_requests) if quota.concurrent_requests is not None else None
            queue = self._poll(quota.name, slots)
            self._watches.append(asyncio.create_task(_attend(client, queue, quota, slots, self._tell)))
        self._watches.append(asyncio.create_task(self._learn(client)))
        try:
            yield
        finally:
            await self.shutdown()
            await asyncio.gather(*self._runs)

    async def shutdown(self) -> None:
        """Poll no more, and drain. It may be called again."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await asyncio.gather(*(polling.shutdown() for polling in self._polling.values()))

    def _poll(self, name: str, slots: SharedSlots | None = None) -> str:
        """Poll the queue of a quota; returns the queue."""
        queue = quota_queue(self._config["task_queue"], name)
        shared: dict[str, Any] = {option: self._config.get(option) for option in _SHARED_OPTIONS}
        most = self._config.get("max_concurrent_activities")
        room: dict[str, Any] = {"tuner": _tuner(slots)} if slots else {"max_concurrent_activities": most}
        polling = Worker(self._config["client"], task_queue=queue, activities=[self._attempt], **shared, **room)
        self._polling[name] = polling
        self._runs.append(asyncio.create_task(polling.run()))
        return queue

    async def _learn(self, client: Client) -> None:
        """Look which accounts have turned out to be limited, and which are no longer.

        Queues of those that are no longer are polled all the same: another worker may not know it yet.
        """
        query = f"WorkflowType = '{QUOTA_WORKFLOW}' AND TaskQueue = '{self._config['task_queue']}'"
        while True:
            try:
                limited = set()
                async for found in client.list_workflows(query, limit=_MOST_LEARNED):
                    name = of_quota_queue(found.id)[1] or ""
                    if not is_learned(name):
                        continue
                    if name not in self._polling:
                        logger.info("account %s is limited; its attempts go through one queue", name)
                        self._poll(name)
                    if found.status is WorkflowExecutionStatus.RUNNING:
                        limited.add(name)
                self._queues.learned = frozenset(limited)
            except RPCError as error:
                if error.status is RPCStatusCode.UNIMPLEMENTED:
                    return
            await asyncio.sleep(LEARN_EVERY_S)


def _tuner(slots: SharedSlots) -> WorkerTuner:
    unused = FixedSizeSlotSupplier(1)
    return WorkerTuner.create_composite(
        workflow_supplier=unused, activity_supplier=slots, local_activity_supplier=unused, nexus_supplier=unused
    )


async def _attend(client: Client, queue: str, quota: Quota, slots: SharedSlots | None, tell: Tell) -> None:
    """Say once what is declared, and count again and again who shares a limit of concurrency."""
    told = False
    while not told or slots is not None:
        try:
            if not told:
                await tell(client, queue, quota.limits, DECLARE_SIGNAL, quota.limits)
                told = True
            if slots is not None:
                slots.divide(await _workers_of(client, queue))
        except RPCError as error:
            logger.warning("quota %s: %s; trying again", quota.name, error.message)
        await asyncio.sleep(COUNT_EVERY_S)


async def _workers_of(client: Client, queue: str) -> int:
    """How many workers poll a queue; the server remembers a worker for five minutes."""
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        ),
        timeout=_COUNTING,
    )  # fmt: skip
    return len({poller.identity for poller in described.pollers})
