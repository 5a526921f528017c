"""Read code, type, parameter, message and details from the bytes of a failed response, in each provider's format.

litellm keeps only the message, but the rest tells a rate limit from a used-up quota. The shape of the body decides, not
the provider's name, because gateways pass on error bodies of others.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

_DETAIL_CHARS: Final = 160
_DETAILS: Final = 16
_MESSAGE_CHARS: Final = 8_000
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_NUMBERS = re.compile(r"\b(limit|used|requested)\b(?:\s+(?:of|is))?\s*:?\s*(\d[\d,]*)(?![\d,]*\s*\+)", re.IGNORECASE)
_MESSAGE_FIELDS: Final = (
    "message", "detail", "error_description", "msg", "Message", "error_msg", "status_msg", "reason", "title",
)  # fmt: skip
_ANSWER_FIELDS: Final = ("choices", "candidates", "content", "output", "text", "response", "generations", "results")
_FINE: Final = frozenset({"", "0", "00000", "200", "ok", "success", "succeeded", "completed", "none", "null"})
_FAILED: Final = frozenset({"failed", "failure", "error", "fail"})
_PLAIN_DETAILS: Final = (
    "reason", "limit_source", "provider_name", "quotaId", "quotaMetric", "quotaValue", "quota_limit",
    "quota_limit_value", "quota_location", "blockReason", "error_code", "error_type", "is_byok", "retryDelay", "field",
)  # fmt: skip


class ProviderError(NamedTuple):
    """A provider's description of a failure."""

    code: str | None = None
    """The provider's code. A code that only repeats an HTTP status is in `status`."""
    type: str | None = None
    param: str | None = None
    message: str = ""
    details: list[str] = []  # noqa: RUF012 # a NamedTuple's default, never changed
    status: int | None = None
    """The HTTP status in the body."""
    found: bool = False
    """Whether the body holds an error at all."""


def read_error(headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error in the body of a failed response. Empty if the body says nothing.

    Args:
        headers: With lower-case names.
        body: Without content encoding. May be cut.
    """
    text = body.decode(errors="replace").strip()
    error = read_error_json(_json(text)) if text[:1] in ("{", "[") else ProviderError()
    if not error.found:
        error = ProviderError(message=_plain(text))
    amazon = headers.get("x-amzn-errortype", "").partition(":")[0]
    return error._replace(code=error.code or amazon or None)


def read_error_json(value: Any) -> ProviderError:
    """The error in a JSON value. `found` is False if it holds none."""
    outer = value[0] if isinstance(value, list) and value else value
    if not isinstance(outer, dict):
        return ProviderError()
    inner = _inner(outer)
    message = _message(inner) or _message(outer)
    if inner is outer and not message:
        return ProviderError()
    code, status = _code(inner, outer)
    return ProviderError(
        code=code,
        type=_short(inner.get("type") or inner.get("__type") or (outer.get("type") if inner is outer else None)),
        param=_short(inner.get("param")),
        message=message[:_MESSAGE_CHARS],
        details=_details(inner, message),
        status=status,
        found=True,
    )


def read_error_of_success(value: Any) -> ProviderError:
    """The error in the JSON value of a response with a successful status.

    A number in a body without the word "error" is the provider's own code and never an HTTP status.
    """
    business = _business_error(value)
    if business is None:
        return read_error_json(value)
    message = _message(business) or _message(value)
    code = next(
        (code for name in ("status_code", "code", "error_code", "err_code") if (code := _short(business.get(name)))),
        None,
    )
    return ProviderError(code=code, message=message[:_MESSAGE_CHARS], details=_details(business, message), found=True)


def holds_error(value: Any) -> bool:
    """Whether the JSON value of a successful response is an error."""
    outer = value[0] if isinstance(value, list) and value else value
    if not isinstance(outer, dict):
        return False
    named = bool(outer.get("error")) or outer.get("type") == "error" or outer.get("object") == "error"
    return named or _business_error(outer) is not None


def _business_error(value: Any) -> dict[str, Any] | None:
    """The object that says in a provider's own way that a call failed, without the word "error".

    Seen: MiniMax's `base_resp.status_code`, `success: false`, `status: "failed"`, `code` beside `message`.
    """
    if not isinstance(value, dict) or value.get("error") or value.get("type") == "error":
        return None
    base = value.get("base_resp")
    if isinstance(base, dict) and str(base.get("status_code", 0)) != "0":
        return base
    if any(value.get(name) for name in _ANSWER_FIELDS) or "object" in value or "type" in value:
        return None
    failed = value.get("success") is False or str(value.get("status", "")).lower() in _FAILED
    code = value.get("code", value.get("error_code", value.get("err_code")))
    coded = not isinstance(code, dict | list | bool) and str(code or "").lower() not in _FINE and bool(_message(value))
    return value if failed or coded else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _inner(outer: dict[str, Any]) -> dict[str, Any]:
    """The object that describes the error."""
    for name in ("error", "detail", "errors", "fault"):
        found = outer.get(name)
        if isinstance(found, list) and found and isinstance(found[0], dict):
            found = found[0]
        if isinstance(found, dict):
            return found
    return outer


def _message(error: Mapping[str, Any]) -> str:
    for name in ("error", *_MESSAGE_FIELDS):
        found = error.get(name)
        if isinstance(found, str) and found.strip():
            return found.strip()
    return ""


def _code(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The provider's code, and the HTTP status in a numeric code or field."""
    named: list[str] = []
    status: int | None = None
    for value in (inner.get("code"), inner.get("status"), outer.get("code"), outer.get("status")):
        number = _status(value)
        if number is not None:
            status = status or number
        elif (short := _short(value)) is not None:
            named.append(short)
    return (named[0] if named else None), status


def _status(value: Any) -> int | None:
    if isinstance(value, bool) or not str(value).isascii() or not str(value).isdigit():
        return None
    return int(value) if len(str(value)) == 3 and 100 <= int(value) <= 599 else None


def _short(value: Any) -> str | None:
    """A scalar as a short string. None: not a scalar."""
    if value is None or isinstance(value, dict | list | bool):
        return None
    return " ".join(str(value).split())[:_DETAIL_CHARS] or None


def _details(error: Mapping[str, Any], message: str) -> list[str]:
    found = dict.fromkeys([*_structured(error), *_numbers(message)])
    return list(found)[:_DETAILS]


def _structured(error: Mapping[str, Any]) -> Iterator[str]:
    """Known fields of Google's details, OpenRouter's metadata and Azure's inner error."""
    for name, value in _walk({key: value for key, value in error.items() if key not in ("message", "param")}, depth=6):
        if name in _PLAIN_DETAILS and (short := _short(value)) is not None:
            yield f"{name}={short}"
    raw = error.get("metadata", {}).get("raw") if isinstance(error.get("metadata"), dict) else None
    if raw:
        yield f"raw={_short(raw if isinstance(raw, str) else json.dumps(raw))}"
    azure = error.get("innererror") or error.get("inner_error")
    if isinstance(azure, dict) and (code := _short(azure.get("code"))):
        yield f"innererror={code}"


def _walk(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if depth == 0:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name), inner
            yield from _walk(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value[:20]:
            yield from _walk(inner, depth - 1)


def _numbers(message: str) -> Iterator[str]:
    """Numbers like "Limit 30000, Requested 30601", which say whether the request can ever fit."""
    for match in _NUMBERS.finditer(message):
        yield f"{match.group(1).lower()}={match.group(2).replace(',', '')}"


def _plain(text: str) -> str:
    """The text of a body that is not JSON: the title of an HTML page, or the text without tags."""
    if title := _TITLE.search(text):
        text = title.group(1)
    elif text[:200].lstrip().startswith("<"):
        text = _TAGS.sub(" ", text)
    return " ".join(html.unescape(text).split())[:_MESSAGE_CHARS]
