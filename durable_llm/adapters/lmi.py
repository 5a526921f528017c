"""lmi's models and ldp's agents, with durable calls.

    from durable_llm.adapters.lmi import durable

    async with Dispatcher.connect() as dispatcher, dispatcher.job("job-17") as job:
        with durable(job):
            trajectory = await agent_and_environment()  # every call of ldp and of LiteLLMModel is a call of the job

Needs `pip install 'durable-llm[lmi]'`. A worker lives in another environment: lmi pins an older litellm.
"""

import importlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from inspect import signature
from typing import Any, Final, cast

import litellm
import lmi
from aviary.core import Message, ToolSelector
from lmi.config import ModelSpec as TheirSpec
from lmi.constants import CHARACTERS_PER_TOKEN_ASSUMPTION
from lmi.cost_tracker import GLOBAL_COST_TRACKER
from lmi.exceptions import AllModelsExhaustedError as TheirExhaustedError
from lmi.exceptions import ResponseValidationError
from lmi.llms import default_tool_parser, extract_top_logprobs, sum_logprobs
from pydantic import ValidationError

from durable_llm.client.job import Job
from durable_llm.client.openai_chat import completion_of
from durable_llm.contract.config import LLMConfig, ModelSpec
from durable_llm.contract.result import LLMResult
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import AllModelsExhaustedError, InvalidRequestError

_job: ContextVar[Job | None] = ContextVar("durable_llm_job", default=None)

_NOT_PARAMETERS: Final = ("num_retries", "max_retries", "tool_parser")
"""What lmi keeps in `extra_params` and does not send."""

_ONLY_WITH_TOOLS: Final = ("tool_choice", "parallel_tool_calls")
_OPTIONS: Final = ("tools", "tool_choice", "response_format")


class LiteLLMModel(lmi.LiteLLMModel):  # type: ignore[misc]  # lmi is not there when this is checked
    """lmi's model, whose calls are calls of the job in `durable`.

    Retries and fallbacks follow durable-llm's policy; a job with `policy=Policy(preset="lmi")` decides as lmi does.
    A `response_validator` and a `tool_parser` run here, in the caller.
    """

    async def _run_with_fallbacks(self, *_: Any, messages: list[Message], streaming: bool = False, **call: Any) -> Any:
        """See base class: the one method through which lmi asks its models.

        Raises:
            lmi.exceptions.AllModelsExhaustedError: no model answered; its `last_exc` is ours, with the ledger.
            DurableLLMError: the call ended in another way, or its request is refused.
        """
        results = await self._validated(messages, call)
        return _iterated(results) if streaming else results

    async def _validated(self, messages: list[Message], call: dict[str, Any]) -> list[lmi.LLMResult]:
        """The results, asked again while the caller's validator rejects them, as often as lmi would."""
        specs = self.llm_config.models
        for place, spec in enumerate(specs):
            for _ in range(spec.max_retries + 1):
                results = await self._results(specs[place:], messages, call)
                try:
                    await self._maybe_validate(results)
                except ResponseValidationError as error:
                    rejected = error
                    continue
                return results
        raise TheirExhaustedError(rejected) from rejected

    async def select_tool(self, *selection_args: Any, **selection_kwargs: Any) -> Any:
        """See base class."""

        async def complete(_: str, *, messages: list[dict[str, Any]], **call: Any) -> litellm.ModelResponse:
            return (await self._complete(self.llm_config.models, messages, call))[1]

        return await ToolSelector(self.name, acompletion=complete)(*selection_args, **selection_kwargs)

    async def _results(
        self, specs: Sequence[TheirSpec], messages: list[Message], call: dict[str, Any]
    ) -> list[lmi.LLMResult]:
        """The results of one durable call, within lmi's own limits of this model."""
        await self.check_request_limit()
        await self.check_rate_limit(len(str(messages)) / CHARACTERS_PER_TOKEN_ASSUMPTION)
        result, completion = await self._complete(specs, _transcript(messages), call)
        await self.check_rate_limit(result.usage.completion_tokens if result.usage else 0)
        return [self._result(result, choice, messages, call.get("tools")) for choice in completion.choices]

    async def _complete(
        self, specs: Sequence[TheirSpec], transcript: list[dict[str, Any]], call: dict[str, Any]
    ) -> tuple[LLMResult, litellm.ModelResponse]:
        """One durable call, in our shape and in litellm's."""
        job = _job.get()
        if job is None:
            raise InvalidRequestError("there is no job; call lmi's models inside `with durable(job):`")
        has_tools = bool(call.get("tools"))
        if not has_tools:
            call = {name: value for name, value in call.items() if name not in _ONLY_WITH_TOOLS}
        options: Any = {name: call[name] for name in _OPTIONS if call.get(name)}
        sent = {name: value for name, value in call.items() if name not in (*_OPTIONS, "model")}
        if sent.get("n") == 1:
            del sent["n"]
        try:
            result = await job.call(_chain(specs, sent, has_tools=has_tools), transcript, **options)
        except AllModelsExhaustedError as error:
            raise TheirExhaustedError(error) from error
        completion = litellm.ModelResponse(**completion_of(result, result.response_id or ""))
        if GLOBAL_COST_TRACKER.enabled.get():
            await GLOBAL_COST_TRACKER.record(completion)
        return result, completion

    def _result(
        self, result: LLMResult, choice: Any, messages: list[Message], tools: list[dict[str, Any]] | None
    ) -> lmi.LLMResult:
        usage = result.usage
        answered = self._parsed(choice, tools)
        for message in answered:
            if result.response_id and result.message().get("response_id"):
                message.info = {**(message.info or {}), "response_id": result.response_id}
        return lmi.LLMResult(
            model=result.model or self.name,
            text=choice.message.content,
            prompt=messages,
            messages=answered,
            logprob=sum_logprobs(choice),
            top_logprobs=extract_top_logprobs(choice),
            prompt_count=usage.prompt_tokens if usage else None,
            completion_count=usage.completion_tokens if usage else None,
            cache_read_tokens=usage.cache_read_tokens if usage else None,
            cache_creation_tokens=usage.cache_creation_tokens if usage else None,
            cost=result.cost or 0.0,  # lmi has no word for an unknown cost
            system_fingerprint=result.system_fingerprint,
            reasoning_content=result.reasoning_content,
            finish_reason=choice.finish_reason,
            response_id=result.response_id,
        )

    def _parsed(self, choice: Any, tools: list[dict[str, Any]] | None) -> list[Message]:
        """The messages of a choice, by the caller's parser or lmi's own, called as lmi calls it."""
        if self.tool_parser is None:
            parsed = default_tool_parser(choice, tools)
        else:
            first = next(iter(signature(self.tool_parser).parameters.values()))
            parsed = self.tool_parser(choice.message.content or "" if first.annotation is str else choice, tools)
        return parsed if isinstance(parsed, list) else [parsed]


@contextmanager
def durable(job: Job) -> Iterator[None]:
    """Inside, calls of this module's LiteLLMModel, and of every ldp agent, are calls of `job`.

    It holds for this task and the tasks that it starts. Started again, the program gets the answers that it had.
    """
    with suppress(ImportError):  # ldp is not needed to use lmi
        _teach_ldp()
    token = _job.set(job)
    try:
        yield
    finally:
        _job.reset(token)


def _teach_ldp() -> None:
    """Let ldp's operation make models of this module where there is a job. ldp has no other place to say that."""
    operations: Any = importlib.import_module("ldp.graph.common_ops")
    if operations.LLMModel is lmi.LiteLLMModel:
        operations.LLMModel = _model


def _model(**fields: Any) -> lmi.LiteLLMModel:
    return (LiteLLMModel if _job.get() is not None else lmi.LiteLLMModel)(**fields)


def _chain(specs: Sequence[TheirSpec], sent: Mapping[str, Any], *, has_tools: bool) -> LLMConfig:
    """Our chain for lmi's specs, with the parameters of the call over theirs.

    Raises:
        InvalidRequestError: a spec cannot be sent, for example because it holds a key; says what to write instead.
    """
    try:
        return LLMConfig(models=[_spec(spec, sent, has_tools=has_tools) for spec in specs])
    except ValidationError as error:
        raise InvalidRequestError(f"llm_config: {describe_validation_error(error)}") from None


def _spec(spec: TheirSpec, sent: Mapping[str, Any], *, has_tools: bool) -> ModelSpec:
    left_out = (*_NOT_PARAMETERS, *(() if has_tools else _ONLY_WITH_TOOLS))
    parameters = {name: value for name, value in {**spec.extra_params, **sent}.items() if name not in left_out}
    return ModelSpec(
        name=spec.name,
        api_base=spec.api_base,
        api_key=spec.api_key.get_secret_value() if spec.api_key else None,
        timeout=spec.timeout,
        max_retries=spec.max_retries,
        responses_api=spec.responses_api,
        extra_params={name: value for name, value in parameters.items() if value is not None},
    )


def _transcript(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages in OpenAI's shape, with the ids of stored responses to continue from."""
    written = [cast("dict[str, Any]", message.model_dump(by_alias=True)) for message in messages]
    for message, plain in zip(messages, written, strict=True):
        if response_id := (message.info or {}).get("response_id"):
            plain["response_id"] = response_id
    return written


async def _iterated(results: list[lmi.LLMResult]) -> AsyncIterator[lmi.LLMResult]:
    """Results for lmi's callbacks: as in lmi, a chat's text is given once it is whole."""
    for result in results:
        yield result
