"""What an operator tells a call in flight, as updates of its workflow."""

import asyncio
import functools
import getpass
import socket
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.client.checks import Deadline, split_deadline
from durable_llm.client.connection import Rpcs, until_answered
from durable_llm.client.new_call import ConfigLike, to_config
from durable_llm.contract.control import WHO_CHARS, Told, ToldToEnd, ToldToExtend, ToldToReplace, ToldToSkip
from durable_llm.contract.names import (
    END_UPDATE,
    EXTEND_UPDATE,
    NOT_BEGUN,
    PAUSE_UPDATE,
    REPLACE_UPDATE,
    RESUME_UPDATE,
    RETRY_UPDATE,
    SKIP_UPDATE,
)
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import InvalidRequestError

_T = TypeVar("_T", bound=BaseModel)

ANSWERS_WITHIN: Final = timedelta(seconds=10)
"""How long a worker may take to take an update."""

_AGAIN_S: Final = 0.1
"""Seconds until an update is sent again to a call that has not begun."""


class Steering:
    """Steers one call. Each method takes who tells it and why, which the call keeps in its ledger.

    All raise InvalidRequestError if the call has ended or its state does not allow it, CallNotFoundError if there is no
    such call, and DispatcherUnavailableError if no worker takes the update within ten seconds.
    """

    call_id: str
    _rpcs: Rpcs
    _workflow: WorkflowHandle[Any, Any]

    async def _describe(self) -> WorkflowExecutionDescription:
        raise NotImplementedError

    async def retry(self, *, why: str, by: str | None = None) -> None:
        """Ask now instead of after the wait. A parked call starts its chain again.

        Args:
            why: The reason.
            by: Who. None: this process's user and host.
        """
        await self._steer(RETRY_UPDATE, Told, why, by)

    async def skip(self, *, why: str, by: str | None = None, model: str | None = None) -> None:
        """Leave the model that is asked now or next for the one after it. An attempt under way is given up.

        Args:
            why: The reason.
            by: Who. None: this process's user and host.
            model: Only if the call is at this model. None: whichever it is.
        """
        await self._steer(SKIP_UPDATE, ToldToSkip, why, by, model=model)

    async def replace(self, models: ConfigLike | Sequence[ConfigLike], *, why: str, by: str | None = None) -> None:
        """Ask other models after the current one; of a parked call, instead of all its models.

        Args:
            models: What to ask: as the config of a new call, or several of them.
            why: The reason.
            by: Who. None: this process's user and host.
        """
        several = models if isinstance(models, Sequence) and not isinstance(models, str) else [models]
        specs = [spec for each in several for spec in to_config(each).models]
        await self._steer(REPLACE_UPDATE, ToldToReplace, why, by, models=specs)

    async def pause(self, *, why: str, by: str | None = None) -> None:
        """Begin no attempt until the call is resumed. One that is under way goes on, and its answer counts.

        Args:
            why: The reason.
            by: Who. None: this process's user and host.
        """
        await self._steer(PAUSE_UPDATE, Told, why, by)

    async def resume(self, *, why: str, by: str | None = None) -> None:
        """Let a paused call go on, or a parked one start its chain again with all retries.

        Args:
            why: The reason.
            by: Who. None: this process's user and host.
        """
        await self._steer(RESUME_UPDATE, Told, why, by)

    async def extend(self, deadline: Deadline, *, why: str, by: str | None = None) -> None:
        """Give the call a later deadline. An attempt under way keeps the limit that it began with.

        Args:
            deadline: Time from now, or a moment with a time zone.
            why: The reason.
            by: Who. None: this process's user and host.
        """
        after_s, at = split_deadline(deadline)
        moment = at or datetime.now(UTC) + timedelta(seconds=after_s or 0.0)
        await self._steer(EXTEND_UPDATE, ToldToExtend, why, by, deadline=moment)

    async def end(self, text: str, *, why: str, by: str | None = None) -> None:
        """End the call with this answer. An attempt that is under way is given up. Nothing checks the answer.

        Args:
            text: The answer.
            why: The reason.
            by: Who. None: this process's user and host.
        """
        await self._steer(END_UPDATE, ToldToEnd, why, by, text=text)

    async def _steer(self, update: str, kind: type[Told], why: str, by: str | None, **more: Any) -> None:
        told = told_by(kind, update, why=why, by=by, **more)
        send = functools.partial(self._update, update, told, str(uuid.uuid4()))
        await self._rpcs.run(
            until_answered(send), call_id=self.call_id, wait=ANSWERS_WITHIN, unanswered=lambda: "the call's worker"
        )

    async def _update(self, update: str, told: Told, update_id: str) -> None:
        description = await self._describe()
        if description.status is not WorkflowExecutionStatus.RUNNING:
            raise self._refused("it has ended")
        try:
            await self._workflow.execute_update(update, told, id=update_id)
        except WorkflowUpdateFailedError as error:
            cause = error.cause if isinstance(error.cause, ApplicationError) else ApplicationError("")
            if cause.type != NOT_BEGUN:
                raise self._refused(cause.message) from None
            await asyncio.sleep(_AGAIN_S)
            await self._update(update, told, update_id)
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:  # the SDK's word for a cancellation of ours too
            raise error.__cause__ or error from None
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            latest = await self._describe()
            if latest.run_id == description.run_id:  # it was there a moment ago
                raise self._refused("it has ended") from None
            await self._update(update, told, update_id)  # it goes on in another run

    def _refused(self, why: str) -> InvalidRequestError:
        return InvalidRequestError(f"call {self.call_id!r}: {why}", call_id=self.call_id)


def told_by(kind: type[_T], action: str, *, why: str, by: str | None, **more: Any) -> _T:
    """What somebody tells.

    Args:
        kind: Its model, with `by` and `why`.
        action: Its name, for error texts.
        why: The reason.
        by: Who. None: this process's user and host, as far as they have names.
        more: The model's other fields.

    Raises:
        InvalidRequestError: a field cannot be used.
    """
    try:
        return kind(by=_this_user() if by is None else by, why=why, **more)
    except ValidationError as error:
        raise InvalidRequestError(f"{action}: {describe_validation_error(error)}") from None


def _this_user() -> str:
    host = socket.gethostname()
    try:
        return f"{getpass.getuser()}@{host}"[:WHO_CHARS]
    except (OSError, KeyError):  # a container's user may have no name
        return host[:WHO_CHARS]
