"""How large a run is: calls, workers, and which processes are killed, in which order."""

from dataclasses import dataclass
from typing import Final, Literal

Target = Literal["worker", "job", "server"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a run; times in seconds."""

    calls: int
    at_once: int
    """Calls that the job has open at a time."""
    workers: int
    targets: tuple[Target, ...]
    """Which processes are killed, in this order, until the job has ended."""
    least_kills: int
    """Workers that must be killed with requests open, or the verdict is not good."""
    pause_s: float
    """Between one kill and the next."""
    heartbeat_timeout_s: int
    limit_s: float
    """After this long the run fails."""


_MORE: Final[tuple[Target, ...]] = ("worker",) * 7

FULL: Final = Size(
    calls=200, at_once=16, workers=3, targets=("worker", "worker", "job", "worker", "server", *_MORE),
    least_kills=5, pause_s=4.0, heartbeat_timeout_s=5, limit_s=400.0,
)  # fmt: skip

SHORT: Final = Size(
    calls=40, at_once=12, workers=3, targets=("worker", "job", "worker", "server"),
    least_kills=2, pause_s=2.0, heartbeat_timeout_s=5, limit_s=150.0,
)  # fmt: skip
