"""Times a few training steps of an untrained student with each method of a config, on this machine."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from nas_kd.config.options import SearchConfig
from nas_kd.context.run_context import RunContext
from nas_kd.data.augment import TrainingViews
from nas_kd.data.dataset import Dataset, Split
from nas_kd.engine.evaluation import outputs_of
from nas_kd.engine.teacher_outputs import Teacher, can_use_cache
from nas_kd.errors import TrialError
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.training_job import TrainedModel, training_precision
from nas_kd.methods.combine import make_method
from nas_kd.nas.search_plan import EpochTimes
from nas_kd.quantization.precision import load_precision
from nas_kd.results.candidate import Architecture

BATCHES = 6  # timed of each training, after as many to warm up
PLAIN = "none"


@dataclass(frozen=True)
class StepTimes:
    """Seconds that single steps take here, on the threads that candidates get.

    Attributes:
        step_s: (multiply-adds, seconds) of a training step without distillation, for two networks.
        extra_s: what each method adds to a step.
        outputs_s: the teachers' logits on one epoch.
        begin_s: before a training's first step.
        judge_s: one network on the validation split.
        slowdown: of a training at each precision, as a multiple of one in fp32.
        file_s: to make a precision's file and judge it, where it differs from the trained network.
    """

    step_s: tuple[tuple[int, float], tuple[int, float]]
    extra_s: Mapping[str, float]
    outputs_s: float
    begin_s: float
    judge_s: float
    slowdown: Mapping[str, float] = field(default_factory=dict)
    file_s: Mapping[str, float] = field(default_factory=dict)

    def step(self, macs: float, method: str, precision: str = "fp32") -> float:
        """Estimate a step's seconds on the line through both networks, and at least a tenth of the smaller one's.

        Args:
            macs: multiply-adds of one sample.
            method: distillation method.
            precision: of the student.
        """
        (small, fast), (large, slow) = self.step_s
        slope = max(0.0, slow - fast) / (large - small) if large > small else 0.0
        seconds = max(0.1 * fast, fast + slope * (macs - small)) + self.extra_s.get(method, 0.0)
        return seconds * self.slowdown.get(precision, 1.0)


def measure_step_times(
    context: RunContext,
    builder: NetworkBuilder,
    teachers: Sequence[Teacher],
    typical: Architecture,
    largest: Architecture,
) -> StepTimes:
    """Time every method of the config on a typical student, and the largest network without a method.

    Args:
        context: of the run.
        builder: builds networks for its data.
        teachers: trained or not.
        typical: a student of the size that candidates have.
        largest: network of the space.

    Raises:
        InputError: a method cannot work with these networks.
        TrialError: not even a plain training runs.
    """
    config = context.config
    small = _few_batches(context)
    distiller = Distiller.for_run(small, builder, teachers)
    epoch = context.data.epoch_samples / small.data.epoch_samples
    outputs_s = [_time_outputs(distiller, teacher) * epoch for teacher in teachers]
    begin_s, plain_s = _time_steps(distiller, PLAIN, typical)
    extra_s: dict[str, float] = {PLAIN: 0.0}
    for name in dict.fromkeys([*config.distill.methods, config.chain.method]):
        if name not in extra_s:
            try:
                extra_s[name] = max(0.0, _time_steps(distiller, name, typical)[1] - plain_s)
            except TrialError as error:  # an untrained teacher may have outputs that a trained one would not
                context.callback.on_note(f"{name} cannot be timed, it is taken to cost nothing extra: {error}")
                extra_s[name] = 0.0
    _, largest_s = _time_steps(distiller, PLAIN, largest)
    started = time.perf_counter()
    outputs_of(context.numerics.place(builder.build(typical, 0)), context.data.val.x, context.numerics)
    judge_s = time.perf_counter() - started
    pair = ((builder.macs(typical), plain_s), (builder.macs(largest), largest_s))
    heard = max(len(teachers) if make_method(m).teachers == "several" else 1 for m in config.distill.methods)
    return StepTimes(
        pair,
        extra_s,
        sum(outputs_s[:heard]),
        begin_s,
        judge_s,
        slowdown={
            p: _slowdown(distiller, p, typical, plain_s, config.quantization.qat_start)
            for p in config.search.precisions
        },
        file_s={p: _time_file(small, builder, p, typical) for p in config.search.precisions},
    )


def measure_epoch(
    context: RunContext, builder: NetworkBuilder, teachers: Sequence[Teacher], student: Architecture, method: str
) -> EpochTimes:
    """Time an epoch of one student from a few steps.

    Args:
        context: of the run; its store is used.
        builder: builds networks for its data.
        teachers: trained.
        student: to be timed.
        method: of distillation.

    Raises:
        TrialError: it cannot be trained.
    """
    small = _few_batches(context)
    distiller = Distiller.for_run(small, builder, teachers)
    share, made = context.data.epoch_samples / small.data.epoch_samples, make_method(method)
    heard = teachers if made.teachers == "several" else teachers[:1]
    outputs_s = 0.0
    if made.teachers != "none" and can_use_cache(made.needs):
        outputs_s = share * sum(_time_outputs(distiller, teacher) for teacher in heard)
    return EpochTimes(context.steps_per_epoch * _time_steps(distiller, method, student)[1], outputs_s)


def uses_cache(config: SearchConfig) -> bool:
    """Whether students of some method read a teacher's logits from the cache."""
    made = [make_method(name) for name in (*config.distill.methods, config.chain.method)]
    return any(m.teachers != "none" and not m.generations and can_use_cache(m.needs) for m in made)


def _few_batches(context: RunContext) -> RunContext:
    """The context with a few batches as the training split, drawn at random, and a schedule that is long enough."""
    data, config = context.data, context.config
    batch = context.recipe.batch_size
    share = min(1.0, BATCHES * batch / data.epoch_samples)
    few = _rows(data, _drawn(len(data.train), share, batch, context.seed))
    if (unlabelled := data.unlabelled) is not None:
        rows = _drawn(len(unlabelled), share, batch, context.seed)
        few = replace(few, unlabelled=replace(unlabelled, x=unlabelled.x[rows]))
    quantization = config.quantization.model_copy(update={"qat_start": 0.0})  # what is timed is its slowest part
    return replace(
        context,
        config=config.model_copy(update={"quantization": quantization}),
        data=few,
        views=TrainingViews(few, context.seed),
        recipe=replace(context.recipe, epochs=max(2, context.recipe.epochs)),
    )


def _drawn(count: int, share: float, batch_size: int, seed: int) -> torch.Tensor:
    """This share of `count` rows at random; at least a batch, as a step without unlabelled samples takes, or all."""
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return drawn[: max(batch_size, round(share * count))]


def _rows(data: Dataset, rows: torch.Tensor) -> Dataset:
    view = data.teacher_view
    split = Split(data.train.x[rows], data.train.y[rows])
    return replace(data, train=split, teacher_view=None if view is None else _rows(view, rows))


def _time_outputs(distiller: Distiller, teacher: Teacher) -> float:
    """Time a teacher's logits on one pass over all samples; those of two passes are then in the cache."""
    outputs = distiller.trainer.outputs.of(teacher)
    seconds = []
    for epoch in (0, 1):
        started = time.perf_counter()
        outputs.prepare([epoch])
        if distiller.trainer.data.unlabelled is not None:
            outputs.prepare([epoch], unlabelled=True)
        seconds.append(time.perf_counter() - started)
    return seconds[0] if outputs.augmenter.identity else seconds[1]


def _slowdown(distiller: Distiller, precision: str, student: Architecture, plain_s: float, qat_start: float) -> float:
    """How much longer a whole training takes, in whose last part quantizers are on."""
    trained = training_precision(precision)
    if trained == "fp32":
        return 1.0
    return qat_start + (1 - qat_start) * max(1.0, _time_steps(distiller, PLAIN, student, trained)[1] / plain_s)


def _time_file(context: RunContext, builder: NetworkBuilder, precision: str, student: Architecture) -> float:
    """Time making the file of a network and judging it."""
    form = load_precision(precision)
    if form.exact:
        return 0.0
    network = form.prepare(builder.build(student, 0), context.data.input_shape).eval()
    started = time.perf_counter()
    ArtifactBuilder.for_run(context).judge(TrainedModel(network, "untrained", 0.0, 0.0, 0.0, {}, {}), precision)
    return time.perf_counter() - started


def _time_steps(
    distiller: Distiller, method: str, student: Architecture, precision: str = "fp32"
) -> tuple[float, float]:
    """Time what comes before the first step, calibration included, and one step."""
    started = time.perf_counter()
    training = distiller.untrained(method, student, precision)
    prepared = time.perf_counter() - started
    training.run(1)
    first = training.seconds
    training.run(2)
    second = training.seconds - first
    return prepared + max(0.0, first - second), second / training.steps_per_epoch
