"""The endpoints of files and batches, https://platform.openai.com/docs/api-reference/batch."""

import hashlib
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.client.listing import quoted
from durable_llm.client.tokens import Token
from durable_llm.errors import CallConflictError, InvalidRequestError

from ..access import RefusedError
from ..front import Front, body_of, key_of
from ..wires.checks import object_of, text_of
from .files import Files, file_object
from .lines import read_lines
from .workflow import BatchCounts, BatchEnd, BatchOrder, LLMBatch

_WINDOW: Final = re.compile(r"([1-9][0-9]{0,2})([hd])")
_LONGEST: Final = timedelta(days=30)
_FIELDS: Final = {"completion_window", "endpoint", "input_file_id", "metadata"}
_MEMO: Final = "batch"
_PAGE: Final = 20


class BatchEndpoints:
    """The endpoints of files and batches.

    Args:
        front: What all endpoints share.
        files: Where files are.
        client: Temporal's client, on which batches are workflows.
        task_queue: Where fronts look for batches.
    """

    def __init__(self, front: Front, files: Files, client: Client, task_queue: str) -> None:
        self._front = front
        self._files = files
        self._client = client
        self._task_queue = task_queue

    def routes(self) -> list[Route]:
        """Where they are."""
        on = self._front.endpoint
        return [
            Route("/v1/files", on(self._upload), methods=["POST"]),
            Route("/v1/files/{file_id}", on(self._file), methods=["GET"]),
            Route("/v1/files/{file_id}/content", on(self._content), methods=["GET"]),
            Route("/v1/batches", on(self._create), methods=["POST"]),
            Route("/v1/batches", on(self._list), methods=["GET"]),
            Route("/v1/batches/{batch_id}", on(self._fetch), methods=["GET"]),
            Route("/v1/batches/{batch_id}/cancel", on(self._cancel), methods=["POST"]),
        ]

    async def _upload(self, request: Request, caller: Token) -> Response:
        async with request.form() as form:
            uploaded, purpose = form.get("file"), form.get("purpose")
            if not isinstance(uploaded, UploadFile) or purpose != "batch":
                raise InvalidRequestError("expected a form with 'file' and the purpose 'batch'")
            try:
                text = (await uploaded.read()).decode("utf-8-sig")
            except UnicodeDecodeError:
                raise InvalidRequestError("file: not UTF-8 text") from None
            file_id, file = await self._files.put(caller.tenant, uploaded.filename or "file", "batch", text)
        return JSONResponse(file_object(file_id, file))

    async def _file(self, request: Request, caller: Token) -> Response:
        file_id = request.path_params["file_id"]
        return JSONResponse(file_object(file_id, await self._files.get(caller.tenant, file_id)))

    async def _content(self, request: Request, caller: Token) -> Response:
        file = await self._files.get(caller.tenant, request.path_params["file_id"])
        return PlainTextResponse(file.text, media_type="application/jsonl")

    async def _create(self, request: Request, caller: Token) -> Response:
        """Check all lines, and start the batch. The same key is the same batch."""
        body = object_of("body", await body_of(request))
        if unknown := sorted(body.keys() - _FIELDS):
            raise InvalidRequestError(f"body: {unknown[0]!r} is not supported here")
        endpoint, file_id = (text_of(name, body.get(name)) for name in ("endpoint", "input_file_id"))
        metadata = dict(object_of("metadata", body.get("metadata") or {}))
        window = body.get("completion_window")
        file = await self._files.get(caller.tenant, file_id)
        lines = read_lines(file.text, endpoint, self._front.chains, caller)
        key = key_of(request)
        batch_id = f"batch_{hashlib.sha256(key.encode()).hexdigest()[:32] if key else uuid.uuid4().hex}"
        told = {
            "completion_window": window, "endpoint": endpoint, "input_file_id": file_id, "metadata": metadata,
            "total": len(lines),
        }  # fmt: skip
        order = BatchOrder(
            tenant=caller.tenant, chains=None if caller.chains is None else list(caller.chains), batch_id=batch_id,
            input_file=file_id, endpoint=endpoint, deadline=datetime.now(UTC) + _window(window),
        )  # fmt: skip
        replayed = not await self._start(order, told)
        found, known = await self._described(batch_id, caller)
        if {**known, "total": 0} != {**told, "total": 0}:
            raise CallConflictError("the key belongs to another batch; use another one", differing=("body",))
        headers = {"idempotent-replayed": "true" if replayed else "false"}
        return JSONResponse(await self._shown(found, known), headers=headers)

    async def _start(self, order: BatchOrder, told: dict[str, Any]) -> bool:
        """Start the batch. False: it was there."""
        try:
            await self._client.start_workflow(
                LLMBatch.run, order, id=f"{order.tenant}/{order.batch_id}", task_queue=self._task_queue,
                memo={_MEMO: told}, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                static_summary=f"{told['total']} lines for {order.endpoint}",
            )  # fmt: skip
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _list(self, request: Request, caller: Token) -> Response:
        """The caller's batches, the latest first. `after` is the last one of the page before."""
        limit = _limit(request.query_params.get("limit"))
        query = f"WorkflowType = 'LLMBatch' AND WorkflowId STARTS_WITH {quoted(f'{caller.tenant}/batch_')}"
        ids = [each.id.partition("/")[2] async for each in self._client.list_workflows(query)]
        after = request.query_params.get("after")
        ids = ids[ids.index(after) + 1 :] if after in ids else ids
        data = [await self._shown(*await self._described(each, caller)) for each in ids[:limit]]
        page = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        return JSONResponse({"object": "list", "data": data, **page, "has_more": len(ids) > limit})

    async def _fetch(self, request: Request, caller: Token) -> Response:
        return JSONResponse(await self._shown(*await self._described(request.path_params["batch_id"], caller)))

    async def _cancel(self, request: Request, caller: Token) -> Response:
        batch_id = request.path_params["batch_id"]
        found, known = await self._described(batch_id, caller)
        await self._client.get_workflow_handle(found.id).cancel()
        shown = await self._shown(found, known)
        return JSONResponse({**shown, "status": "cancelling"} if shown["status"] == "in_progress" else shown)

    async def _described(self, batch_id: str, caller: Token) -> tuple[WorkflowExecutionDescription, dict[str, Any]]:
        """What Temporal knows of a batch, and what it was told.

        Raises:
            RefusedError: there is no such batch.
            RPCError: the server refused.
        """
        try:
            found = await self._client.get_workflow_handle(f"{caller.tenant}/{batch_id}").describe()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            raise RefusedError(404, f"there is no batch {batch_id[:100]!r}", "not_found") from None
        if found.workflow_type != "LLMBatch":
            raise RefusedError(404, f"there is no batch {batch_id[:100]!r}", "not_found")
        return found, await found.memo_value(_MEMO, type_hint=dict[str, Any])

    async def _shown(self, found: WorkflowExecutionDescription, known: dict[str, Any]) -> dict[str, Any]:
        """A batch as OpenAI's API shows it."""
        end = await self._end(found)
        counts = end or await self._counts(found)
        status = _status(found, end)
        began, closed = int(found.start_time.timestamp()), found.close_time and int(found.close_time.timestamp())
        return {
            "id": found.id.partition("/")[2], "object": "batch", "endpoint": known["endpoint"],
            "errors": await self._errors(found),
            "input_file_id": known["input_file_id"], "completion_window": known["completion_window"], "status": status,
            "output_file_id": end and end.output_file, "error_file_id": end and end.error_file,
            "created_at": began, "in_progress_at": began,
            "expires_at": began + int(_window(known["completion_window"]).total_seconds()),
            **({f"{status}_at": closed} if closed else {}),
            "request_counts": {"total": known["total"], "completed": counts.completed, "failed": counts.failed},
            "metadata": known["metadata"] or None,
        }  # fmt: skip

    async def _end(self, found: WorkflowExecutionDescription) -> BatchEnd | None:
        """How the batch has ended; None if it runs, or has no result."""
        if found.status != WorkflowExecutionStatus.COMPLETED:
            return None
        end: BatchEnd = await self._client.get_workflow_handle(found.id, result_type=BatchEnd).result()
        return end

    async def _errors(self, found: WorkflowExecutionDescription) -> dict[str, Any] | None:
        """Why a batch has failed as a whole; None if it has not."""
        if found.status != WorkflowExecutionStatus.FAILED:
            return None
        try:
            await self._client.get_workflow_handle(found.id).result()
        except WorkflowFailureError as failure:
            cause = getattr(failure.cause, "cause", None) or failure.cause
            return {"object": "list", "data": [{"code": "batch_failed", "message": str(cause), "line": None}]}
        return None

    async def _counts(self, found: WorkflowExecutionDescription) -> BatchCounts:
        """How far a running batch is, by its last heartbeat."""
        pending = found.raw_description.pending_activities
        if not pending or not pending[0].heartbeat_details.payloads:
            return BatchCounts()
        counts: list[BatchCounts] = await self._client.data_converter.decode(
            pending[0].heartbeat_details.payloads, [BatchCounts]
        )
        return counts[0]


def _status(found: WorkflowExecutionDescription, end: BatchEnd | None) -> str:
    if end is not None:
        return "cancelled" if end.cancelled else "expired" if end.expired else "completed"
    if found.status == WorkflowExecutionStatus.RUNNING:
        cancelled = found.raw_description.workflow_extended_info.cancel_requested
        return "cancelling" if cancelled else "in_progress"
    return "cancelled" if found.status == WorkflowExecutionStatus.CANCELED else "failed"


def _window(written: object) -> timedelta:
    """The time of a batch: `24h`, or another number of hours or days.

    Raises:
        InvalidRequestError: it is none.
    """
    found = _WINDOW.fullmatch(written) if isinstance(written, str) else None
    window = timedelta(hours=int(found[1]) * (24 if found[2] == "d" else 1)) if found else None
    if window is None or window > _LONGEST:
        raise InvalidRequestError("completion_window: expected '24h', or another time of up to '30d'")
    return window


def _limit(written: str | None) -> int:
    if written is None:
        return _PAGE
    if not written.isdigit() or not 1 <= int(written) <= 100:
        raise RefusedError(400, "limit: expected a number from 1 to 100")
    return int(written)
