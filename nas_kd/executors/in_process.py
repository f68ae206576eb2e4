"""One job at a time, in this process: what a search with one worker uses."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nas_kd.executors.executor import Handler, JobResult


class InProcessExecutor:
    """Does a job when its result is asked for; exceptions of the job are raised, not returned."""

    def __init__(self, create_handler: Callable[[], Handler]) -> None:
        """Run jobs here.

        Args:
            create_handler: called with the first job.
        """
        self._create = create_handler
        self._handler: Handler | None = None
        self._job: Mapping[str, Any] | None = None

    @property
    def has_room(self) -> bool:
        """Whether there is no job yet."""
        return self._job is None

    @property
    def busy(self) -> int:
        """How many jobs there are: none or one."""
        return int(self._job is not None)

    @property
    def result_ready(self) -> bool:
        """Always true: nothing is done before the result is asked for."""
        return True

    def submit(self, job: Mapping[str, Any]) -> None:
        """Take a job, which `wait` does.

        Raises:
            RuntimeError: there is a job already.
        """
        if self._job is not None:
            raise RuntimeError("there is a job already")
        self._job = job

    def wait(self) -> JobResult:
        """Do the job.

        Raises:
            RuntimeError: no job was submitted.
        """
        if self._job is None:
            raise RuntimeError("no job is under way")
        job, self._job = self._job, None
        if self._handler is None:
            self._handler = self._create()
        return JobResult(job, self._handler.handle(job))

    @contextmanager
    def reserve(self, cores: int) -> Iterator[None]:
        """Do nothing: while this process measures, it runs no job."""
        yield

    def close(self) -> None:
        """Do nothing: there is no process to end."""
