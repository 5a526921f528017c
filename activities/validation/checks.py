"""Check an answer: its tool calls, its schema and its validators, in this order.

Of several choices those that pass are kept. If none passes, the first choice's defect is the answer's.
"""

import json
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.facts import AnswerDefect, LocalFault
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import PARSED_CALL, Answer, Choice, ToolCall
from durable_llm.contract.validation import Candidate

from ..answer.defects import ChoiceEnd, Defect, choice_defect
from ..faults import LocalFaultError
from ..request.structured import schema_of
from .offered_tools import OfferedTools, callers_tools, offered_tools, tool_call_defect
from .registry import Registered, Registry
from .runner import DEFAULT_TIMEOUT_S, BrokenFunctionError, OutOfTimeError, RejectedAnswerError, Runner
from .schema import CPU_S, SCHEMA_CPU_S, check_schema, read_and_check

_KNOWN_SCHEMAS: Final = 256
"""Valid schemas that a worker remembers."""


class _RefusedChoiceError(Exception):
    def __init__(self, defect: Defect) -> None:
        super().__init__(defect.kind)
        self.defect = defect


class Validation:
    """The checks of one worker.

    Args:
        registry: Its validators and tool parsers. None: those that every worker has.
        timeout_s: Time limit in seconds of one of them.
    """

    def __init__(self, registry: Registry | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._registry = registry or Registry()
        self._runner = Runner(timeout_s)
        self._valid_schemas: set[str] = set()

    async def prepare(self, spec: ModelSpecOnWire, prompt: Prompt) -> "AnswerChecks":
        """The checks that `prompt` asks for, prepared before anything is sent.

        Raises:
            LocalFaultError: this worker lacks a validator or parser or cannot use it, or the schema is invalid.
        """
        parser = self._registry.tool_parser(prompt.tool_parser) if prompt.tool_parser else None
        validators = [(self._registry.validator(wanted), wanted.parameters) for wanted in prompt.validators]
        for validator, parameters in validators:
            await _check_parameters(validator, parameters, self._runner)
        offered, tools = offered_tools(spec, prompt), callers_tools(spec, prompt)
        return AnswerChecks(
            self._runner,
            offered,
            tools=tools,
            messages=prompt.messages,
            parser=parser if tools and not offered.forbidden else None,
            schema=await self._schema(prompt),
            validators=validators,
        )

    async def _schema(self, prompt: Prompt) -> str | None:
        schema = schema_of(prompt.response_format)
        if schema is None:
            return None
        if (text := json.dumps(schema)) in self._valid_schemas:
            return text
        try:
            await self._runner.run("response_format", check_schema, [text], cpu_s=SCHEMA_CPU_S)
        except (RejectedAnswerError, BrokenFunctionError) as error:
            raise LocalFaultError(LocalFault.INVALID_SCHEMA, str(error)) from None
        if len(self._valid_schemas) >= _KNOWN_SCHEMAS:
            self._valid_schemas.clear()
        self._valid_schemas.add(text)
        return text


@dataclass(frozen=True)
class AnswerChecks:
    """The checks of one call's answers."""

    runner: Runner
    offered: OfferedTools
    tools: Sequence[dict[str, Any]] = ()
    messages: Sequence[Mapping[str, Any]] = ()
    parser: Registered | None = None
    schema: str | None = None
    """As JSON."""
    validators: Sequence[tuple[Registered, Mapping[str, Any]]] = ()

    async def accept(self, answer: Answer) -> Answer | Defect:
        """The answer with its choices that pass, or the defect if none passes.

        Raises:
            BrokenFunctionError: a validator or parser failed.
        """
        passed: list[Choice] = []
        refused: list[Defect] = []
        for choice in answer.choices:
            try:
                passed.append(await self._accept(choice, answer))
            except _RefusedChoiceError as error:
                refused.append(error.defect)
        if not passed:
            return refused[0]
        structured = self.schema is not None and not any(choice.tool_calls for choice in passed)
        return answer.model_copy(update={"choices": passed, "structured": structured})

    async def _accept(self, choice: Choice, answer: Answer) -> Choice:
        choice = await self._with_parsed_calls(choice)
        if defect := tool_call_defect(choice, self.offered):
            raise _RefusedChoiceError(defect)
        choice, value = await self._with_bare_json(choice)
        for validator, parameters in self.validators:
            candidate = self._candidate(choice, value, answer)
            running = self.runner.run(
                validator.label, validator.function, [candidate], parameters, cpu_s=validator.cpu_s
            )
            if await _passed(running, choice) is False:
                raise BrokenFunctionError(f"{validator.label} returned False; to reject, it raises Rejected")
        return choice

    async def _with_parsed_calls(self, choice: Choice) -> Choice:
        """The choice with tool calls that the model wrote as text, if it has no others."""
        if self.parser is None or choice.tool_calls or not choice.text:
            return choice
        parser = self.parser
        running = self.runner.run(parser.label, parser.function, [choice.text, list(self.tools)], cpu_s=parser.cpu_s)
        choice = _calling(choice, _with_ids(await _passed(running, choice), parser.label))
        if defect := choice_defect(choice, ChoiceEnd()):
            raise _RefusedChoiceError(defect)
        return choice

    async def _with_bare_json(self, choice: Choice) -> tuple[Choice, Any]:
        """The choice with only the JSON as its text, and its value. A tool call instead of JSON is allowed."""
        if self.schema is None or choice.tool_calls:
            return choice, None
        try:
            text, value = await self.runner.run("schema", read_and_check, [choice.text or "", self.schema], cpu_s=CPU_S)
        except (RejectedAnswerError, OutOfTimeError) as error:
            # JSON that stops at the token limit would stop there again. Another model has another limit.
            kind = AnswerDefect.LENGTH if choice.finish_reason == "length" else AnswerDefect.NOT_THE_SCHEMA
            raise _RefusedChoiceError(Defect(kind, choice.finish_reason, str(error))) from None
        return choice.model_copy(update={"text": text}), value

    def _candidate(self, choice: Choice, value: Any, answer: Answer) -> Candidate:
        return Candidate(
            text=choice.text,
            tool_calls=choice.tool_calls,
            finish_reason=choice.finish_reason,
            parsed=value,
            reasoning_content=choice.reasoning_content,
            model=answer.model,
            messages=self.messages,
        )


async def _passed(running: Awaitable[Any], choice: Choice) -> Any:
    """The result of a validator or parser that does not reject the choice."""
    try:
        return await running
    except RejectedAnswerError as error:
        raise _RefusedChoiceError(Defect(AnswerDefect.REJECTED, choice.finish_reason, str(error))) from None


async def _check_parameters(validator: Registered, parameters: Mapping[str, Any], runner: Runner) -> None:
    """Run a validator's own check of its parameters. It is foreign code, like the validator."""
    if validator.check is None:
        return
    try:
        await runner.run("check", validator.check, (), parameters, cpu_s=validator.cpu_s)
    except (RejectedAnswerError, BrokenFunctionError) as error:
        text = f"{validator.label} cannot be used: {error}"
        raise LocalFaultError(LocalFault.UNKNOWN_VALIDATOR, text) from None


def _calling(choice: Choice, calls: list[ToolCall]) -> Choice:
    """The choice with a parser's calls, and with the finish reason of tool calls."""
    stopped = bool(calls) and choice.finish_reason == "stop"
    finish_reason = "tool_calls" if stopped else choice.finish_reason
    return choice.model_copy(update={"tool_calls": calls, "finish_reason": finish_reason})


def _with_ids(calls: Any, label: str) -> list[ToolCall]:
    """A parser's calls with ids for their results. No provider knows these ids."""
    listed = list(calls) if isinstance(calls, Sequence) else [calls]
    if not all(isinstance(call, ToolCall) for call in listed):
        raise BrokenFunctionError(f"{label} returned something else than a list of ToolCall")
    return [call.model_copy(update={"id": f"{PARSED_CALL}{call.id or uuid.uuid4().hex[:24]}"}) for call in listed]
