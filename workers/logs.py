"""Logging of the service's processes: on stderr, without keys, prompt text and control characters."""

import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from durable_llm.contract.key_reference import redact_literal_keys

from .settings import LogSettings

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class CleanFormatter(logging.Formatter):
    """Formats log records for people.

    A provider or a caller chooses parts of some texts. They must not show a key, control a terminal, or look like
    another record.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.clean: Callable[[str], str] = redact_literal_keys

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        """See base class. A message is one line."""
        record.message = record.message.replace("\n", "\\n")
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """See base class."""
        return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", self.clean(super().format(record)))


class JsonFormatter(CleanFormatter):
    """Formats each log record as a JSON object on a line, with the record's `fields` beside the usual ones."""

    def format(self, record: logging.LogRecord) -> str:
        """See base class."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self.clean(record.getMessage()),
        }
        if record.exc_info:
            told["exception"] = self.clean(self.formatException(record.exc_info))
        for name, value in getattr(record, "fields", {}).items():
            told[name] = self.clean(value) if isinstance(value, str) else value
        return json.dumps(told, default=str)


def show_logs(settings: LogSettings) -> CleanFormatter:
    """Write our and Temporal's log records to stderr.

    Other libraries only log warnings: debug records of HTTP libraries hold prompts.

    Args:
        settings: From which level on, and how.

    Returns:
        The formatter. Its `clean` removes what looks like a key; a worker sets one that knows its keys.
    """
    formatter = JsonFormatter() if settings.log_format == "json" else CleanFormatter()
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("durable_llm", "temporalio"):
        logging.getLogger(name).setLevel(settings.log_level)
    return formatter
