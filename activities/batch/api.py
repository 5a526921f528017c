"""The Batch APIs of OpenAI and Anthropic, asked with the address and the headers of an attempt's own request.

https://platform.openai.com/docs/api-reference/batch
https://docs.anthropic.com/en/api/creating-message-batches
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx

from durable_llm.contract.request import SentBatch

TIMEOUT_S: Final = 110.0
"""Seconds of one request; an upload may take long."""

_BODY: Final = 20_000
"""Characters of a refusal that are kept."""

_NOT_SENT: Final = frozenset({"content-length", "content-type", "accept-encoding", "host", "connection", "accept"})


@dataclass(frozen=True)
class Result:
    """What became of a line.

    Attributes:
        status: HTTP status.
        body: Of the response.
    """

    status: int
    body: bytes


class BatchApi(Protocol):
    """One provider's Batch API. Each method raises httpx.HTTPError if nobody answers."""

    async def create(self, bodies: Mapping[int, Any]) -> SentBatch:
        """Send a batch of these bodies, by the places of their lines."""
        ...

    async def has_ended(self, batch_id: str) -> bool:
        """Whether all lines have ended."""
        ...

    async def results(self, batch_id: str) -> dict[int, Result]:
        """What became of the lines, by their places. Those that expired or were cancelled are missing."""
        ...

    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop."""
        ...


def api_of(request: httpx.Request) -> BatchApi:
    """The Batch API of the provider that a line's request goes to: Chat Completions or Messages."""
    url = str(request.url)
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_SENT}
    if url.endswith("/chat/completions"):
        return _OpenAI(url.removesuffix("/chat/completions"), headers)
    return _Anthropic(f"{url}/batches", headers)


class _Http:
    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        self._address = address
        self._headers = headers

    async def _ask(self, method: str, path: str, **what: Any) -> httpx.Response:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=self._headers) as client:
            return await client.request(method, f"{self._address}{path}", **what)

    async def _get(self, path: str) -> httpx.Response:
        response = await self._ask("GET", path)
        return response.raise_for_status()


class _OpenAI(_Http):
    _ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})

    async def create(self, bodies: Mapping[int, Any]) -> SentBatch:
        lines = "\n".join(
            json.dumps({"custom_id": str(place), "method": "POST", "url": "/v1/chat/completions", "body": body})
            for place, body in bodies.items()
        )
        files = {"file": ("batch.jsonl", lines.encode(), "application/jsonl")}
        uploaded = await self._ask("POST", "/files", data={"purpose": "batch"}, files=files)
        if not uploaded.is_success:
            return _refused(uploaded)
        order = {
            "input_file_id": uploaded.json()["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h",
        }  # fmt: skip
        return _sent(await self._ask("POST", "/batches", json=order))

    async def has_ended(self, batch_id: str) -> bool:
        return (await self._get(f"/batches/{batch_id}")).json().get("status") in self._ENDED

    async def results(self, batch_id: str) -> dict[int, Result]:
        batch = (await self._get(f"/batches/{batch_id}")).json()
        found: dict[int, Result] = {}
        for file_id in (batch.get("output_file_id"), batch.get("error_file_id")):
            text = (await self._get(f"/files/{file_id}/content")).text if file_id else ""
            for line in map(json.loads, filter(None, text.splitlines())):
                if response := line.get("response"):
                    body = json.dumps(response["body"]).encode()
                    found[int(line["custom_id"])] = Result(int(response["status_code"]), body)
        return found

    async def cancel(self, batch_id: str) -> None:
        await self._ask("POST", f"/batches/{batch_id}/cancel")


class _Anthropic(_Http):
    _STATUS: Final = {
        "invalid_request_error": 400, "authentication_error": 401, "permission_error": 403, "not_found_error": 404,
        "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "overloaded_error": 529,
    }  # fmt: skip
    """Statuses of errors, https://docs.anthropic.com/en/api/errors."""

    async def create(self, bodies: Mapping[int, Any]) -> SentBatch:
        requests = [{"custom_id": str(place), "params": body} for place, body in bodies.items()]
        return _sent(await self._ask("POST", "", json={"requests": requests}))

    async def has_ended(self, batch_id: str) -> bool:
        return bool((await self._get(f"/{batch_id}")).json().get("processing_status") == "ended")

    async def results(self, batch_id: str) -> dict[int, Result]:
        found: dict[int, Result] = {}
        for line in map(json.loads, filter(None, (await self._get(f"/{batch_id}/results")).text.splitlines())):
            match line["result"]:
                case {"type": "succeeded", "message": message}:
                    found[int(line["custom_id"])] = Result(200, json.dumps(message).encode())
                case {"type": "errored", "error": error}:
                    kind = (error.get("error") or error).get("type")
                    found[int(line["custom_id"])] = Result(self._STATUS.get(kind, 500), json.dumps(error).encode())
        return found

    async def cancel(self, batch_id: str) -> None:
        await self._ask("POST", f"/{batch_id}/cancel")


def _sent(response: httpx.Response) -> SentBatch:
    return SentBatch(batch_id=str(response.json()["id"])) if response.is_success else _refused(response)


def _refused(response: httpx.Response) -> SentBatch:
    return SentBatch(status=response.status_code, headers=dict(response.headers), body=response.text[:_BODY])
