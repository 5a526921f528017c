"""Sweeping the store, as an operator does it: a command of the service, reached by both programs."""

import os
import time

import pytest

from durable_llm.store import open_store
from tests.support.cli import run
from workers.dev.ports import free_port

SERVICE = ("-m", "workers")


async def sweep(*options: str, **env: str):
    """Run the worker's command."""
    return await run("sweep-store", *options, program=SERVICE, **env)


async def test_old_prompts_are_deleted_and_counted(tmp_path) -> None:
    """What was put longer ago than the days to keep goes, all else stays; `durable-llm` passes the command on."""
    store = open_store(tmp_path.as_uri())
    old, new = [await store.put(text) for text in (b"old", b"new")]
    past = time.time() - 41 * 86_400
    os.utime(tmp_path / old, (past, past))
    env = {"DURABLE_LLM_STORE": tmp_path.as_uri()}
    early, due = await sweep("--keep-days", "42", **env), await run("sweep-store", "--keep-days", "40", **env)
    assert (early.status, early.out) == (0, f"deleted 0 prompts older than 42 days from {tmp_path.as_uri()}\n")
    assert (due.status, due.out) == (0, f"deleted 1 prompts older than 40 days from {tmp_path.as_uri()}\n")
    assert [path.name for path in tmp_path.iterdir()] == [new]


@pytest.mark.proof
@pytest.mark.parametrize(
    ("options", "store", "status", "says"),
    [
        (("--keep-days", "40"), "", 2, "DURABLE_LLM_STORE is not set"),
        (("--keep-days", "40"), "redis://localhost", 2, "DURABLE_LLM_STORE: expected file:///DIRECTORY"),
        (("--keep-days", "40"), "postgresql://127.0.0.1:{port}/db", 3, "onnection refused"),
        (("--keep-days", "40"), "s3://bucket?region=eu-central-1", 3, "lifecycle rule"),
        (("--keep-days", "0"), "file:///srv/prompts", 2, "--keep-days"),
        ((), "file:///srv/prompts", 2, "--keep-days"),
    ],
)
async def test_what_cannot_be_swept_is_said(options, store, status, says) -> None:
    """2 for what the operator must write, 3 for a store that does not answer or refuses; no traceback."""
    end = await sweep(*options, DURABLE_LLM_STORE=store.format(port=free_port()))
    assert end.status == status
    assert says in end.err
    assert "Traceback" not in end.err
