"""fhlmi's model, which is not durable: `python -m benchmarks.contestants.fhlmi_model`."""

import asyncio
import os

from lmi import LiteLLMModel

from benchmarks.contestants.caller import PARAMETERS, serve

DEPLOYMENT = {
    "model": "openai/gpt-4o-mini", "api_base": os.environ["OPENAI_BASE_URL"], "api_key": "none", **PARAMETERS,
}  # fmt: skip

if __name__ == "__main__":
    model = LiteLLMModel(
        name="gpt-4o-mini", config={"model_list": [{"model_name": "gpt-4o-mini", "litellm_params": DEPLOYMENT}]}
    )
    asyncio.run(serve(lambda: model.call_single("Name a prime.")))
