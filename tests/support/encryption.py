"""Encryption keys for tests, and clients that have them."""

import base64
import hashlib

from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from durable_llm import data_converter
from durable_llm.encryption.keys import KEYS_VARIABLE


def key(key_id: str) -> str:
    """A key in base64, the same for the same id."""
    return base64.b64encode(hashlib.sha256(key_id.encode()).digest()).decode()


def keys(*key_ids: str) -> dict[str, str]:
    """The environment of a process with these keys; none: of one without encryption."""
    return {KEYS_VARIABLE: ",".join(f"{key_id}={key(key_id)}" for key_id in key_ids)}


async def client_with(env: WorkflowEnvironment, *key_ids: str) -> Client:
    """A client of `env` with these keys."""
    address = env.client.service_client.config.target_host
    return await Client.connect(address, data_converter=data_converter(keys(*key_ids)))
