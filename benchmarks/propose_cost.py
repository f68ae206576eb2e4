"""What the coordinator costs a trial, and how much memory it takes, while a study grows.

    python -m benchmarks.propose_cost [--trials 5000] [--sampler auto] [--rungs 3 1] [--out FILE.json]

The search of a real run, with its study on SQLite, its rungs and its sampler; only what is measured and trained is made
up. Everything else counts: asking, deduplicating, counting weights, storing, promoting, the hypervolume after each.
Claim: <= 60 ms a trial throughout 5,000 trials, and memory that grows by no more than the trials themselves need.
"""

import argparse
import gc
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import product
from math import log
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from torch import nn

from benchmarks.common import Seconds, machine_facts
from nas_kd.commands.search_steps import Search
from nas_kd.commands.worker import TARGET
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder, locked
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.kd.training_job import TrainedModel
from nas_kd.nas.gate import Gate
from nas_kd.nas.study import RunStudy
from nas_kd.nas.worker_pool import WorkerPool
from nas_kd.results.candidate import Architecture, Candidate, Precision
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.latency import Latency
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Costs, TrialRecord
from nas_kd.serialization import write_atomic

WINDOW = 100
POINTS = (100, 250, 500, 1000, 1500, 2500, 3500, 5000)
CLAIM_MS = 60.0


class Clock:
    """Wall clock and processor time that stand still while made-up work is done."""

    def __init__(self) -> None:
        self._left_out = np.zeros(2)

    def __enter__(self) -> None:
        self._entered = self._read()

    def __exit__(self, *_error: object) -> None:
        self._left_out += self._read() - self._entered

    def now(self) -> Seconds:
        """(wall, processor), without what was left out."""
        return self._read() - self._left_out

    @staticmethod
    def _read() -> Seconds:
        return np.array([time.perf_counter(), time.process_time()])


class MadeUpGate(Gate):
    """Costs that follow from an architecture's weights and multiply-adds."""

    def __init__(self, context: RunContext, builder: NetworkBuilder, clock: Clock) -> None:
        super().__init__(context, builder)
        self._counts, self._clock = builder, clock

    def costs(
        self, *deployed: Architecture, precision: Precision = "fp32", with_latency: bool = True, quick: bool = False
    ) -> Costs:
        """Make costs up instead of exporting and measuring."""
        with self._clock:
            weights, macs = sum(map(self._counts.parameters, deployed)), sum(map(self._counts.macs, deployed))
        p50 = 0.01 + macs * 2e-8
        latency = Latency(p50=p50, p90=p50, low=p50, high=p50)
        return Costs(size_bytes=4 * weights, latency_ms=latency, parameters=weights, macs=macs)


class MadeUpDistiller(Distiller):
    """Accuracies that rise with weights, epochs and a fitting strength, and scatter less the longer a training is."""

    def __init__(self, context: RunContext, builder: NetworkBuilder, teacher: Teacher, clock: Clock) -> None:
        trainer = Distiller.for_run(context, builder, [teacher]).trainer
        super().__init__(trainer, [teacher], assistant_method=context.config.chain.method, seed=context.seed)
        self._counts, self._clock, self._model = builder, clock, nn.Identity()

    def prepare(self, candidate: Candidate) -> None:
        """Do nothing: no assistants are trained here."""

    def distill(
        self, candidate: Candidate, seed: int, epochs: int, *, until: int | None = None, restarts: tuple[int, ...] = ()
    ) -> TrainedModel:
        """Make an accuracy up instead of training."""
        done = until or epochs
        with self._clock:
            rng = np.random.default_rng([int(candidate.id, 16), done])
            loss = 20 * self._counts.parameters(candidate.student) ** -0.5 + 0.3 / done
            loss += 0.02 * log(candidate.recipe.params.get("strength", 3.0)) ** 2
            accuracy = float(np.clip(1 - loss + rng.normal(0, 0.02 / done**0.5), 0.1, 0.995))
        return TrainedModel(self._model, candidate.id, accuracy, accuracy, float(done), {}, {})


class Watch(Callback):
    """Notes when each trial first ends, and the process's memory at some numbers of trials."""

    def __init__(self, clock: Clock, points: Sequence[int]) -> None:
        self._clock, self._points = clock, points
        self.times = [clock.now()]
        self.memory_mb: dict[int, float] = {}
        self._seen: set[int] = set()

    def on_trial_end(self, record: TrialRecord, trials: Sequence[TrialRecord], hypervolume: float) -> None:
        """Note a trial's end; that of one that was trained on adds to the next new one's cost."""
        if record.number in self._seen:
            return
        self._seen.add(record.number)
        self.times.append(self._clock.now())
        if (ended := len(self._seen)) in self._points:
            with self._clock:
                self.memory_mb[ended] = resident_mb()
                wall, cores = np.median(np.diff(self.times[-WINDOW - 1 :], axis=0), axis=0) * 1000
                print(
                    f"{ended}: {wall:.1f} ms a trial ({cores:.1f} of a core), {self.memory_mb[ended]:.0f} MB",
                    flush=True,
                )


def resident_mb() -> float:
    """This process's memory after a collection, MB."""
    gc.collect()
    return float(psutil.Process(os.getpid()).memory_info().rss) / 1e6


def measure(sampler: str, rungs: int, trials: int) -> dict[str, Any]:
    """Search this many made-up trials; returns what each cost."""
    options = {"trials": trials, "sampler": sampler, "rungs": rungs, "rung_steps": 1}
    config = SearchConfig.model_validate(
        {"search": options, "engine": {"threads": 1}, "distill": {"epochs": 27, "probe_minutes": 0}}
    )
    clock = Clock()
    with TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary))
        watch = Watch(clock, [p for p in POINTS if p <= trials])
        with locked(folder, config), closing(WorkerPool("local", TARGET, str(folder.path), 1, watch)) as pool:
            context = RunContext.prepare(config, folder, watch)
            builder = NetworkBuilder(context.data, context.space)
            gate = MadeUpGate(context, builder, clock)
            teacher = _teacher(context, builder, gate)
            study = RunStudy(folder, "benchmark", config.budget, context.recipe.epochs)
            distiller = MadeUpDistiller(context, builder, teacher.teacher, clock)
            search = Search(context, study, distiller, gate, teachers=[teacher], pool=pool)
            search.require_reachable()
            watch.times[0] = clock.now()
            search.search()
            end = clock.now()
            hypervolume = search.hypervolume.volume
            search.close()
    return _figures(watch, end) | {"duplicates": _duplicates(study), "hypervolume": round(hypervolume, 4)}


def _teacher(context: RunContext, builder: NetworkBuilder, gate: Gate) -> ReadyTeacher:
    """The space's largest network, untrained, with a made-up accuracy."""
    largest = context.space.size_ladder(2)[-1]
    costs = gate.costs(largest)
    teacher = Teacher(builder.build(largest, 0), "0" * 64, "made up", costs.parameters, costs.macs)
    val = Accuracy(mean=0.99, low=0.98, high=1.0, samples=1000)
    record = TeacherRecord(description="made up", origin="space", costs=costs, val=val, val_score=val)
    return ReadyTeacher(teacher, None, record)


def _duplicates(study: RunStudy) -> int:
    return sum(r.status == "duplicate" for r in study.records)


def _figures(watch: Watch, end: Seconds) -> dict[str, Any]:
    spent, ended = np.diff(watch.times, axis=0) * 1000, len(watch.times) - 1
    along = {p: np.median(spent[p - WINDOW : p], axis=0) for p in watch.memory_mb}
    first, last = next(p for p in watch.memory_mb if p >= min(1000, ended)), max(watch.memory_mb)
    grown = (watch.memory_mb[last] - watch.memory_mb[first]) / max(1, last - first)
    return {
        "ms_a_trial": {p: round(float(wall), 1) for p, (wall, _) in along.items()},
        "processor_ms_a_trial": {p: round(float(cores), 1) for p, (_, cores) in along.items()},
        "mean_ms_up_to": {p: round(float(spent[:p, 0].mean()), 1) for p in along},
        "slowest_ms": round(float(spent[:, 0].max()), 1),
        "share_above_claim": round(float((spent[:, 0] > CLAIM_MS).mean()), 4),
        "end_ms_a_trial": round(float((end - watch.times[-1])[0]) * 1000 / ended, 2),
        "resident_mb": {p: round(m, 1) for p, m in watch.memory_mb.items()},
        "grown_mb_per_1000_trials": round(1000 * grown, 2),
    }


def main() -> None:
    """Measure the proposals, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--sampler", nargs="+", default=["auto"])
    parser.add_argument("--rungs", nargs="+", type=int, default=[3, 1])
    parser.add_argument("--out", type=Path, default=Path("reports/propose_cost/result.json"))
    arguments = parser.parse_args()
    machine = machine_facts(threads=1)
    measured = {}
    for sampler, rungs in product(arguments.sampler, arguments.rungs):
        case = f"{sampler}, rungs {rungs}"
        # memory means something in a process of its own alone
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            measured[case] = fresh.submit(measure, sampler, rungs, arguments.trials).result()
        print(f"{case}: {json.dumps(measured[case], indent=1)}", flush=True)
    result = {"machine": machine, "window": WINDOW, "claim_ms": CLAIM_MS, "measured": measured}
    write_atomic(arguments.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
