"""Options of a new call beside its models and its prompt: id, session, deadline, policy, labels."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from durable_llm.cli.parse import deadline, duration, is_duration, json_or_text, pairs
from durable_llm.client.new_call import CallOptions, SharedOptions

_PANEL = "Call"


@dataclass(frozen=True, kw_only=True)
class NewCallOptions:
    """What every new call takes beside config and content."""

    call_id: Annotated[
        str | None,
        typer.Option("--id", help="The call's id; the same id and request attach to it again.", metavar="ID",
                     rich_help_panel=_PANEL),
    ] = None  # fmt: skip
    session: Annotated[
        str | None, typer.Option(help="Session that the call belongs to.", metavar="NAME", rich_help_panel=_PANEL)
    ] = None
    tenant: Annotated[
        str | None,
        typer.Option(help="Who asks; tenants whose calls wait take turns.", metavar="NAME", rich_help_panel=_PANEL),
    ] = None
    priority: Annotated[
        int | None,
        typer.Option(help="1 goes first, 5 last, among calls that wait.", min=1, max=5, rich_help_panel=_PANEL,
                     show_default="3"),
    ] = None  # fmt: skip
    budget: Annotated[
        str | None,
        typer.Option(help="Budget of the call, as 'nightly=5' for 5 USD that all calls with this name share.",
                     metavar="NAME=USD", rich_help_panel=_PANEL),
    ] = None  # fmt: skip
    deadline: Annotated[
        str | None,
        typer.Option(help="When the call ends at the latest: '30m', '24h' or a moment like '2030-01-31T12:00Z'.",
                     metavar="WHEN", rich_help_panel=_PANEL, show_default="24h"),
    ] = None  # fmt: skip
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Field of the policy, as 'max_wait=2m' or 'on_exhausted=wait'.", metavar="KEY=VALUE",
                     rich_help_panel=_PANEL),
    ] = None  # fmt: skip
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="Label for operators, shown in the Temporal UI.", metavar="KEY=TEXT", rich_help_panel=_PANEL),
    ] = None
    if_failed: Annotated[
        Literal["return", "rerun"],
        typer.Option(help="What to do when the id names a call that failed.", rich_help_panel=_PANEL),
    ] = "return"

    def shared(self) -> SharedOptions:
        """The keyword arguments for `Dispatcher.submit` and `Dispatcher.embed`.

        Raises:
            InvalidRequestError: a deadline or a pair cannot be read.
        """
        given = None if self.budget is None else [self.budget]
        arguments = SharedOptions(
            session=self.session,
            tenant=self.tenant,
            priority=self.priority,
            budget=[{"name": name, "hard": json_or_text(amount)} for name, amount in pairs("--budget", given).items()],
            policy={name: _policy_value(value) for name, value in pairs("--policy", self.policy).items()},
            metadata=pairs("--metadata", self.metadata),
            if_failed=self.if_failed,
        )
        if self.deadline is not None:
            arguments["deadline"] = deadline("--deadline", self.deadline)
        return arguments


@dataclass(frozen=True, kw_only=True)
class SubmitOptions(NewCallOptions):
    """What a call that asks for one answer takes in addition."""

    stream: Annotated[
        bool,
        typer.Option("--stream", help="Publish the answer while it is written; `call` shows it on a terminal.",
                     rich_help_panel=_PANEL),
    ] = False  # fmt: skip
    if_different: Annotated[
        Literal["raise", "attach"],
        typer.Option(help="What to do when the id names another request.", rich_help_panel=_PANEL),
    ] = "raise"

    def to_arguments(self) -> CallOptions:
        """The keyword arguments for `Dispatcher.submit`.

        Raises:
            InvalidRequestError: as for `shared`.
        """
        own = CallOptions(stream=self.stream, if_different=self.if_different)
        return {**own, **self.shared()}


def _policy_value(text: str) -> Any:
    return duration("--policy", text) if is_duration(text) else json_or_text(text)
