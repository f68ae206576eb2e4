"""The one judge of both contestants of `search_cost.py`: trains the teacher, measures costs, trains fronts again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from benchmarks.search_cost_cases import METHOD, TEACHER_SPACE, Case
from benchmarks.search_cost_figures import Event, Judged, Run, Step, at, key_of, our_events, script_events, steps
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.engine.numerics import training_threads
from nas_kd.engine.schedule import Schedule
from nas_kd.errors import TrialError
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.kd.training_job import TrainingJob
from nas_kd.models.search_space import load_space
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import DEFAULT_POLICY, Architecture, Candidate, Recipe
from nas_kd.serialization import write_atomic


def context_of(case: Case, seed: int, data: Path | None, work: Path) -> RunContext:
    """The case's data and device; its store is the judge's own."""
    config = SearchConfig.model_validate(case.config(data, seed, teacher_file(case, seed, work)))
    return RunContext.prepare(config, RunFolder(work / f"{case.name}.{seed}.judge"), Callback())


def teacher_file(case: Case, seed: int, work: Path) -> Path:
    """Where the trained teacher lies; data are split by the seed, so each seed has its own."""
    return work.resolve() / f"{case.name}.{seed}.teacher.safetensors"


def train_teacher(case: Case, seed: int, data: Path | None, work: Path) -> Path:
    """The teacher's file, trained by labels alone if it is not there."""
    path = teacher_file(case, seed, work)
    if path.exists():
        return path
    context, space = context_of(case, seed, data, work), load_space(TEACHER_SPACE)
    recipe = replace(context.recipe, epochs=case.teacher_epochs)
    schedule = Schedule.of(context.config.distill, recipe)
    job = TrainingJob(space.size_ladder(2)[-1], Recipe("none"), recipe, schedule, seed, schedule.epochs)
    with training_threads(context.threads):
        distiller = Distiller.for_run(context, NetworkBuilder(context.data, space))
        trained = distiller.train(job, [], load_policy(DEFAULT_POLICY))
    facts = {"training_s": round(trained.seconds, 3)}
    write_atomic(path.with_suffix(".json"), json.dumps(facts) + "\n")
    unfinished = path.with_suffix(".new")
    save_file({k: v.contiguous() for k, v in trained.model.state_dict().items()}, unfinished)
    unfinished.replace(path)
    return path


class Judge:
    """Costs by the gate, and test accuracy of architectures trained in full, all in the same way."""

    def __init__(self, case: Case, seed: int, data: Path | None, work: Path, seeds: Sequence[int]) -> None:
        self._case, self._seeds = case, tuple(seeds)
        self._context = context = context_of(case, seed, data, work)
        builder = NetworkBuilder(context.data, context.space)
        self._gate = Gate(context, builder)
        (ready,) = prepare_teachers(context, self._gate.of_file)
        self._distiller = Distiller.for_run(context, builder, [ready.teacher])
        latency = ready.record.costs.latency_ms
        if latency is None or ready.record.val is None:
            raise TrialError("the teacher's latency was not measured")
        facts = json.loads(teacher_file(case, seed, work).with_suffix(".json").read_text())
        self.teacher = {
            "description": ready.record.description,
            "val": ready.record.val.mean,
            "test": accuracy_of(ready.teacher.model, context.data.test, context.numerics),
            "size_bytes": ready.record.costs.size_bytes,
            "latency_ms": latency.p50,
            **facts,
        }

    def costs(self, architecture: Mapping[str, Any]) -> dict[str, float]:
        """The file size in bytes and the median latency in milliseconds."""
        costs = self._gate.all_costs(Architecture.from_json(architecture))
        if costs.size_bytes is None or costs.latency_ms is None:
            raise TrialError(f"the costs of {architecture} were not measured")
        return {"size_bytes": costs.size_bytes, "latency_ms": costs.latency_ms.p50}

    def tests(self, architecture: Mapping[str, Any]) -> list[float]:
        """Test accuracy for each of the seeds, after the full schedule with soft targets from the teacher."""
        candidate = Candidate(Architecture.from_json(architecture), (), Recipe(METHOD))
        context = self._context
        trained = [self._distiller.distill(candidate, seed, self._case.epochs) for seed in self._seeds]
        return [accuracy_of(t.model, context.data.test, context.numerics) for t in trained]

    def judge(self, plain: Run, ours: Run) -> Judged:
        """Costs of all that the script tried; accuracies of the fronts that a verdict needs.

        Those are the script's last front, ours at every moment until it is as good by this judge, and ours when it
        passes the script by what each saw, when the script ends, and at last.
        """
        with training_threads(self._context.threads):
            trained = {key_of(t["architecture"]): t["architecture"] for t in (*plain["trials"], *ours["trials"])}
            costs = {key_of(t["architecture"]): self.costs(t["architecture"]) for t in plain["trials"]}
            verdict = Judged(self.teacher, costs, {}, list(self._seeds))

            def look_at(front: Sequence[Event]) -> float:
                for event in front:
                    if event.key not in verdict.tests:
                        verdict.tests[event.key] = self.tests(trained[event.key])
                return verdict.volume(front)

            theirs = steps(script_events(self._case, plain, verdict), verdict.seen)
            mine = steps(our_events(self._case, ours), verdict.seen)
            target = look_at(theirs[-1].front) if theirs else 0.0
            next((step for step in mine if look_at(step.front) >= target), None)
            for step in (_passed(mine, theirs), at(mine, plain["trials"][-1]["elapsed_s"]), *mine[-1:]):
                look_at(step.front if step else ())
            return verdict


def _passed(mine: Sequence[Step], theirs: Sequence[Step]) -> Step | None:
    """Our first moment with the volume that the script ends with, by what each saw."""
    return next((s for s in mine if theirs and s.volume >= theirs[-1].volume), None)
