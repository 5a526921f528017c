"""A web service that submits and polls: `uvicorn examples.web_handler:app` (needs `pip install fastapi uvicorn`).

POST /answers?question=... returns an id at once. GET /answers/ID says whether the answer is there. No request waits for
a model, and a restart of the service loses nothing. MODEL and API_BASE in the environment choose the model.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI, HTTPException

from durable_llm import CallNotFoundError, Dispatcher, DurableLLMError, ModelSpec, ResultNotReadyError

MODEL = ModelSpec(name=os.environ.get("MODEL", "openai/gpt-4o-mini"), api_base=os.environ.get("API_BASE"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One dispatcher for all requests of the process."""
    async with Dispatcher.connect() as app.state.dispatcher:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/answers", status_code=202)
async def submit(question: str) -> dict[str, str]:
    """Start a call."""
    handle = await app.state.dispatcher.submit(MODEL, question)
    return {"id": handle.call_id}


@app.get("/answers/{call_id}")
async def poll(call_id: str) -> dict[str, str | None]:
    """The answer, or what the call is doing."""
    handle = app.state.dispatcher.attach(call_id)
    try:
        return {"answer": (await handle.result(wait=timedelta(seconds=0.2))).text}
    except ResultNotReadyError:
        return {"status": (await handle.status()).activity}
    except CallNotFoundError as error:
        raise HTTPException(404, error.message) from None
    except DurableLLMError as error:
        raise HTTPException(502, error.message) from None
