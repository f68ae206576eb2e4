"""A worker's side of a run: trains what the coordinator says, everything else comes from the run's folder and store."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nas_kd.commands.finalists import FinalistTrainer
from nas_kd.config.loading import load_config
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import Context
from nas_kd.context.run_folder import RunFolder
from nas_kd.kd.chain import Chain
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import load_teachers
from nas_kd.nas.gate import Gate
from nas_kd.nas.supernet.subnet_evaluator import SubnetEvaluator
from nas_kd.nas.trial import train_to_next_rung
from nas_kd.results.candidate import Architecture, Candidate
from nas_kd.results.records import TrialRecord

TARGET = f"{__name__}:Worker"
TELL_EVERY_S = 1.0


class JobRunner:
    """Does the jobs of a search: in the coordinator itself, or in a worker."""

    def __init__(self, chain: Chain, gate: Gate) -> None:
        self._chain = chain
        self._finalist_trainer = FinalistTrainer(chain, gate)
        self._inherited = SubnetEvaluator(chain.context, chain.builder)

    def handle(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """`{"record": ...}`: train a trial up to its next rung; `{"candidate", "seed", "epochs"}`: leave its file.

        `{"outputs": [epoch, ...]}`: leave what the teachers say in these epochs. `{"inherited": [architecture, ...],
        "elastic": key}`: judge these parts of an elastic network.

        All come with `relatives`, see `Chain`. The answer is `{"record": ...}`, `{"accuracies": [...]}`, or empty.
        """
        self._chain.weight_sources = tuple(job["relatives"])
        if "outputs" in job:
            self._chain.outputs.prepare(job["outputs"])
            return {}
        if "inherited" in job:
            parts = map(Architecture.from_json, job["inherited"])
            return {"accuracies": [self._inherited.accuracy(part, job["elastic"]) for part in parts]}
        if "record" in job:
            return {
                "record": train_to_next_rung(TrialRecord.model_validate(job["record"]), self._chain).model_dump(
                    mode="json"
                )
            }
        self._finalist_trainer.prepare_file(Candidate.from_json(job["candidate"]), job["seed"], job["epochs"])
        return {}


class ProgressForwarder(Callback):
    """Passes on how far something long is, not more often than anybody can read it."""

    def __init__(self, tell: Callable[[Any], None]) -> None:
        self._tell, self._told_at = tell, 0.0

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Tell; always, when it has come to its end."""
        now = time.monotonic()
        if done >= total or now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            self._tell({"what": what, "done": done, "total": total})


class Worker:
    """Made once a process, before there are teachers: they are in the store when the first job comes."""

    def __init__(self, run_dir: str, tell: Callable[[Any], None]) -> None:
        """`tell`: hears of `Progress.went_on`, its arguments by name."""
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        folder = RunFolder(Path(run_dir))
        self._context = Context.prepare(load_config(folder.config), folder, ProgressForwarder(tell), check_device=False)

    @cached_property
    def _trainer(self) -> JobRunner:
        builder = NetworkBuilder(self._context.data, self._context.space)
        return JobRunner(Chain(self._context, builder, load_teachers(self._context)), Gate(self._context, builder))

    def handle(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """As a trainer's; with `cache`: what was found in the store, and what was not, since the last answer."""
        store = self._context.store
        before = store.counts()
        answer = self._trainer.handle(job)
        return {**answer, "cache": {k: v for k, v in store.counts(before).items() if any(v)}}
