"""A checker as a program: its arguments, its verdict file, its exit code."""

import asyncio
import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from temporalio.client import Client

from tests.harness.parts.evidence import Kill
from tests.harness.parts.rules import Verdict


def checker_arguments() -> ArgumentParser:
    """The arguments of every checker."""
    parser = ArgumentParser(description="Check a run by what providers and Temporal recorded.")
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument("--provider", action="append", required=True, help="address of a simulated provider")
    parser.add_argument(
        "--kills", type=_kills, required=True, help="the list of kills, a file of JSON objects, one a line"
    )
    parser.add_argument("--out", type=Path, required=True, help="file for the verdict")
    return parser


def run_checker(parser: ArgumentParser, check: Callable[[Namespace, Client], Awaitable[Verdict]]) -> NoReturn:
    """Check, write the verdict as JSON and exit: 0 when all rules hold."""
    given = parser.parse_args()
    verdict = asyncio.run(_check(given, check))
    content = verdict.model_dump(mode="json")
    content["rules"] = content.pop("rules")  # the longest part comes last
    given.out.write_text(json.dumps(content, indent=2) + "\n")
    os._exit(0 if verdict.passed else 1)  # the SDK's threads may abort an interpreter that tears itself down


async def _check(given: Namespace, check: Callable[[Namespace, Client], Awaitable[Verdict]]) -> Verdict:
    return await check(given, await Client.connect(os.environ["TEMPORAL_ADDRESS"]))


def _kills(notes: str) -> list[Kill]:
    return [Kill.model_validate_json(line) for line in Path(notes).read_text().splitlines()]
