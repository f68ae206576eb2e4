"""The run's executor, with an account of what its workers did."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from nas_kd.commands.worker import TARGET, JobRunner
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder
from nas_kd.executors.executor import Executor, JobResult
from nas_kd.executors.in_process import InProcessExecutor
from nas_kd.executors.local import LocalExecutor
from nas_kd.kd.chain import Chain
from nas_kd.nas.gate import Gate
from nas_kd.serialization import canonical_json


class WorkerProcesses:
    """Where a run's trainings are done: workers, who load code and data while the teacher is prepared; or here."""

    def __init__(self, config: SearchConfig, folder: RunFolder, callback: Callback) -> None:
        """`folder`: with its config in it. `progress`: hears how far the workers are."""
        setup = {"run_dir": str(folder.path.resolve())}
        count = config.search.workers
        self._workers = (
            LocalExecutor(TARGET, setup, count, lambda told: callback.on_progress(**told)) if count > 1 else None
        )

    def executor(self, trainer: JobRunner) -> Executor:
        """Whoever trains: the workers, or where there are none this process's own trainer."""
        return self._workers or InProcessExecutor(trainer)

    @contextmanager
    def paused(self, count: int) -> Iterator[None]:
        """So many cores are left alone inside."""
        with self._workers.paused(count) if self._workers else nullcontext():
            yield

    def close(self) -> None:
        """End; what is under way is lost."""
        if self._workers is not None:
            self._workers.close()


class WorkerPool:
    """Whoever trains for this run: this process, or workers; jobs and answers as `Trainer` has them."""

    def __init__(self, chain: Chain, gate: Gate, processes: WorkerProcesses) -> None:
        self._chain, self.workers = chain, chain.context.config.search.workers
        self._executor = processes.executor(JobRunner(chain, gate))
        self._begun: dict[str, float] = {}
        self._worked: list[tuple[float, float]] = []  # from, to; jobs that nobody has accounted for
        self.hits: Counter[str] = Counter()  # of the workers' stores, by kind
        self.misses: Counter[str] = Counter()

    @property
    def has_room(self) -> bool:
        """Whether another job can be taken."""
        return self._executor.has_room

    @property
    def busy(self) -> int:
        """How many jobs are under way."""
        return self._executor.busy

    @property
    def answered(self) -> bool:
        """Whether the next answer is there, or is made when it is asked for."""
        return self._executor.answered

    def prepare_outputs(self) -> None:
        """Let every worker make a share of what students are to learn from, if there is more than one.

        The first students, trained side by side, would wait for each other in every epoch.
        """
        epochs = self._chain.outputs.epochs(self._chain.context.rungs[-1])
        shares = [epochs[i :: self.workers] for i in range(self.workers)] if self.workers > 1 else []
        for share in filter(None, shares):
            self.submit({"outputs": list(share)})

    def submit(self, job: Mapping[str, Any]) -> None:
        """Take a job."""
        job = {**job, "relatives": list(self._chain.weight_sources)}
        self._begun[_name(job)] = time.monotonic()
        self._executor.submit(job)

    def wait(self) -> JobResult:
        """The next answer."""
        answer = self._executor.wait()
        self._worked.append((self._begun.pop(_name(answer.job)), time.monotonic()))
        for kind, (hits, misses) in (answer.result or {}).get("cache", {}).items():
            self.hits[kind] += hits
            self.misses[kind] += misses
        return answer

    def idle_s(self, since: float) -> float:
        """Seconds that workers had nothing to do, since `since` (`time.monotonic`); asked when none is at work."""
        worked, self._worked = sum(max(0.0, end - max(begun, since)) for begun, end in self._worked), []
        return max(0.0, (time.monotonic() - since) * self.workers - worked) if self.workers > 1 else 0.0


def _name(job: Mapping[str, Any]) -> str:
    return canonical_json({"trial": job["record"]["number"]} if "record" in job else job)
