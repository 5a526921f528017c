"""The command `batch`: a file of OpenAI's batch lines to a file of answers."""

import asyncio
from collections.abc import Collection, Coroutine, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from durable_llm.cli.batch_lines import Answers, Line, answer_line, check_lines, failure_line, read_line, read_lines
from durable_llm.cli.call_options import NewCallOptions
from durable_llm.cli.exits import CallInterruptedError, Exit
from durable_llm.cli.model_options import ModelOptions
from durable_llm.cli.output import Output, error_console, plain, write_json
from durable_llm.cli.temporal_options import QueueOptions, TemporalOptions
from durable_llm.client.checks import is_label
from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.fingerprint import content_id
from durable_llm.client.many import at_once, with_bar
from durable_llm.client.new_call import CallOptions, chat_prompt
from durable_llm.contract.config import LLMConfig
from durable_llm.contract.request import Prompt
from durable_llm.errors import DecryptionError, DispatcherUnavailableError, DurableLLMError, InvalidRequestError

_PANEL = "Batch"


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """The requests, and where their answers go."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help="Requests, as lines of OpenAI's Batch API.")]
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File for the answers; a second run goes on with it.",
                           rich_help_panel=_PANEL),
    ]  # fmt: skip
    concurrency: Annotated[int, typer.Option(min=1, help="Calls in flight at once.", rich_help_panel=_PANEL)] = 100
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask failed requests again.", rich_help_panel=_PANEL)
    ] = False


def batch(
    files: BatchOptions, models: ModelOptions, options: NewCallOptions, queue: QueueOptions, temporal: TemporalOptions,
    output: Output,
) -> Coroutine[Any, Any, int]:  # fmt: skip
    """Ask every request of a file. The same command goes on after a crash, and asks changed requests anew."""
    if not files.out.parent.is_dir():
        raise InvalidRequestError(f"--out: there is no directory {files.out.parent}")
    if files.out.resolve() == files.file.resolve():
        raise InvalidRequestError("--out: this is the file of requests; name another one")
    return _batch(files, models, options, queue, temporal, output)


async def _batch(
    files: BatchOptions, models: ModelOptions, options: NewCallOptions, queue: QueueOptions, temporal: TemporalOptions,
    output: Output,
) -> int:  # fmt: skip
    async with queue.dispatcher(temporal) as dispatcher:
        run = _Batch(dispatcher, models, options, files)
        ids = check_lines(files.file, run.call_id)
        answers = Answers(files.out, ids, drop_failures=files.retry_failed)
        missing = _missing(files.file, frozenset(answers.done), ids)
        asked = at_once(lambda item: run.ask(*item), missing, concurrency=files.concurrency)
        if error_console().is_terminal:
            asked = with_bar(
                asked, len(ids), failed=lambda line: line["error"] is not None, done=len(answers.done)
            )  # fmt: skip
        try:
            async with aclosing(asked):
                async for line in asked:
                    answers.add(line)
        except asyncio.CancelledError:
            text = f"interrupted after {len(answers.done):,} of {len(ids):,}; calls go on, and the same command goes on"
            raise CallInterruptedError(text, call_id=run.id) from None
        finally:
            answers.close()
    if output.as_json:
        counts = {"requests": len(ids), "answered": answers.answered, "failed": answers.failed}
        write_json({"id": run.id, **counts, "retryable": answers.retryable})
    else:
        error_console().print(plain(_summary(run.id, answers)))
    if not answers.failed:
        return Exit.OK
    return Exit.RETRYABLE if answers.retryable else Exit.FAILED


class _Batch:
    """How the lines of one batch are asked."""

    def __init__(
        self, dispatcher: Dispatcher, models: ModelOptions, options: NewCallOptions, files: BatchOptions
    ) -> None:
        self.id = options.call_id or f"batch-{content_id(str(files.out.resolve()))}"
        self._dispatcher = dispatcher
        self._models = models
        self._shared = options.shared()
        self._shared["session"] = self._shared["session"] or (self.id if is_label(self.id) else None)
        if files.retry_failed:
            self._shared["if_failed"] = "rerun"
        self._chains: dict[str, LLMConfig] = {}

    def call_id(self, line: Line) -> str:
        """The id of a line's call. It comes from the content too, so that a changed request is another call.

        Raises:
            InvalidRequestError: the call would be refused.
        """
        chain, prompt, options = self._call(line)
        return self._dispatcher.prepare(
            chain, prompt, options, lambda hashes: f"{self.id}/{line.custom_id}/{content_id(hashes)}"
        ).call_id

    async def ask(self, line: Line, call_id: str) -> dict[str, Any]:
        """The line of its answer or of its failure.

        Raises:
            DispatcherUnavailableError, DecryptionError: what would end every call in the same way.
        """
        try:
            handle = await self._dispatcher.start(*self._call(line), call_id, None)
            return answer_line(call_id, line.custom_id, await handle.result())
        except (DispatcherUnavailableError, DecryptionError):
            raise
        except DurableLLMError as error:
            return failure_line(call_id, line.custom_id, error)

    def _call(self, line: Line) -> tuple[LLMConfig, Prompt, CallOptions]:
        options: CallOptions = {**self._shared, **line.chat.options}
        chain = line.chat.chain(self._chain(line.chat.model))
        return chain, chat_prompt(chain, line.chat.messages, options), options

    def _chain(self, model: str) -> LLMConfig:
        """The models of the command line, or else the one that the line names."""
        if model not in self._chains:
            self._chains[model] = self._models.to_config(otherwise=model)
        return self._chains[model]


def _missing(path: Path, done: Collection[str], ids: Mapping[str, str]) -> Iterator[tuple[Line, str]]:
    for _, text in read_lines(path):
        line = read_line(text)
        if line.custom_id not in done and line.custom_id in ids:
            yield line, ids[line.custom_id]


def _summary(batch_id: str, answers: Answers) -> str:
    failed = f", {answers.failed:,} failed" if answers.failed else ""
    again = f" ({answers.retryable:,} may succeed later: --retry-failed)" if answers.retryable else ""
    return f"{batch_id}: {answers.answered:,} answered{failed}{again}; cost: durable-llm cost --job {batch_id}"
