"""The workers of a run: typed jobs go to its executor, and an account is kept of what they did."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nas_kd.context.callbacks import Callback
from nas_kd.executors.executor import ExecutorPlugin, Handler, WorkerSpec
from nas_kd.nas.jobs import Job, PrecomputeTeacher, job_from_json
from nas_kd.plugins import load
from nas_kd.serialization import canonical_json

J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class PoolResult(Generic[J]):
    """What became of a job.

    Attributes:
        job: as it was submitted.
        result: what `job.run` returned, as JSON; `job.result` reads it.
        error: why there is no result, in one line; None where there is one.
    """

    job: J
    result: Any = None
    error: str | None = None


class WorkerPool:
    """Workers of one run; they load code and data while the coordinator prepares the teacher."""

    def __init__(
        self,
        executor: str,
        target: str,
        run_dir: str,
        workers: int,
        callback: Callback,
        *,
        objects: Mapping[str, Any] | None = None,
    ) -> None:
        """Start the workers.

        Args:
            executor: name in the registry, or `package.module:Name`.
            target: `package.module:Class` that does jobs in a worker.
            run_dir: folder of the run, with its config in it.
            workers: how many.
            callback: receives how far jobs have come.
            objects: given in Python and named by the run's config.

        Raises:
            InputError: there is no such executor, or workers cannot be started.
        """
        self.workers = workers
        self._create_handler: Callable[[], Handler] | None = None
        plugin = load("executor", executor, ExecutorPlugin)  # type: ignore[type-abstract]
        self._executor = plugin.open(
            WorkerSpec(
                target,
                {"run_dir": run_dir},
                workers,
                on_message=lambda message: callback.on_progress(**message),
                in_process=self._own_handler,
                objects=objects or {},
            )
        )
        self._begun: dict[str, float] = {}
        self._worked: list[tuple[float, float]] = []  # from, to; of jobs not yet counted by `idle_s`
        self.hits: Counter[str] = Counter()  # of the workers' stores, by kind
        self.misses: Counter[str] = Counter()

    def work_here(self, create_handler: Callable[[], Handler]) -> None:
        """State how jobs are done in this process, for executors that have no other."""
        self._create_handler = create_handler

    def _own_handler(self) -> Handler:
        if self._create_handler is None:
            raise RuntimeError("a job was submitted before the run was ready for it")
        return self._create_handler()

    @property
    def has_room(self) -> bool:
        """Whether another job can be submitted now."""
        return self._executor.has_room

    @property
    def busy(self) -> int:
        """How many jobs are under way, or done and not collected."""
        return self._executor.busy

    @property
    def result_ready(self) -> bool:
        """Whether `wait` returns without waiting for another process."""
        return self._executor.result_ready

    def reserve(self, cores: int) -> AbstractContextManager[None]:
        """Keep this many cores of this machine free of jobs inside, for a measurement."""
        return self._executor.reserve(cores)

    def precompute_outputs(self, epochs: range) -> None:
        """Let every worker compute a share of the teachers' outputs, if there is more than one.

        The first students, trained side by side, would wait for each other in every epoch.

        Args:
            epochs: whose outputs students look up.
        """
        shares = [epochs[i :: self.workers] for i in range(self.workers)] if self.workers > 1 else []
        for share in filter(None, shares):
            self.submit(PrecomputeTeacher(tuple(share)))

    def submit(self, job: Job) -> None:
        """Hand a job to the executor."""
        message = job.to_json()
        self._begun[canonical_json(message)] = time.monotonic()
        self._executor.submit(message)

    def wait(self) -> PoolResult[Any]:
        """Collect the next result, waiting for it if there is none yet."""
        done = self._executor.wait()
        self._worked.append((self._begun.pop(canonical_json(dict(done.job))), time.monotonic()))
        result = done.result or {}
        for kind, (hits, misses) in result.get("cache", {}).items():
            self.hits[kind] += hits
            self.misses[kind] += misses
        return PoolResult(job_from_json(done.job), result.get("result"), done.error)

    def idle_s(self, since: float) -> float:
        """Seconds that workers had nothing to do, all together; asked when none is at work.

        Args:
            since: from when on, by `time.monotonic`.
        """
        worked, self._worked = sum(max(0.0, end - max(begun, since)) for begun, end in self._worked), []
        return max(0.0, (time.monotonic() - since) * self.workers - worked) if self.workers > 1 else 0.0

    def close(self) -> None:
        """End the workers; the jobs under way are lost."""
        self._executor.close()
