"""What a run writes down: the shape of the study's attributes, and how they are read back. Imports no torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, PlainSerializer

from nas_kd.results.candidate import Candidate
from nas_kd.results.latency import Latency

TrialStatus = Literal["running", "paused", "duplicate", "infeasible", "pruned", "failed", "finished"]
RunState = Literal["searching", "finalists", "finished", "unreachable"]


def _candidate(value: Any) -> Any:
    return Candidate.from_json(value) if isinstance(value, Mapping) else value


CandidateField = Annotated[
    InstanceOf[Candidate], BeforeValidator(_candidate), PlainSerializer(lambda candidate: candidate.to_json())
]


class Record(BaseModel):
    """Base class of records: frozen, JSON-able data without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Costs(Record):
    """What a network costs to deploy, as far as it is known: what is None was not measured.

    Attributes:
        parameters: Number of trained weights.
        macs: Multiply-adds of one sample.
        size_bytes: Size of the ONNX file; None if the network was not exported.
        latency_ms: Latency of one call on the device.
        memory_bytes: Peak memory of an ONNX Runtime session that runs the file.
    """

    parameters: int
    macs: int
    size_bytes: int | None = None
    latency_ms: Latency | None = None
    memory_bytes: int | None = None

    @property
    def unstable(self) -> bool:
        """Whether the latency was measured and its interval is wide."""
        return self.latency_ms is not None and self.latency_ms.unstable

    def require_size(self) -> int:
        """Size of the ONNX file in bytes.

        Raises:
            ValueError: The network was not exported.
        """
        if self.size_bytes is None:
            raise ValueError("the size of this network is not known: it was not exported")
        return self.size_bytes

    def require_latency(self) -> Latency:
        """Latency on the device, in milliseconds.

        Raises:
            ValueError: The latency was not measured.
        """
        if self.latency_ms is None:
            raise ValueError("the latency of this network was not measured")
        return self.latency_ms


class Accuracy(Record):
    """A share in 0..1 with its 95 % interval, and how many samples and seeds it rests on."""

    mean: float
    low: float
    high: float
    samples: int
    seeds: int = 1


class RungRecord(Record):
    """A trial's validation accuracy (0..1) after so many epochs of the full schedule.

    `latency_ms`: the median as it was known by then; None, in runs of older versions: as the trial's costs have it.
    """

    epochs: int
    val_accuracy: float
    seconds: float
    latency_ms: float | None = None


class Forecast(Record):
    """What the prefilter expected of a trial's latency, in ms, before it was measured, from the trials before it.

    `least`: the 95 % lower bound. `doubted`: that is above the limit, so that the trial is rejected unmeasured, unless
    it is one of those that are measured all the same, to see whether that is right.
    """

    expected: float
    least: float
    doubted: bool


class TrialRecord(Record):
    """One proposal of the search and what became of it."""

    number: int
    id: str  # candidate id
    candidate: CandidateField
    description: str  # the student: "3 stages, 16-24-48 wide, 5 blocks, 21 k weights"
    chain_description: str = ""  # "teacher → 3 stages, 32 wide → student"
    status: TrialStatus
    reason: str | None = None  # why rejected or failed
    duplicate_of: int | None = None  # trial number
    within_budget: bool = False
    costs: Costs | None = None
    notes: tuple[str, ...] = ()  # of the file: layers kept in fp32
    forecast: Forecast | None = None  # of its latency, where a prefilter is used and had enough to learn from
    rungs: tuple[RungRecord, ...] = ()
    val_accuracy: float | None = None  # at the last rung reached
    inherited_accuracy: float | None = None  # on validation, with weights of the once-for-all network, 0..1
    seconds: Mapping[str, float] = {}  # propose, gate, assistants, distil: this trial's own
    elapsed_s: float = 0.0  # wall clock of the run when this trial ended, pauses between resumes left out
    attempts: int = 1  # more than 1: the run was interrupted during this trial

    @property
    def median_ms(self) -> float | None:
        """Its latency, as far as it is known."""
        return self.costs.latency_ms.p50 if self.costs and self.costs.latency_ms else None

    def objectives(self, level: int) -> tuple[float, int, float]:
        """Validation accuracy at a rung, bytes, ms as known by then: what the search compares.

        Raises:
            ValueError: it has not been measured.
        """
        ms = self.rungs[level].latency_ms or self.median_ms
        if self.costs is None or ms is None:
            raise ValueError(f"trial {self.number} was trained without having been measured")
        return self.rungs[level].val_accuracy, self.costs.require_size(), ms


class SeedRecord(Record):
    """One full training of a finalist or a control; accuracies (0..1) are the exported file's, through ONNX Runtime."""

    seed: int
    epochs: int
    val_accuracy: float
    test_accuracy: float
    seconds: float
    parity: float  # largest absolute difference of logits, ONNX against PyTorch; quantised: against what was quantised
    agreement: float  # share of equal top-1 decisions
    sha256: str  # of the ONNX file
    weights_key: str | None = None  # of its weights in the store; None: trained by an earlier version


class ControlRecord(Record):
    """The same student trained another way, at the same training cost (multiply-adds) as its finalist.

    `gain`: finalist minus control, test accuracy paired by seed (0..1), with its 95 % interval.
    """

    kind: Literal["no_distillation", "no_assistants"]
    seeds: tuple[SeedRecord, ...]
    accuracy: Accuracy
    gain: Accuracy
    cost_ratio: float  # training cost of the control / of the finalist; below 1 where capped


class FinalistRecord(Record):
    """A member of the search's front, trained in full over several seeds."""

    id: str
    trial: int
    candidate: CandidateField
    description: str
    chain_description: str = ""
    costs: Costs  # measured again, on the trained file
    notes: tuple[str, ...] = ()  # of the file: layers kept in fp32
    val: Accuracy
    test: Accuracy
    seeds: tuple[SeedRecord, ...]
    deployed_seed: int  # the best on validation: the file that is exported
    controls: tuple[ControlRecord, ...] = ()
    training_s: float  # all seeds, assistants included
    within_budget: bool


class TeacherRecord(Record):
    """The reference point."""

    description: str
    origin: Literal["space", "factory", "onnx"]
    costs: Costs
    val: Accuracy
    test: Accuracy | None = None  # read at the end only
    training_s: float = 0.0


class DatasetRecord(Record):
    """The data as used. `key`: sha256 of the samples. `notes`: what was carved, dropped or converted."""

    name: str
    source: str
    key: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    scale: float = 1.0  # 255: stored values are pixels 0..255; 1: as given
    n_train: int
    n_val: int
    n_test: int
    notes: tuple[str, ...] = ()


class DeviceRecord(Record):
    """The device profile in words and figures."""

    name: str
    description: str
    batch_size: int
    environment: Mapping[str, str | int | float | bool | None] = {}


class CacheRecord(Record):
    """How often something was found in the store, and how often it had to be made."""

    hits: int = 0
    misses: int = 0


class OnceForAllRecord(Record):
    """The elastic network of a run whose strategy is "once-for-all", and the search among its sub-networks."""

    key: str  # of its weights in the store
    epochs: int
    networks_a_step: int  # sub-networks trained in every step (sandwich rule)
    training_s: float
    search_s: float
    evaluated: int  # sub-networks judged with inherited weights
    measured: int  # networks whose size and latency were measured, and those of the others predicted from
    latency_error: float  # median relative error of the latency predictor on networks that it was not fitted to
    inherited: tuple[float, ...]  # validation accuracy (0..1) of the first trials' students with inherited weights


class PrefilterRecord(Record):
    """What the prefilter of latencies did, and how well.

    `error`: median relative error of what it expected of networks that were measured after that; None: of none.
    """

    forecasts: int
    skipped: int  # rejected unmeasured
    checked: int  # doubted, and measured all the same
    wrong: int  # of these, how many were within the limit
    error: float | None


class RunRecord(Record):
    """A whole run, finished or not: all that a report is made from."""

    name: str
    run_dir: str
    state: RunState
    message: str | None = None  # for "unreachable": the closest candidates
    config: Mapping[str, Any]  # resolved config.toml
    dataset: DatasetRecord | None = None
    device: DeviceRecord | None = None
    teacher: TeacherRecord | None = None  # the one that students are judged by
    other_teachers: tuple[TeacherRecord, ...] = ()
    once_for_all: OnceForAllRecord | None = None
    prefilter: PrefilterRecord | None = None
    trials: tuple[TrialRecord, ...] = ()
    finalists: tuple[FinalistRecord, ...] = ()
    cache: Mapping[str, CacheRecord] = {}  # by kind: weights, logits, export, latency
    environment: Mapping[str, Any] = {}
    seconds: Mapping[
        str, float
    ] = {}  # where the time went: teacher, propose, gate, assistants, distil, finalists, test
    warnings: tuple[str, ...] = ()
    command: str = ""  # how to run it again
