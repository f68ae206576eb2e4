"""What an executor is: where the jobs of a search run."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol


class Handler(Protocol):
    """Does jobs in one process."""

    def handle(self, job: Mapping[str, Any]) -> Any:
        """Do one job: JSON in, JSON out."""


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        job: as it was submitted.
        result: JSON; None where it failed.
        error: why there is no result, in one line; None where there is one.
    """

    job: Mapping[str, Any]
    result: Any = None
    error: str | None = None


class Executor(Protocol):
    """Runs jobs: JSON goes in, JSON comes out."""

    @property
    def has_room(self) -> bool:
        """Whether another job can be submitted now."""

    @property
    def busy(self) -> int:
        """How many jobs are under way, or done and not collected."""

    @property
    def result_ready(self) -> bool:
        """Whether `wait` returns without waiting for another process."""

    def submit(self, job: Mapping[str, Any]) -> None:
        """Take a job; its result is collected by `wait`."""

    def wait(self) -> JobResult:
        """Collect the next result, waiting for it if there is none yet."""

    def reserve(self, cores: int) -> AbstractContextManager[None]:
        """Keep this many cores of this machine free of jobs inside, for a measurement."""

    def close(self) -> None:
        """End all workers; the jobs under way are lost."""


@dataclass(frozen=True)
class WorkerSpec:
    """What an executor starts its workers from.

    Attributes:
        target: `package.module:Class` of a `Handler`, created once in every worker process with `setup` and
            `on_message`, a function that takes anything JSON-able.
        setup: JSON-able arguments of that class, by name.
        count: workers that are wanted.
        on_message: receives what workers send while they work.
        in_process: creates this process's own handler, for executors without processes; called with the first job.
        objects: given in Python and named by the run's config; worker processes make them known by
            `nas_kd.plugins.remember_all` before they create the target.
    """

    target: str
    setup: Mapping[str, Any]
    count: int
    on_message: Callable[[Any], None]
    in_process: Callable[[], Handler]
    objects: Mapping[str, Any] = field(default_factory=dict)


class ExecutorPlugin(ABC):
    """One file in `nas_kd/executors/` with `PLUGIN = <instance>`, or a user's `package.module:Name`."""

    name: ClassVar[str]
    summary: ClassVar[str]  # one line for `nas-kd list executors`

    @abstractmethod
    def open(self, spec: WorkerSpec) -> Executor:
        """Start the workers.

        Raises:
            InputError: they cannot be started.
        """
