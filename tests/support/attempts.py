"""Runs the real attempt activity without a Temporal server."""

import dataclasses
from datetime import timedelta

from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.attempt import ProviderAttempts
from activities.secrets.key_ring import KeyRing
from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.request import AttemptOrder, Prompt

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


class ReachableServer:
    """A Temporal server that is always there and holds one prompt."""

    def __init__(self, prompt: Prompt | None = None) -> None:
        self._prompt = prompt
        self.asked = 0

    async def prompt(self) -> Prompt:
        assert self._prompt is not None
        return self._prompt

    async def prompt_of(self, _call_id: str, _run_id: str) -> Prompt:
        return await self.prompt()

    async def reachable(self, _heard_at: float) -> None:
        self.asked += 1


def ring(environment: dict | None = None, **settings) -> KeyRing:
    """A key ring that lets requests to loopback pass."""
    return KeyRing(environment or {}, **{"hosts": {"127.0.0.1"}, **settings})


def order(model: str, api_base: str | None = None, *, timeout_s: float = 20.0, **spec) -> AttemptOrder:
    """An order to ask `model`."""
    wire = ModelSpecOnWire(name=model, api_base=api_base, **spec)
    return AttemptOrder(number=1, spec=wire, spec_index=0, try_number=1, timeout_s=timeout_s)


def says(text: str = "Name a prime.", **prompt) -> Prompt:
    """A prompt of one message."""
    return Prompt(messages=[{"role": "user", "content": text}], **prompt)


def environment(client: Client | None = None) -> ActivityEnvironment:
    """A place to run an activity in, with a heartbeat timeout of 6 s."""
    env = ActivityEnvironment(client)
    env.info = dataclasses.replace(env.info, heartbeat_timeout=timedelta(seconds=6))
    return env


async def attempt(
    order: AttemptOrder, prompt: Prompt | None = None, *, keys: KeyRing | None = None, env=None, **options
):
    """The activity's return value, or what it raises."""
    attempts = ProviderAttempts(keys or ring(), **{"server": ReachableServer(), **options})
    return await (env or environment()).run(attempts.provider_attempt, order, prompt or says())
