"""The options of a run: the only place where they are defined, with their defaults and what they mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from nas_kd.plugins import IN_MEMORY

Calibration = Literal["minmax", "entropy", "percentile"]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True)
class FileIfEndsWith:
    """Marks an option that is a name, or else a path: what ends like this is relative to the config's folder."""

    ending: str


class Options(BaseModel):
    """A section of config.toml: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Augmentation(Options):
    """Random changes of training images; the defaults suit neither mirror-sensitive nor tiny images badly."""

    crop: int | None = Field(None, ge=0, description="shift by up to this many pixels (default: side / 8)")
    flip: bool | None = Field(None, description="mirror left-right (default: only for natural colour images)")
    cutout: int = Field(0, ge=0, description="side of a square blanked at random, pixels; 0: none")


class DataOptions(Options):
    """Where the samples come from."""

    source: str = Field("digits", description="digits | parquet | image_folder | npz | package.module:function")
    path: Path | None = Field(None, description="npz: the file; image_folder: the folder")
    train: Path | None = Field(None, description="parquet: the training file")
    val: Path | None = Field(None, description="parquet: the validation file (else carved from train)")
    test: Path | None = Field(None, description="parquet: the test file (else carved from train)")
    train_rows: int | None = Field(None, ge=1, description="only the first N rows of train")
    test_rows: int | None = Field(None, ge=1, description="only the first N rows of test")
    val_fraction: float = Field(0.15, gt=0, lt=0.5, description="carved from train where val is missing")
    test_fraction: float = Field(0.2, gt=0, lt=0.5, description="carved from train where test is missing")
    image_size: int | None = Field(None, ge=4, le=1024, description="image_folder: side in pixels (default 32)")
    layout: Literal["auto", "chw", "hwc"] = Field("auto", description="npz: order of a sample's axes")
    augment: Augmentation = Augmentation()


class TeacherOptions(Options):
    """Whom the students learn from: trained by the tool (space), or the user's own (factory + weights, or onnx)."""

    space: str | None = Field(None, description="train one from this space (default: resnet, if nothing is given)")
    architecture: dict[str, Any] | None = Field(None, description="its choices (default: the largest of the space)")
    epochs: int | None = Field(None, ge=1, description="training epochs (default: distill.epochs)")
    factory: str | None = Field(None, description="package.module:function that returns your torch.nn.Module")
    weights: Path | None = Field(None, description="its weights, .safetensors")
    onnx: Path | None = Field(None, description="or an ONNX file: logits only, so no feature methods")
    features: tuple[str, ...] | None = Field(None, description="module paths to tap (default: found by resolution)")
    seed: int | None = Field(None, ge=0, lt=2**31, description="of its training (default: search.seed + its place)")
    preprocessing: Literal["raw", "unit", "normalized"] = Field(
        "raw", description="what your teacher expects: values as stored, pixels / 255, or (x - mean) / std of train"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "TeacherOptions":
        origins = [k for k in ("space", "factory", "onnx") if getattr(self, k) is not None]
        if len(origins) > 1:
            raise ValueError(f"give one of space, factory, onnx; got {' and '.join(origins)}")
        in_memory = self.factory is not None and self.factory.startswith(IN_MEMORY)
        if not in_memory and (self.factory is None) != (self.weights is None):
            raise ValueError("factory and weights go together: a function that builds the net, and its .safetensors")
        return self


class SpaceOptions(Options):
    """Where students come from."""

    name: str = Field("resnet", description="resnet | mobilenet | package.module:Name")


class ChainOptions(Options):
    """Teacher assistants between the teacher and the student."""

    max_assistants: int = Field(2, ge=0, le=2, description="longest chain; 0: straight from the teacher")
    policy: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        ("sequential",),
        min_length=1,
        description="sequential: each link learns from the one before; dense: from all before; residual: adds to the "
        "sum, and is deployed with it; of several the search chooses",
    )
    assistant_sizes: int = Field(4, ge=2, le=12, description="number of assistant sizes to choose from")
    method: str = Field("soft_targets", description="how assistants are distilled (one method, so trials share them)")


class DistillOptions(Options):
    """Methods and the training schedule."""

    methods: tuple[str, ...] = Field(
        ("soft_targets", "dkd", "similarity", "soft_targets+similarity"),
        min_length=1,
        description="the search chooses among these; a+b sums the terms",
    )
    epochs: int = Field(30, ge=1, description="the full schedule")
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(0.1, gt=0, description="peak, SGD with Nesterov momentum; warm-up, then cosine")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, description="not on biases and normalisation")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the schedule")
    ema: float = Field(0.1, gt=0, lt=1, description="averaged weights: time constant, share of the schedule")
    clip_norm: float = Field(5.0, gt=0, description="largest gradient norm")
    temperature: tuple[float, float] = Field((1.0, 8.0), description="range searched (log)")
    strength: tuple[float, float] = Field((0.1, 10.0), description="range searched (log), times the method's weight")
    calibrate: bool = Field(True, description="weigh a method's gradient against the labels'; false: published weights")


class Budget(Options):
    """The device's limits; what is not given is not limited."""

    max_latency_ms: float | None = Field(None, gt=0, description="median time of one call on the device")
    max_size_kb: float | None = Field(None, gt=0, description="the ONNX file; 1 kB = 1,000 bytes")
    max_memory_kb: float | None = Field(None, gt=0, description="peak memory of a session with the file")
    max_macs: float | None = Field(None, gt=0, description="multiply-adds of one sample")
    min_accuracy: float | None = Field(
        None, gt=0, le=1, description="on validation, 0..1; then the winner is the fastest finalist that reaches it"
    )

    @property
    def max_size_bytes(self) -> int | None:
        """The size limit in bytes."""
        return _bytes(self.max_size_kb)

    @property
    def max_memory_bytes(self) -> int | None:
        """The limit of memory in bytes."""
        return _bytes(self.max_memory_kb)


def _bytes(kb: float | None) -> int | None:
    return None if kb is None else max(1, round(kb * 1000))


class DeviceOptions(Options):
    """Where latency is measured."""

    name: Annotated[str, FileIfEndsWith(".toml")] = Field(
        "cpu-1t",
        description="a profile (`nas-kd list devices`), your own (board.toml, package.module:Name), or an agent: "
        "http://board:8765/cpu-1t",
    )
    batch_size: int | None = Field(None, ge=1, description="samples a call (default: the profile's, else 1)")
    wait_s: float = Field(300.0, ge=0, description="seconds to wait for an agent that is down, before trials fail")
    prefilter: bool = Field(
        False, description="do not measure what is predicted far above max_latency_ms; for devices that measure slowly"
    )


class OnceForAllOptions(Options):
    """The elastic network of strategy "once-for-all", and the search among its sub-networks."""

    epochs: int | None = Field(None, ge=1, description="of the elastic network (default: 2 x distill.epochs)")
    evaluations: int = Field(1000, ge=8, description="sub-networks that are judged with inherited weights")
    members: int = Field(12, ge=1, description="of their front, so many are distilled properly")


class SearchSection(Options):
    """How candidates are proposed."""

    strategy: Literal["trials", "once-for-all"] = Field(
        "trials",
        description="trials: every candidate is trained; once-for-all: one elastic network is, candidates are its best "
        "sub-networks",
    )
    once_for_all: OnceForAllOptions = OnceForAllOptions()
    inherit: bool = Field(False, description="students start from weights cut out of whom they learn from, if they fit")
    trials: int = Field(60, ge=1, description="distinct candidates to propose, those rejected at the gate included")
    sampler: str = Field(
        "auto",
        description="auto (tpe, now and then for accuracy alone; later nsga2) | tpe | nsga2 | nsga3 | gp | random | "
        "package.module:Name",
    )
    executor: str = Field("local", description="where candidates are trained: local | package.module:Name")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    workers: int = Field(1, ge=1, le=64, description="candidates trained at the same time, one process and thread each")
    precisions: tuple[str, ...] = Field(
        ("fp32",), min_length=1, description="of several the search chooses; `nas-kd list precisions`"
    )
    rungs: int = Field(3, ge=1, le=8, description="levels of training at which candidates are compared; 1: all in full")
    reduction: int = Field(3, ge=2, le=10, description="of so many at a rung one is trained on, so many times longer")
    rung_steps: int = Field(90, ge=1, description="fewest training steps after which candidates are compared")
    max_minutes: float | None = Field(None, gt=0, description="stop proposing after this long; finalists follow")


class FinalistOptions(Options):
    """The front's members, trained again in full."""

    max: int = Field(6, ge=1, description="and one more if none of their files is within the budget")
    seeds: int = Field(3, ge=1, description="trainings of each; intervals need 2, be safe with 3")
    controls: bool = Field(True, description="also: no distillation, no assistants, at equal training cost")
    max_control_epochs: float = Field(3.0, ge=1, description="cap of a control's epochs, times distill.epochs")


class QuantizationOptions(Options):
    """How the files of the precisions below fp32 are made."""

    calibration: Calibration = Field("minmax", description="int8: ranges of activations; minmax | entropy | percentile")
    samples: int = Field(256, ge=1, description="training samples that ranges of activations are learnt from")
    qat_start: float = Field(
        0.7, ge=0, lt=1, description="int8-qat: quantised from this share of the schedule (of a rung's, up to a rung)"
    )


class StoreOptions(Options):
    """The run's store of trained weights, teachers' outputs, exports and measurements."""

    max_gb: float = Field(20.0, gt=0, description="beyond it, what was used least recently is removed, and made again")


class EngineOptions(Options):
    """How training uses this machine."""

    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where it pays on this CPU")
    threads: int | None = Field(None, ge=1, description="training threads (default: the cores there are)")


class SearchConfig(Options):
    """A whole config.toml."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run (default: the file)")
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
    student: dict[str, Any] | None = Field(None, description="`nas-kd distill` only: the architecture")
