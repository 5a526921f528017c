"""From what a caller wrote to a checked call that can be submitted."""

import itertools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, TypedDict

from pydantic import ValidationError

from durable_llm.client.checks import (
    Deadline,
    check_call_id,
    check_metadata,
    check_not_passed,
    check_session,
    check_share,
    check_sizes,
    check_validators,
    fresh_call_id,
    split_deadline,
)
from durable_llm.client.fingerprint import fingerprint
from durable_llm.client.prompt import Messages, ResponseFormat, to_prompt
from durable_llm.contract import lmi
from durable_llm.contract.budgets import Budget, BudgetOnWire, budgets_of
from durable_llm.contract.categories import Category
from durable_llm.contract.config import LLMConfig, ModelSpec
from durable_llm.contract.parameters import check_parameters
from durable_llm.contract.policy import Policy, RuleAction
from durable_llm.contract.request import CHAT, EMBEDDINGS, CallRequest, Prompt, needed_version
from durable_llm.contract.tenants import Share
from durable_llm.contract.validation import ValidatorLike
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import InvalidRequestError

logger = logging.getLogger("durable_llm")

DEFAULT_DEADLINE: Final = timedelta(hours=24)

ConfigLike = str | ModelSpec | LLMConfig | Mapping[str, Any]
"""Everything that a caller may pass as `config`."""

Namer = Callable[[Mapping[str, str]], str]
"""Makes a call's id from the hashes of what it asks."""

BudgetLike = Budget | Mapping[str, Any] | Sequence[Budget | Mapping[str, Any]] | None
"""Everything that a caller may pass as `budget`."""

EXTRA_PARAMS_VARIABLE: Final = "DURABLE_LLM_EXTRA_PARAMS"
"""Provider parameters that the operator added to the built-in list; the workers have a setting of the same name."""

RULES_VARIABLE: Final = "DURABLE_LLM_RULES"
"""A deployment's own rules ("permission=fail, timeout=next"), read at submit; they travel in the call."""


class SharedOptions(TypedDict, total=False):
    """The options that `submit` and `embed` share; documented there."""

    session: str | None
    tenant: str | None
    priority: int | None
    budget: BudgetLike
    deadline: Deadline
    policy: Policy | Mapping[str, Any] | None
    metadata: Mapping[str, str] | None
    if_failed: Literal["return", "rerun"]


class CallOptions(SharedOptions, total=False):
    """The options of `submit` apart from config, messages, call_id and wait; documented there."""

    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    response_format: ResponseFormat
    validators: Sequence[ValidatorLike]
    stream: bool
    if_different: Literal["raise", "attach"]


class EmbedOptions(SharedOptions, total=False):
    """The options of `embed` apart from config, texts and call_id; documented there."""

    dimensions: int | None
    batch_size: int | None
    concurrency: int
    mixed_models: bool


@dataclass(frozen=True, kw_only=True)
class NewCall:
    """A checked call that has not been submitted yet."""

    call_id: str
    request: CallRequest
    prompt: Prompt
    prompt_bytes: int
    """Size of the prompt as JSON."""
    stored: bool
    """Whether the prompt goes to the store and a reference to it into the call."""
    fingerprint: Mapping[str, str]
    metadata: Mapping[str, str]
    share: Share


def chat_prompt(chain: LLMConfig, messages: Messages, options: CallOptions) -> Prompt:
    """The prompt of a call that asks for an answer to messages.

    Raises:
        InvalidRequestError: a part is wrong; names it.
    """
    own = (chain.response_validator,) if chain.response_validator else ()
    return to_prompt(
        messages, tools=options.get("tools"), tool_choice=options.get("tool_choice"),
        response_format=options.get("response_format"),
        validators=[*own, *check_validators(options.get("validators", ()))], tool_parser=chain.tool_parser,
    )  # fmt: skip


def new_call(
    chain: LLMConfig, prompt: Prompt, options: CallOptions, *,
    call_id: str | Namer | None, search_attributes: bool, stored_above: int | None,
) -> NewCall:  # fmt: skip
    """Check the other options of `submit` and put the call together.

    Args:
        chain: The models to ask.
        prompt: What to ask.
        options: The other options.
        call_id: The id, or what makes it. None: a fresh one.
        search_attributes: Whether the namespace has ours.
        stored_above: Bytes above which a prompt goes to the store. None: there is no store.

    Raises:
        InvalidRequestError: a part is wrong; names it.
    """
    if prompt.texts is not None and any(spec.batch for spec in chain.models):
        raise InvalidRequestError("config: 'batch' is for messages; leave it out to embed texts")
    policy = to_policy(options.get("policy"))
    deadline_after_s, deadline_at = split_deadline(options.get("deadline", DEFAULT_DEADLINE))
    check_session(options.get("session"))
    share = check_share(options.get("tenant"), options.get("priority"))
    budgets = _budgets(options)
    if call_id is None:
        check_not_passed(deadline_at)
    request = CallRequest(
        models=[_with_timeout_of_preset(spec, policy) for spec in chain.models], policy=policy,
        deadline_after_s=deadline_after_s, deadline_at=deadline_at, session=options.get("session"),
        search_attributes=search_attributes, streams=options.get("stream", False),
        operation=CHAT if prompt.texts is None else EMBEDDINGS, budgets=budgets,
    )  # fmt: skip
    size = check_sizes(request, prompt, has_store=stored_above is not None)
    stored = stored_above is not None and size > stored_above
    version = needed_version(
        prompt, stored=stored, background=any(spec.background for spec in chain.models),
        batch=any(spec.batch for spec in chain.models), budgets=bool(budgets), parks=policy.on_exhausted == "park",
    )  # fmt: skip
    hashes = fingerprint(chain, prompt)
    given = call_id(hashes) if callable(call_id) else call_id
    return NewCall(
        call_id=fresh_call_id() if given is None else check_call_id(given),
        request=request.model_copy(update={"schema_version": version}),
        prompt=prompt,
        prompt_bytes=size,
        stored=stored,
        fingerprint=hashes,
        metadata=check_metadata(options.get("metadata")),
        share=share,
    )


def _budgets(options: CallOptions) -> list[BudgetOnWire]:
    """The budgets of the call, and those of its tenant and session in the operator's file."""
    given = options.get("budget")
    try:
        own = [given] if given is None or isinstance(given, Budget | Mapping) else list(given)
        checked = [each if isinstance(each, Budget) else Budget(**each) for each in own if each is not None]
        return budgets_of(checked, tenant=options.get("tenant"), session=options.get("session"))
    except ValidationError as error:
        raise InvalidRequestError(f"budget: {describe_validation_error(error)}") from None
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"budget: {error}") from None


def to_config(value: ConfigLike) -> LLMConfig:
    """The chain of models in `value`, if this machine's operator allows their parameters.

    lmi's dict shapes bring lmi's defaults, which the log names once per process; names and specs bring none.

    Raises:
        InvalidRequestError: it is none of the accepted shapes, or a model in it is invalid.
    """
    try:
        config = _config(value)
        allowed = {name for part in os.environ.get(EXTRA_PARAMS_VARIABLE, "").split(",") if (name := part.strip())}
        for spec in config.models:
            check_parameters(spec.extra_params, allowed)
    except ValidationError as error:
        raise InvalidRequestError(f"config: {describe_validation_error(error)}") from None
    except LookupError as error:
        raise InvalidRequestError(f"config: an entry has no {error}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"config: {error}") from None
    return config


def _config(value: ConfigLike) -> LLMConfig:
    match value:
        case LLMConfig():
            return value
        case ModelSpec():
            return LLMConfig(models=[value])
        case str():
            return LLMConfig(models=[ModelSpec(name=value)])
    config = LLMConfig.from_lmi(value)
    written = [model for model in lmi.models_of(value) if not isinstance(model, ModelSpec)]
    added = {name: setting for model in written for name, setting in lmi.added_to(model).items()}
    if added and next(_added_defaults) == 0:
        logger.info(
            "config: lmi's dict shapes bring lmi's defaults, here %s; to leave them out pass names or ModelSpecs, to "
            "silence this pass LLMConfig.from_lmi({...})", ", ".join(f"{name}={added[name]!r}" for name in added),
        )  # fmt: skip
    return config


_added_defaults = itertools.count()
"""How often this process added lmi's defaults to what a caller wrote; only the first time is logged."""


def to_policy(policy: Policy | Mapping[str, Any] | None) -> Policy:
    """The policy with the deployment's rules; the call's own rules win."""
    if policy is not None and not isinstance(policy, Policy | Mapping):
        raise InvalidRequestError(f"policy: expected a Policy or a dict, got {type(policy).__name__}")
    try:
        own = policy if isinstance(policy, Policy) else Policy.model_validate(dict(policy or {}))
    except ValidationError as error:
        raise InvalidRequestError(f"policy: {describe_validation_error(error)}") from None
    return own.model_copy(update={"rules": {**_deployment_rules(), **own.rules}})


def _deployment_rules() -> Mapping[Category, RuleAction]:
    written = [entry.partition("=") for entry in os.environ.get(RULES_VARIABLE, "").split(",") if entry.strip()]
    try:
        return Policy.model_validate({"rules": {name.strip(): action.strip() for name, _, action in written}}).rules
    except ValidationError as error:
        raise InvalidRequestError(
            f"{RULES_VARIABLE}: {describe_validation_error(error)}; write 'category=action' pairs separated by commas"
        ) from None


def _with_timeout_of_preset(spec: ModelSpec, policy: Policy) -> ModelSpec:
    """With lmi's timeout if the policy is lmi's and the caller wrote no timeout."""
    if policy.preset == "lmi" and "timeout" not in spec.model_fields_set:
        return spec.model_copy(update={"timeout": lmi.TIMEOUT_S})
    return spec
