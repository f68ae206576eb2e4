"""One job at a time, in this process: what a search with one worker uses."""

from collections.abc import Mapping
from typing import Any, Protocol

from nas_kd.executors.executor import JobResult


class Handler(Protocol):
    """Does a job."""

    def handle(self, job: Mapping[str, Any]) -> Any:
        """JSON in, JSON out."""


class InProcessExecutor:
    """Does a job when its answer is asked for; what it raises is raised."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._job: Mapping[str, Any] | None = None

    @property
    def has_room(self) -> bool:
        """Whether there is no job yet."""
        return self._job is None

    @property
    def busy(self) -> int:
        """How many jobs there are."""
        return int(self._job is not None)

    @property
    def answered(self) -> bool:
        """Always: nothing is done before it is asked for."""
        return True

    def submit(self, job: Mapping[str, Any]) -> None:
        """Take a job."""
        if self._job is not None:
            raise RuntimeError("there is a job already")
        self._job = job

    def wait(self) -> JobResult:
        """Do it."""
        if self._job is None:
            raise RuntimeError("no job is under way")
        job, self._job = self._job, None
        return JobResult(job, self._handler.handle(job))
