"""A raw HTTP server that plays the bytes and faults of the failure corpus, and records what it was sent."""

import asyncio
import json
import re
import socket
import struct
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

_REASONS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 429: "Too Many Requests"}


class Wire:
    """One scripted server: each request is served `case`, and those after it what its "then" says.

    A case with "by_request" is a function that makes each request's case of its JSON body.
    """

    def __init__(self, case: dict) -> None:
        self.case = case
        self.requests: list[bytes] = []
        self.closed = asyncio.Event()
        """Set when a client closed a connection that was still owed a response."""
        self.asked = asyncio.Event()
        self.port = 0
        self.open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while request := await _read_request(reader):
                self.requests.append(request)
                self.asked.set()
                case = self.case
                self.case = case.get("then", case)
                if by_request := case.get("by_request"):
                    case = by_request(json.loads(request.partition(b"\r\n\r\n")[2]))
                stays = await self._play(case, reader, writer)
                if not stays:
                    return
        except (ConnectionError, asyncio.CancelledError):  # a test that ended took its server along
            self.closed.set()
        finally:
            self.open.discard(writer)
            writer.close()

    async def _play(self, case: dict, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send what the case says; whether the connection stays open."""
        fault = case.get("fault")
        body = _body(case)
        match fault:
            case "reset_before_response":
                _reset(writer)
                return False
            case "close_before_response":
                return False
            case "timeout":
                await reader.read()
                self.closed.set()
                return False
            case "fin_after":
                await asyncio.sleep(case["after_s"])
                return False
            case "steps":
                await self._step(case, writer)
                return False
            case "slow_drip":
                await self._drip(case, reader, writer, body)
                return False
            case "reset_mid_body":
                writer.write(_head(case, len(body) + 1000) + body)
                await writer.drain()
                _reset(writer)
                return False
            case "truncated_json":
                body = body[: len(body) // 2]
        writer.write(_head(case, len(body)) + body)
        await writer.drain()
        return True

    async def _step(self, case: dict, writer: asyncio.StreamWriter) -> None:
        """Play `steps`: pieces of an event stream, pauses, and how the connection ends."""
        writer.write(_head(case, None))
        for step, *values in case["steps"]:
            match step:
                case "data":
                    piece = values[0].encode()
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                case "sleep":
                    await asyncio.sleep(values[0])
                case "wait":
                    await values[0].wait()
                case "end":
                    writer.write(b"0\r\n\r\n")
                    await writer.drain()
                case "reset":
                    _reset(writer)

    async def _drip(self, case: dict, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        count, pause = case.get("drip_n", 1000), case.get("drip_s", 0.05)
        writer.write(_head(case, len(body) + count))
        gone = asyncio.create_task(reader.read())
        for _ in range(count):
            writer.write(b"\n")
            await asyncio.wait([gone], timeout=pause)
            if gone.done():
                self.closed.set()
                return
        writer.write(body)
        await writer.drain()
        gone.cancel()


@asynccontextmanager
async def playing(case: dict):
    """A running Wire for `case`; with fault connection_refused, a port that nobody listens on."""
    wire = Wire(case)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    if case.get("fault") == "connection_refused":
        server.close()
        await server.wait_closed()
    try:
        yield wire
    finally:
        server.close()
        for writer in list(wire.open):  # a client may keep its connection, and the next server may get the same port
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    length = re.search(rb"(?i)content-length:\s*(\d+)", head)
    return head + (await reader.readexactly(int(length.group(1))) if length else b"")


def _body(case: dict) -> bytes:
    if "raw" in case:
        return case["raw"]
    body = case.get("body")
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _head(case: dict, length: int | None) -> bytes:
    status = case.get("http_status") or 200
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", framing]
    kind = "text/event-stream" if length is None else "application/json"
    headers = {"content-type": kind, **(case.get("headers") or {})}
    lines += [f"{name}: {_filled(value)}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _filled(value: str) -> str:
    def moment(match: re.Match) -> str:
        at = datetime.now(UTC) + timedelta(seconds=float(match.group(2)))
        return format_datetime(at, usegmt=True) if match.group(1) == "http_date" else at.isoformat()

    return re.sub(r"\{\{(http_date|rfc3339)\+([\d.]+)\}\}", moment, str(value))


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
