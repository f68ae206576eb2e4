"""A worker's side of a run: it does the coordinator's jobs; everything else comes from the run's folder and store."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nas_kd.config.loading import load_config
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.context.run_log import log_worker
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.choose_recipe import known_recipe, student_recipe_key
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.own_space import with_own_space
from nas_kd.kd.teachers import load_teachers
from nas_kd.kd.usable_methods import with_usable_methods
from nas_kd.nas.jobs import JobTools, job_from_json
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.nas.supernet.student_friendly import student_friendly
from nas_kd.nas.supernet.subnet_evaluator import SubnetEvaluator

TARGET = f"{__name__}:SearchWorker"
MESSAGE_EVERY_S = 1.0


class JobRunner:
    """Does the jobs of a search in this process."""

    def __init__(self, tools: JobTools) -> None:
        self._tools = tools

    @staticmethod
    def for_run(context: RunContext, distiller: Distiller, artifacts: ArtifactBuilder) -> "JobRunner":
        """Create the runner of a run from its parts."""
        subnets = SubnetEvaluator(
            context.data,
            distiller.builder,
            context.store,
            augmenter=context.augmenter,
            numerics=context.numerics,
            batch_size=context.recipe.batch_size,
            seed=context.seed,
            score=context.score,
        )
        methods = context.config.distill.methods
        plan = SearchPlan.of(context.config, context.recipe.epochs, context.steps_per_epoch)
        return JobRunner(JobTools(distiller, artifacts, subnets, methods, plan, context.seed, context.callback))

    def handle(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do a job given as JSON; returns `{"result": ...}`."""
        return {"result": job_from_json(job).run(self._tools)}


class ProgressForwarder(Callback):
    """Passes on how far something long has come, not more often than a person can read it."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send, self._sent_at = send, 0.0

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Send it; always, when it has come to its end."""
        now = time.monotonic()
        if done >= total or now - self._sent_at >= MESSAGE_EVERY_S:
            self._sent_at = now
            self._send({"what": what, "done": done, "total": total})


class SearchWorker:
    """One a process, created before there are teachers: they are in the store when the first job comes."""

    def __init__(self, run_dir: str, on_message: Callable[[Any], None]) -> None:
        """Load code and data of a run.

        Args:
            run_dir: folder of the run.
            on_message: receives the arguments of `Callback.on_progress`, by name.
        """
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        folder = RunFolder(Path(run_dir))
        log_worker(folder)
        callback = ProgressForwarder(on_message)
        self._context = RunContext.prepare(load_config(folder.config), folder, callback, check_device=False)

    @cached_property
    def _runner(self) -> JobRunner:
        teachers = load_teachers(self._context)
        context = with_usable_methods(with_own_space(self._context, teachers), teachers)
        if (adjusted := student_friendly(context, teachers[0])) is not None:
            context, teachers = adjusted.context, [adjusted.teacher, *teachers[1:]]
        recipe = known_recipe(context, student_recipe_key(context, teachers))
        context = context if recipe is None else context.with_recipe(recipe.recipe)
        distiller = Distiller.for_run(context, NetworkBuilder.for_run(context), teachers)
        return JobRunner.for_run(context, distiller, ArtifactBuilder.for_run(context))

    def handle(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do a job; besides the result, `cache`: hits and misses of the store since the last one, by kind."""
        store = self._context.store
        before = store.counts()
        result = self._runner.handle(job)
        return {**result, "cache": {k: v for k, v in store.counts(before).items() if any(v)}}
