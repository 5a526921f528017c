"""The lines of OpenAI's Batch API: requests in one file, answers in another.

The answers' file is written line by line, and it is all that a second run needs: an answered line is not asked again,
and what is missing is asked under the same ids. See https://platform.openai.com/docs/api-reference/batch.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from durable_llm.client.openai_chat import ChatRequest, completion_of, read_chat_request
from durable_llm.contract.result import LLMResult
from durable_llm.errors import DurableLLMError, InvalidRequestError

URL: Final = "/v1/chat/completions"
_MOST_NAMED: Final = 20
"""Wrong lines that an error names."""


@dataclass(frozen=True)
class Line:
    """One request."""

    custom_id: str
    chat: ChatRequest


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers, read as they are needed.

    Raises:
        InvalidRequestError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except OSError as error:
        raise InvalidRequestError(f"FILE: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"FILE: {path} is not UTF-8 text (byte {error.start})") from None


def read_line(text: str) -> Line:
    """The request in a line.

    Raises:
        InvalidRequestError: it is none; says what to write instead.
    """
    try:
        written = json.loads(text)
    except ValueError:
        raise InvalidRequestError("it is not JSON") from None
    if not isinstance(written, dict):
        raise InvalidRequestError("expected a JSON object")
    custom_id = written.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise InvalidRequestError("no 'custom_id'; write a text that no other line has")
    if written.get("method", "POST") != "POST" or written.get("url", URL) != URL:
        raise InvalidRequestError(f"expected method POST and url {URL}")
    chat = read_chat_request(written.get("body"))
    if chat.stream:
        raise InvalidRequestError("body: 'stream' is not for batches; leave it out")
    return Line(custom_id, chat)


def check_lines(path: Path, call_id_of: Callable[[Line], str]) -> dict[str, str]:
    """The call's id for each custom_id.

    Args:
        path: The requests.
        call_id_of: The id of a line's call. It raises InvalidRequestError where the call would be refused.

    Raises:
        InvalidRequestError: lines cannot be asked; names the first of them.
    """
    ids: dict[str, str] = {}
    wrong: list[str] = []
    for number, text in read_lines(path):
        try:
            line = read_line(text)
            if line.custom_id in ids:
                raise InvalidRequestError("its 'custom_id' is that of another line")
            ids[line.custom_id] = call_id_of(line)
        except InvalidRequestError as error:
            wrong.append(f"line {number}: {error.message}")
            if len(wrong) == _MOST_NAMED:
                break
    if wrong:
        raise InvalidRequestError("FILE: " + "; ".join(wrong))
    if not ids:
        raise InvalidRequestError(f"FILE: {path} has no requests")
    return ids


def answer_line(call_id: str, custom_id: str, result: LLMResult) -> dict[str, Any]:
    """The line of an answered request."""
    body = completion_of(result, call_id)
    request_id = result.attempts[-1].request_id if result.attempts else None
    response = {"status_code": 200, "request_id": request_id or call_id, "body": body}
    return {"id": call_id, "custom_id": custom_id, "response": response, "error": None}


def failure_line(call_id: str, custom_id: str, error: DurableLLMError) -> dict[str, Any]:
    """The line of a request that was not answered."""
    described = {"code": type(error).__name__, "message": error.message, "retryable": error.retryable}
    return {"id": call_id, "custom_id": custom_id, "response": None, "error": described}


class Answers:
    """The file of answers: what it has already, and what is added.

    Args:
        path: The file. It may exist; lines that are torn, or that answer other requests, are left out.
        ids: The call's id for each custom_id that is wanted.
        drop_failures: Whether failures that it has are to be asked again.

    Attributes:
        answered, failed, retryable: How many lines it has of each kind; the last are among the failed ones.

    Raises:
        InvalidRequestError: the file cannot be written.
    """

    def __init__(self, path: Path, ids: Mapping[str, str], *, drop_failures: bool) -> None:
        self.answered = self.failed = self.retryable = 0
        self.done: set[str] = set()
        """The custom_ids that it has."""
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("w", encoding="utf-8") as kept:
                for line in _kept(path, ids, drop_failures):
                    self._count(line)
                    kept.write(f"{json.dumps(line)}\n")
            part.replace(path)  # one of the two is whole at any moment
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise InvalidRequestError(f"--out: cannot write {path}: {error.strerror}") from None

    def add(self, line: dict[str, Any]) -> None:
        """Write a line, so that it survives this program."""
        self._count(line)
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _count(self, line: dict[str, Any]) -> None:
        self.done.add(line["custom_id"])
        self.answered += line["error"] is None
        self.failed += line["error"] is not None
        self.retryable += line["error"] is not None and bool(line["error"].get("retryable"))


def _kept(path: Path, ids: Mapping[str, str], drop_failures: bool) -> Iterator[dict[str, Any]]:
    """The lines of an earlier run that are still wanted.

    Raises:
        InvalidRequestError: it is no file of answers.
    """
    if not path.exists():
        return
    seen: set[str] = set()
    torn = False
    with path.open(encoding="utf-8", errors="replace") as lines:
        for text in lines:
            line = _parsed(text)
            if torn:  # only the last line can be
                raise InvalidRequestError(f"--out: {path} holds something else than answers; name another file")
            torn = not isinstance(line, dict) or not {"id", "custom_id", "error"} <= line.keys()
            if torn or line["custom_id"] in seen or ids.get(line["custom_id"]) != line["id"]:
                continue
            if not (drop_failures and line["error"]):
                seen.add(line["custom_id"])
                yield line


def _parsed(text: str) -> Any:
    """The JSON value; None if the line is torn."""
    try:
        return json.loads(text)
    except ValueError:
        return None
