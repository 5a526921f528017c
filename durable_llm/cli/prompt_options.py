"""Options of the prompt: an argument, a file, stdin or chat messages; and what its answer must be."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from durable_llm.cli.parse import STDIN, json_or_text, read_json, read_text
from durable_llm.client.prompt import Messages, as_response_format
from durable_llm.errors import InvalidRequestError

_PANEL = "Prompt"


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """The prompt and what its answer must be."""

    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The prompt; '-' or nothing reads it from stdin.")
    ] = None
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="File that holds the prompt.", rich_help_panel=_PANEL)
    ] = None
    messages: Annotated[
        Path | None, typer.Option(help="JSON file with a list of chat messages.", rich_help_panel=_PANEL)
    ] = None
    system: Annotated[
        str | None, typer.Option(help="System message before the prompt.", metavar="TEXT", rich_help_panel=_PANEL)
    ] = None
    schema: Annotated[
        Path | None,
        typer.Option(help="JSON file with the JSON Schema that the answer must follow.", rich_help_panel=_PANEL),
    ] = None

    validator: Annotated[
        list[str] | None,
        typer.Option(help="Validator on the worker that the answer must pass: 'non_empty' or "
                     "'regex:{\"pattern\": \"^yes\"}'.", metavar="NAME[:JSON]", rich_help_panel=_PANEL),
    ] = None  # fmt: skip

    def to_messages(self) -> Messages:
        """The prompt as text, or the chat messages.

        Raises:
            InvalidRequestError: no prompt, more than one, or a file that cannot be read.
        """
        if sum(source is not None for source in (self.prompt, self.file, self.messages)) > 1:
            raise InvalidRequestError("give the prompt once: as an argument, with -f FILE or with --messages FILE")
        if self.messages is not None:
            return [*self._system(), *self._chat(self.messages)]
        text = self._text()
        return [*self._system(), {"role": "user", "content": text}] if self.system is not None else text

    def response_format(self) -> dict[str, Any] | None:
        """OpenAI's `response_format` for the schema. A file that already holds one is taken as it is."""
        if self.schema is None:
            return None
        schema = read_json("--schema", self.schema)
        if not isinstance(schema, dict):
            raise InvalidRequestError("--schema: expected a JSON object")
        if schema.get("type") in ("json_schema", "json_object"):
            return schema
        return as_response_format(schema, str(schema.get("title") or self.schema.stem))

    def validators(self) -> list[dict[str, Any]]:
        """The named validators with their parameters.

        Raises:
            InvalidRequestError: parameters are not a JSON object.
        """
        return [_validator(text) for text in self.validator or ()]

    def _text(self) -> str:
        if self.prompt not in (None, "-"):
            return str(self.prompt)
        if self.file is None and self.prompt is None and sys.stdin.isatty():
            raise InvalidRequestError("no prompt: give it as an argument, with -f FILE or on stdin")
        text = read_text("--file", self.file or STDIN)
        if not text.strip():
            raise InvalidRequestError(f"the prompt is empty ({self.file if self.file else 'stdin'})")
        return text

    def _system(self) -> list[dict[str, Any]]:
        return [{"role": "system", "content": self.system}] if self.system is not None else []

    def _chat(self, path: Path) -> list[dict[str, Any]]:
        messages = read_json("--messages", path)
        if not isinstance(messages, list):
            raise InvalidRequestError("--messages: expected a list of messages like {'role': 'user', 'content': ...}")
        return messages


def _validator(text: str) -> dict[str, Any]:
    name, _, written = text.partition(":")
    parameters = json_or_text(written) if written else {}
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"--validator: expected NAME or NAME:{{...}} with a JSON object, got {text!r}")
    return {"name": name, "parameters": parameters}
