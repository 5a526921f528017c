"""The command `embed`: a file of texts to a file of vectors."""

import asyncio
import json
from array import array
from collections.abc import Coroutine, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from durable_llm.cli.call_options import NewCallOptions
from durable_llm.cli.exits import CallInterruptedError
from durable_llm.cli.model_options import ModelOptions
from durable_llm.cli.output import Output, error_console, plain
from durable_llm.cli.parse import read_text
from durable_llm.cli.tables import totals_line
from durable_llm.cli.temporal_options import QueueOptions, TemporalOptions
from durable_llm.client.embedding import Embeddings
from durable_llm.errors import InvalidRequestError

_PANEL = "Texts"
_JSON_LINES: Final = ".jsonl"
_NUMPY: Final = ".npy"


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """The texts, and where their vectors go."""

    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A text a line; in a .jsonl file a JSON string, or an object with 'text'. "
                       "'-' is stdin."),
    ]  # fmt: skip
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File for the vectors: .npy or .jsonl. Without it, JSON lines on stdout.",
                     rich_help_panel=_PANEL),
    ] = None  # fmt: skip
    dimensions: Annotated[
        int | None, typer.Option(help="Length of the vectors, for models that have a choice.", rich_help_panel=_PANEL)
    ] = None
    batch_size: Annotated[int | None, typer.Option(help="Texts of a request.", rich_help_panel=_PANEL)] = None
    concurrency: Annotated[int, typer.Option(help="Requests in flight at once.", rich_help_panel=_PANEL)] = 8
    mixed_models: Annotated[
        bool,
        typer.Option("--mixed-models", help="Whether other models may follow; the next one embeds all texts again.",
                     rich_help_panel=_PANEL),
    ] = False  # fmt: skip

    def texts(self) -> list[str]:
        """The texts in the file.

        Raises:
            InvalidRequestError: it cannot be read, or a line is no text; names the line.
        """
        lines = read_text("FILE", self.file).split("\n")
        if self.file.suffix != _JSON_LINES:
            return [line for line in lines if line.strip()]
        return [_text(number, line) for number, line in enumerate(lines, 1) if line.strip()]

    def check(self) -> None:
        """Refuse an output file that cannot be written, before anything is paid.

        Raises:
            InvalidRequestError: the ending is unknown, there is no such directory, or NumPy is missing.
        """
        if self.out is None:
            return
        if self.out.suffix not in (_JSON_LINES, _NUMPY):
            raise InvalidRequestError(f"--out: expected a file that ends with {_NUMPY} or {_JSON_LINES}")
        if not self.out.parent.is_dir():
            raise InvalidRequestError(f"--out: there is no directory {self.out.parent}")
        if self.out.suffix == _NUMPY:
            try:
                import numpy  # noqa: F401, PLC0415  # only for this
            except ImportError:
                raise InvalidRequestError(f"--out: {_NUMPY} needs NumPy: pip install numpy") from None


def embed(
    texts: TextOptions, models: ModelOptions, options: NewCallOptions, queue: QueueOptions, temporal: TemporalOptions,
    output: Output,
) -> Coroutine[Any, Any, None]:  # fmt: skip
    """Embed a file of texts. With an --id, a second run after a crash asks only for what was not answered."""
    texts.check()
    return _embed(texts, models, options, queue, temporal, output)


async def _embed(
    texts: TextOptions, models: ModelOptions, options: NewCallOptions, queue: QueueOptions, temporal: TemporalOptions,
    output: Output,
) -> None:  # fmt: skip
    config, listed, arguments = models.to_config(), texts.texts(), options.shared()
    console = error_console()
    shown = console.status(f"embedding {len(listed):,} texts") if console.is_terminal else nullcontext()
    async with queue.dispatcher(temporal) as dispatcher:
        try:
            with shown:
                found = await dispatcher.embed(
                    config, listed, call_id=options.call_id, dimensions=texts.dimensions, batch_size=texts.batch_size,
                    concurrency=texts.concurrency, mixed_models=texts.mixed_models, **arguments,
                )  # fmt: skip
        except asyncio.CancelledError:
            kept = "the batches go on; the same command with the same --id gets them" if options.call_id else (
                "the batches were cancelled (with --id they would have gone on)"
            )  # fmt: skip
            raise CallInterruptedError(f"interrupted; {kept}", call_id=options.call_id) from None
    _give(found, texts.out, output)


def _give(found: Embeddings, out: Path | None, output: Output) -> None:
    """Write the vectors, and say what they cost."""
    totals = {
        "model": found.model, "dimensions": found.dimensions, "texts": len(found.vectors), "calls": len(found.calls),
        "attempts": found.attempts_total, "prompt_tokens": found.prompt_tokens, "total_cost": found.total_cost,
        "cost_complete": found.cost_complete,
    }  # fmt: skip
    if out is not None:
        part = out.with_name(f".{out.name}.part")  # the file is there whole or not at all
        _write(found, part, as_numpy=out.suffix == _NUMPY)
        part.replace(out)
    if output.as_json:
        vectors = {} if out is not None else {"vectors": [_numbers(vector) for vector in found.vectors]}
        output.give({**totals, **vectors}, "")
    elif out is None:
        for line in _lines(found.vectors):
            typer.echo(line)
    if not output.as_json:
        spent = totals_line(found.attempts_total, found.total_cost, complete=found.cost_complete)
        summary = f"{len(found.vectors):,} vectors of {found.dimensions} dimensions by {found.model}, {spent}"
        error_console().print(plain(summary))


def _write(found: Embeddings, path: Path, *, as_numpy: bool) -> None:
    if as_numpy:
        import numpy  # noqa: PLC0415  # only for this

        with path.open("wb") as file:
            numpy.save(file, found.numpy())
        return
    with path.open("w") as lines:
        lines.writelines(f"{line}\n" for line in _lines(found.vectors))


def _lines(vectors: "Iterable[array[float]]") -> Iterable[str]:
    for index, vector in enumerate(vectors):
        yield json.dumps({"index": index, "embedding": _numbers(vector)})


def _numbers(vector: "array[float]") -> list[float]:
    """The components with the nine digits that a 32-bit float has."""
    return [float(f"{component:.9g}") for component in vector]


def _text(number: int, line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        raise InvalidRequestError(f"FILE: line {number} is not JSON") from None
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise InvalidRequestError(f"FILE: line {number}: expected a JSON string, or an object with 'text'")
    return text
