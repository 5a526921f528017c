"""litellm, which is not durable: `python -m benchmarks.contestants.litellm_caller alone | router`."""

import asyncio
import os
import sys
from typing import Any

import litellm

from benchmarks.contestants.caller import PARAMETERS, serve

MESSAGES: Any = [{"role": "user", "content": "Name a prime."}]
DEPLOYMENT: dict[str, Any] = {
    "model": "openai/gpt-4o-mini", "api_base": os.environ["OPENAI_BASE_URL"], **PARAMETERS,
}  # fmt: skip

if __name__ == "__main__":
    litellm.suppress_debug_info = True
    router = litellm.Router(model_list=[{"model_name": "small", "litellm_params": DEPLOYMENT}], num_retries=3)
    asyncio.run(
        serve(
            (lambda: router.acompletion(model="small", messages=MESSAGES))
            if sys.argv[1] == "router"
            else (lambda: litellm.acompletion(messages=MESSAGES, **DEPLOYMENT))
        )
    )
