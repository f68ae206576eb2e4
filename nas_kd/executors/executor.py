"""What executors share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class JobResult:
    """What became of a job. `error`: why there is no result, in one line."""

    job: Mapping[str, Any]
    result: Any = None
    error: str | None = None


class Executor(Protocol):
    """Where jobs run: JSON goes in, JSON comes out."""

    @property
    def has_room(self) -> bool:
        """Whether another job can be taken."""

    @property
    def busy(self) -> int:
        """How many jobs are under way, or done and not asked for."""

    @property
    def answered(self) -> bool:
        """Whether nothing is gained by waiting with `wait`: an answer is there, or is made when it is asked for."""

    def submit(self, job: Mapping[str, Any]) -> None:
        """Take a job."""

    def wait(self) -> JobResult:
        """The next answer."""
