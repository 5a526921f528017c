"""How many tokens a request may take, before it is sent."""

from typing import Final

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.request import Prompt

_CHARACTERS_A_TOKEN: Final = 4
_LIMIT_PARAMETERS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def prompt_tokens(prompt: Prompt) -> int:
    """Tokens of a prompt, by OpenAI's rule of thumb of four characters each."""
    return len(prompt.model_dump_json(include={"messages", "texts", "tools"})) // _CHARACTERS_A_TOKEN + 1


def most_output_tokens(spec: ModelSpecOnWire) -> int | None:
    """Tokens of an answer that the request allows. None: it does not say."""
    parameters = {**spec.extra_params, **(spec.extra_params.get("extra_body") or {})}
    limits = (parameters.get(name) for name in _LIMIT_PARAMETERS)
    return next((limit for limit in limits if isinstance(limit, int)), None)
