"""`embed`: a file of texts to a file of vectors, or to JSON lines on stdout."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy
import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm.cli.exits import Exit
from tests.client.test_embeddings import GOOD, MODEL, asked, rejects, vector
from tests.support.cli import run, server
from tests.support.scripted import fresh_id
from tests.support.wire import Wire, playing
from tests.support.workers import working

TEXTS = ["first", "second text", "third"]


@asynccontextmanager
async def served(env: WorkflowEnvironment, case: dict) -> AsyncIterator[tuple[Wire, tuple[str, ...], dict[str, str]]]:
    """A provider, the words of the command, and the environment."""
    queue = f"test-{fresh_id()}"
    async with playing(case) as wire, working(env.client, queue):
        words = ("embed", "-m", MODEL, "--api-base", wire.url)
        yield wire, words, {**server(env.client), "DURABLE_LLM_TASK_QUEUE": queue}


async def test_vectors_go_to_stdout_as_json_lines(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A line for each text, in order; what it cost is on stderr. Blank lines are no texts."""
    file = tmp_path / "texts.txt"
    file.write_text("first\n\nsecond text\r\nthird\n")
    async with served(server_env, GOOD) as (wire, words, env):
        end = await run(*words, str(file), "--batch-size", "2", **env)
    assert end.status == Exit.OK
    lines = [json.loads(line) for line in end.out.splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert lines[0]["embedding"] == vector("first")
    assert "3 vectors of 4 dimensions by made-up-1, 2 attempts" in end.err
    assert len(wire.requests) == 2


async def test_vectors_go_to_a_file(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """As NumPy's array or as JSON lines; a second run with the same id asks nothing."""
    file, call_id = tmp_path / "texts.jsonl", fresh_id()
    file.write_text("\n".join([json.dumps("first"), json.dumps({"text": "second text", "id": 7}), json.dumps("third")]))
    async with served(server_env, GOOD) as (wire, words, env):
        first = await run(*words, str(file), "-o", str(tmp_path / "v.npy"), "--id", call_id, "--json", **env)
        again = await run(*words, str(file), "-o", str(tmp_path / "v.jsonl"), "--id", call_id, **env)
    assert (first.status, again.status, len(wire.requests)) == (Exit.OK, Exit.OK, 1)
    assert json.loads(first.out)["dimensions"] == 4
    array = numpy.load(tmp_path / "v.npy")
    assert array.tolist() == [vector(text) for text in TEXTS]
    written = [json.loads(line)["embedding"] for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert written == array.tolist()
    assert sorted(os.listdir(tmp_path)) == ["texts.jsonl", "v.jsonl", "v.npy"]


async def test_json_has_the_vectors(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """One document for a script."""
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS))
    async with served(server_env, GOOD) as (_, words, env):
        end = await run(*words, str(file), "--json", **env)
    document = json.loads(end.out)
    assert document["vectors"] == [vector(text) for text in TEXTS]
    assert (document["texts"], document["calls"], document["attempts"]) == (3, 1, 1)


async def test_bad_texts_are_named(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """The exit code says that it failed, the text which ones; no file is left."""
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS))
    async with served(server_env, rejects("third")) as (wire, words, env):
        end = await run(*words, str(file), "-o", str(tmp_path / "v.npy"), **env)
    assert end.status == Exit.FAILED
    assert "texts[2]: 400" in end.err
    assert not (tmp_path / "v.npy").exists()
    assert asked(wire)[0] == TEXTS


BAD = {
    "--out: expected a file that ends with": ("a", ("-o", "v.csv")),
    "--out: there is no directory": ("a", ("-o", "nowhere/v.npy")),
    "texts: expected a list": ("\n\n", ()),
    "expected a whole number above zero": ("a", ("--dimensions", "0")),
    "FILE: cannot read": (None, ()),
}


@pytest.mark.parametrize("message", BAD)
async def test_wrong_usage_sends_nothing(server_env: WorkflowEnvironment, tmp_path: Path, message: str) -> None:
    """The exit code says wrong usage, and the text what to write."""
    content, options = BAD[message]
    file = tmp_path / "texts.txt"
    if content is not None:
        file.write_text(content)
    end = await run("embed", "-m", MODEL, str(file), *options, **server(server_env.client))
    assert end.status == Exit.USAGE
    assert message in " ".join(end.err.split())


@pytest.mark.parametrize("line", ["{", "7", '{"txt": "a"}'])
async def test_a_line_that_is_no_text_is_named(server_env: WorkflowEnvironment, tmp_path: Path, line: str) -> None:
    """By its number."""
    file = tmp_path / "texts.jsonl"
    file.write_text(f'"good"\n{line}\n')
    end = await run("embed", "-m", MODEL, str(file), **server(server_env.client))
    assert end.status == Exit.USAGE
    assert "FILE: line 2" in end.err
