"""The options of a run, with their defaults, limits and descriptions; `[data]`, `[teacher]` and `[card]` beside."""

from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nas_kd.config.card_options import CardOptions
from nas_kd.config.data_options import Augmentation, DataOptions
from nas_kd.config.key_facts import NotInKeysAtDefault
from nas_kd.config.section import Options
from nas_kd.config.teacher_options import TeacherOptions
from nas_kd.config.teaching_options import Checkpoints, Progressions, Standardize, wrong_checkpoints
from nas_kd.config.value_types import (
    AutoFloat,
    AutoIfNone,
    AutoIfUnset,
    AutoInt,
    FileIfEndsWith,
    LogRange,
    MayBeAuto,
    Names,
    without_repeats,
)

__all__ = [
    "RENAMED",
    "Augmentation",
    "Budget",
    "Calibration",
    "CardOptions",
    "DataOptions",
    "DistillOptions",
    "EngineOptions",
    "FinalistOptions",
    "QuantizationOptions",
    "SearchConfig",
    "SearchSection",
    "TeacherOptions",
]

Calibration = Literal["minmax", "entropy", "percentile"]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (value,)


def _none_balanced_or_numbers(value: Any) -> Any:
    if value in ("none", "balanced"):
        return value
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) < 2 or not all(type(n) in (int, float) and 0 < n < inf for n in numbers):
        raise ValueError(f"must be none, balanced or a list with a number > 0 for each class, got {value!r}")
    return tuple(float(n) for n in numbers)


def _true_false_or_all(value: Any) -> Any:
    if not isinstance(value, bool) and value != "all":
        raise ValueError(f"must be true, false or all, got {value!r}")
    return value


class SpaceOptions(Options):
    """The search space that students come from."""

    name: str = Field(
        "resnet",
        description="family of networks: resnet | mobilenet | for photographs: resnet_photo | mobilenet_photo | own: "
        "cut out of the teacher | package.module:Name; with a head where the task needs one: resnet+pyramid",
    )
    start: Annotated[
        tuple[Literal["inherited", "fresh"], ...], AfterValidator(without_repeats), NotInKeysAtDefault()
    ] = Field(
        ("inherited",),
        min_length=1,
        description="of students of space own: with the teacher's weights, or random ones; the search chooses of both",
    )
    weights: Annotated[Path | None, NotInKeysAtDefault()] = Field(
        None,
        description="networks of this space start from these weights of one of them, usually a large one trained on "
        "more data, a .safetensors file: leading channels and blocks, as far as names and shapes fit",
    )


class ChainOptions(Options):
    """Teacher assistants between the teacher and the student."""

    max_assistants: int = Field(
        2, ge=0, le=2, description="most assistants in a chain; 0: students learn from the teacher"
    )
    policy: Annotated[Names, BeforeValidator(_as_tuple)] = Field(
        ("sequential",),
        min_length=1,
        description="sequential: each network learns from the one before; dense: from all before; residual: networks "
        "are summed and deployed together; the search chooses if several are given",
    )
    assistant_sizes: int = Field(4, ge=2, le=12, description="number of assistant sizes that the search chooses from")
    method: Annotated[str, AutoIfUnset()] = Field(
        "soft_targets",
        description="distillation method of all assistants, which trials share; auto: the first of the task's, of "
        "classification soft_targets",
    )


class DistillOptions(Options):
    """Distillation methods and the training schedule."""

    methods: Annotated[Names, AutoIfUnset()] = Field(
        ("soft_targets", "dkd", "similarity", "soft_targets+similarity"),
        min_length=1,
        description="a list of which the search chooses one (`nas-kd list methods`); a+b sums the terms of both; auto: "
        "those of the task, of classification soft_targets, dkd, similarity, soft_targets+similarity",
    )
    epochs: AutoInt = Field(
        None,
        ge=1,
        description="training epochs of the full schedule; auto: 30, more for few samples, "
        "fewer where search.max_minutes would not do for several candidates",
    )
    batch_size: AutoInt = Field(None, ge=2, description="training samples per step; auto: fitted to the data")
    optimizer: Annotated[Literal["sgd", "adamw"] | None, MayBeAuto, AutoIfNone()] = Field(
        None, description="sgd (Nesterov momentum) | adamw; auto: fitted to the data"
    )
    learning_rate: AutoFloat = Field(
        None, gt=0, description="its peak, after the warm-up and before the cosine decay; auto: fitted to the data"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd; first beta of adamw")
    weight_decay: AutoFloat = Field(
        None, ge=0, description="weight decay; biases and normalisation have none; auto: fitted to the data"
    )
    probe_minutes: float | None = Field(
        None,
        ge=0,
        description="most minutes of short trainings that fit what is auto (default: a tenth of the run); 0: by rules",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="length of the warm-up, as a share of the schedule")
    ema: float = Field(0.1, gt=0, lt=1, description="time constant of averaged weights, as a share of the schedule")
    clip_norm: float = Field(
        5.0,
        gt=0,
        description="gradients with a larger norm are scaled down to it; never with calibrate = false or method dist",
    )
    temperature: LogRange = Field((1.0, 8.0), description="range of softmax temperatures to search; > 0")
    strength: LogRange = Field((0.1, 10.0), description="range of factors on a method's loss to search; > 0")
    class_weights: Annotated[
        str | tuple[float, ...], BeforeValidator(_none_balanced_or_numbers), NotInKeysAtDefault()
    ] = Field(
        "none",
        description="weights of the classes in the label loss of every network trained here: none | balanced "
        "(samples / (classes x samples of the class)) | a list with a number for each class, in their order",
    )
    mix: Annotated[Literal["none", "mixup", "cutmix"], NotInKeysAtDefault()] = Field(
        "none",
        description="mix training samples of students and assistants in pairs, as the teacher sees them too: none | "
        "mixup (shares of both) | cutmix (a rectangle of another picture)",
    )
    standardize: Annotated[Standardize, NotInKeysAtDefault()] = Field(
        (False,),
        description="true: methods on logits see those of student and teacher z-scored per sample; the search chooses "
        "from [false, true]",
    )
    checkpoint: Annotated[Checkpoints, NotInKeysAtDefault()] = Field(
        None,
        description='which of teacher.checkpoints teaches, from 1, or "final"; the search chooses if several are given '
        "(default: it chooses from all; `nas-kd distill`: final)",
    )
    progression: Annotated[Progressions, NotInKeysAtDefault()] = Field(
        ("none",),
        description="what changes over the schedule: none | checkpoints (the teacher's, early to late) | stages "
        "(features of one stage after another); the search chooses if several are given",
    )
    calibrate: bool = Field(True, description="scale losses by their gradients; false: published weights, no clipping")


class Budget(Options):
    """Limits that the deployed file must keep; options that are left out do not limit.

    Examples:
        >>> import nas_kd
        >>> nas_kd.Budget(max_latency_ms=0.5, max_size_kb=100).max_size_bytes
        100000
        >>> nas_kd.Budget(max_latency=0.5)
        Traceback (most recent call last):
        nas_kd.errors.InputError: budget.max_latency: unknown key; did you mean 'max_latency_ms'?
    """

    max_latency_ms: float | None = Field(None, gt=0, description="median time of one call on the device, milliseconds")
    max_size_kb: float | None = Field(None, gt=0, description="size of the ONNX file in kB (1,000 bytes)")
    max_memory_kb: float | None = Field(None, gt=0, description="peak memory of a session with the file, kB")
    max_macs: float | None = Field(None, gt=0, description="multiply-adds per sample")
    min_score: Annotated[float | None, NotInKeysAtDefault()] = Field(
        None,
        gt=0,
        le=1,
        description="least data.score on validation, 0..1; the winner is then the fastest finalist that reaches it",
    )
    min_accuracy: float | None = Field(
        None, gt=0, le=1, description="the same under its older name, where the score is accuracy"
    )

    @model_validator(mode="after")
    def _one_minimum(self) -> "Budget":
        if self.min_score is not None and self.min_accuracy is not None:
            raise ValueError("min_accuracy is the older name of min_score: give one of them")
        return self

    @property
    def least_score(self) -> float | None:
        """The least score on validation, under either name."""
        return self.min_accuracy if self.min_score is None else self.min_score

    @property
    def max_size_bytes(self) -> int | None:
        """Size limit of the file in bytes."""
        return _bytes(self.max_size_kb)

    @property
    def max_memory_bytes(self) -> int | None:
        """Memory limit of a session in bytes."""
        return _bytes(self.max_memory_kb)


def _bytes(kb: float | None) -> int | None:
    return None if kb is None else max(1, round(kb * 1000))


class DeviceOptions(Options):
    """The device on which latency is measured."""

    name: Annotated[str, FileIfEndsWith(".toml")] = Field(
        "cpu-1t",
        description="a profile (`nas-kd list devices`), your own (board.toml, package.module:Name), or a remote agent "
        "(http://board:8765/cpu-1t)",
    )
    batch_size: int | None = Field(None, ge=1, description="samples per call (default: the profile's, else 1)")
    wait_s: float = Field(300.0, ge=0, description="seconds to wait for an agent before trials fail")
    prefilter: bool = Field(False, description="do not measure candidates predicted to be far too slow")


class OnceForAllOptions(Options):
    """Strategy "once-for-all": one elastic network, and the search among its sub-networks."""

    epochs: int | None = Field(None, ge=1, description="its training epochs (default: 2 x distill.epochs)")
    evaluations: int = Field(1000, ge=8, description="sub-networks to evaluate with its weights")
    members: int = Field(12, ge=1, description="most sub-networks of the front to distill afterwards")


class SearchSection(Options):
    """How candidates are proposed, trained and compared."""

    strategy: Literal["trials", "once-for-all"] = Field(
        "trials",
        description="trials: train every candidate; once-for-all: train one elastic network and distill its best "
        "sub-networks",
    )
    once_for_all: OnceForAllOptions = OnceForAllOptions()
    inherit: bool = Field(False, description="start students from their teacher's weights, where these fit")
    trials: int = Field(60, ge=1, description="different candidates to propose, those over the budget included")
    sampler: str = Field(
        "auto", description="Optuna sampler: auto (tpe, then nsga2 in long runs) | tpe | nsga2 | nsga3 | gp | random"
    )
    executor: str = Field("local", description="where candidates are trained: local | package.module:Name")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="root of all random seeds; the same seed repeats the run")
    workers: int = Field(1, ge=1, le=64, description="candidates trained in parallel, one process each")
    recipe: Annotated[
        tuple[Literal["batch_size", "learning_rate", "augment", "optimizer", "mix"], ...],
        AfterValidator(without_repeats),
    ] = Field((), description="parts of the training recipe that the search varies, around what suits most candidates")
    precisions: Names = Field(
        ("fp32",), min_length=1, description="the search chooses one for each candidate (`nas-kd list precisions`)"
    )
    rungs: int = Field(3, ge=1, le=8, description="training lengths at which weak candidates are stopped; 1: none is")
    reduction: int = Field(
        3, ge=2, le=10, description="1 of this many goes on to the next rung, this many times longer"
    )
    rung_steps: int = Field(90, ge=1, description="training steps of the shortest rung, at least")
    max_minutes: float | None = Field(
        None, gt=0, description="minutes after which no candidate is proposed; finalists follow"
    )


class FinalistOptions(Options):
    """The best candidates, trained again in full with several seeds."""

    max: int = Field(6, ge=1, description="most finalists; one more if the best one turns out to be over the budget")
    seeds: int = Field(3, ge=1, description="trainings of each finalist; intervals need 2 or more")
    controls: Annotated[bool | Literal["all"], BeforeValidator(_true_false_or_all)] = Field(
        True,
        description="also train without distillation and without assistants, at equal cost; all: with label smoothing "
        "instead of distillation, too",
    )
    max_control_epochs: float = Field(
        3.0, ge=1, description="most epochs of a control, as a multiple of distill.epochs"
    )
    baselines: Annotated[Names, NotInKeysAtDefault()] = Field(
        ("quantization", "pruning", "low_rank"),
        description="other compression of the teacher to compare with, measured and tested with the finalists "
        "(`nas-kd list baselines`)",
    )
    max_share: float = Field(
        1 / 3, gt=0, le=1, description="most of the run's training that finalists and controls take; 1: no limit"
    )


class QuantizationOptions(Options):
    """How files of precisions below fp32 are made."""

    calibration: Calibration = Field("minmax", description="int8: ranges of activations: minmax | entropy | percentile")
    samples: int = Field(256, ge=1, description="training samples from which ranges of activations are taken")
    qat_start: float = Field(
        0.7, ge=0, lt=1, description="int8-qat: share of each rung's training before rounding starts"
    )


class StoreOptions(Options):
    """The run's cache of trained weights, teachers' outputs, exports and measurements."""

    max_gb: float = Field(20.0, gt=0, description="size limit in GB; above it the least recently used goes first")


class EngineOptions(Options):
    """How training uses the cores of this machine."""

    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="number format of training; auto: bf16 if it is faster"
    )
    threads: int | None = Field(None, ge=1, description="threads of one training (default: the number of cores)")


class SearchConfig(Options):
    """All options of a run: a whole config.toml.

    Examples:
        >>> import nas_kd
        >>> config = nas_kd.SearchConfig(space={"name": "mobilenet"}, search={"trials": 20})
        >>> config.search.trials, config.finalists.seeds
        (20, 3)
        >>> nas_kd.SearchConfig(search={"trials": 0})
        Traceback (most recent call last):
        nas_kd.errors.InputError: search.trials must be >= 1, got 0
    """

    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run (default: the file's)"
    )
    plugin_dir: Path | None = Field(
        None, description="folder searched for package.module:Name (default: the config's own)"
    )
    data: DataOptions = DataOptions()
    teacher: Annotated[tuple[TeacherOptions, ...], BeforeValidator(_as_tuple)] = (TeacherOptions(),)
    space: SpaceOptions = SpaceOptions()
    chain: ChainOptions = ChainOptions()
    distill: DistillOptions = DistillOptions()
    budget: Budget = Budget()
    device: DeviceOptions = DeviceOptions()
    search: SearchSection = SearchSection()
    finalists: FinalistOptions = FinalistOptions()
    quantization: QuantizationOptions = QuantizationOptions()
    store: StoreOptions = StoreOptions()
    engine: EngineOptions = EngineOptions()
    card: CardOptions = CardOptions()
    student: dict[str, Any] | None = Field(None, description="`nas-kd distill` only: the architecture of the student")

    @model_validator(mode="after")
    def _minimum_is_about_the_score(self) -> "SearchConfig":
        if self.budget.min_accuracy is not None and self.data.score not in (None, "accuracy"):
            raise ValueError(
                f"budget.min_accuracy asks for an accuracy, but data.score is {self.data.score!r}: give "
                "budget.min_score, which is about that score"
            )
        return self

    @model_validator(mode="after")
    def _checkpoints_that_there_are(self) -> "SearchConfig":
        if problem := wrong_checkpoints(self.teacher, self.distill.checkpoint, self.distill.progression):
            raise ValueError(problem)
        return self


# Old names of options -> their names now; a config that still has them is refused with a hint.
RENAMED = {
    "chain.ladder": "chain.assistant_sizes",
    "quantise": "quantization",
    "quantise.aware_from": "quantization.qat_start",
    "quantization.aware_from": "quantization.qat_start",
}
