"""The commands that ask: `call`, `submit`, and `result` for who comes back."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from durable_llm.cli.chain import Chain
from durable_llm.cli.output import Output
from durable_llm.cli.question import Question
from durable_llm.cli.server import Server, Submitting
from durable_llm.cli.terms import Terms
from durable_llm.cli.values import duration
from durable_llm.cli.waiting import Wait, Waiting, interrupted
from durable_llm.client.checks import fresh_call_id
from durable_llm.client.new_call import CallOptions
from durable_llm.client.prompt import Messages
from durable_llm.contract.config import LLMConfig

CallId = Annotated[str, typer.Argument(metavar="ID", help="The call's id.")]

_Request = tuple[LLMConfig, Messages, CallOptions]


def call(
    question: Question, chain: Chain, terms: Terms, waiting: Waiting, submitting: Submitting, server: Server,
    output: Output,
) -> Coroutine[Any, Any, None]:  # fmt: skip
    """Ask, wait, and print the answer. Ctrl-C cancels the call, unless it has an --id to attach to."""
    return _call(_request(question, chain, terms), terms.call_id, waiting, submitting, server, output)


async def _call(
    request: _Request, call_id: str | None, waiting: Waiting, submitting: Submitting, server: Server, output: Output
) -> None:
    config, messages, options = request
    own_id = call_id if call_id is not None else fresh_call_id()
    async with submitting.dispatcher(server) as dispatcher:
        try:
            handle = await dispatcher.submit(config, messages, call_id=own_id, wait=waiting.limit, **options)
            await waiting.result(handle, output)
        except asyncio.CancelledError:
            raise await interrupted(dispatcher.attach(own_id), cancel=call_id is None) from None


def submit(
    question: Question, chain: Chain, terms: Terms, submitting: Submitting, server: Server, output: Output,
    wait: Wait = None,
) -> Coroutine[Any, Any, None]:  # fmt: skip
    """Start a call, or attach to the one with this --id, and print its id without waiting for the answer."""
    return _submit(_request(question, chain, terms), terms.call_id, wait, submitting, server, output)


async def _submit(
    request: _Request, call_id: str | None, wait: str | None, submitting: Submitting, server: Server, output: Output
) -> None:
    config, messages, options = request
    limit = duration("--wait", wait) if wait is not None else None
    async with submitting.dispatcher(server) as dispatcher:
        handle = await dispatcher.submit(config, messages, call_id=call_id, wait=limit, **options)
    output.give({"call_id": handle.call_id}, handle.call_id)


async def result(call_id: CallId, waiting: Waiting, server: Server, output: Output) -> None:
    """Wait for a call's answer and print it."""
    async with server.dispatcher() as dispatcher:
        handle = dispatcher.attach(call_id)
        try:
            await waiting.result(handle, output)
        except asyncio.CancelledError:
            raise await interrupted(handle, cancel=False) from None


def _request(question: Question, chain: Chain, terms: Terms) -> _Request:
    """All that the command line and its files say, read before anything is connected."""
    options = terms.to_options()
    config = chain.to_config()
    options["response_format"] = question.response_format()
    options["validators"] = question.validators()
    return config, question.to_messages(), options
