"""What a run writes down: the shape of the study's attributes, and how they are read back. Imports no torch."""

from collections.abc import Iterable, Mapping
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
    """A trial's result at one rung.

    Attributes:
        epochs: of the full schedule that the student was trained for.
        val_accuracy: on the validation split, 0..1.
        seconds: of training since the rung before.
        latency_ms: the median as it was known by then, which a later measurement may correct.
    """

    epochs: int
    val_accuracy: float
    seconds: float
    latency_ms: float | None = None


class Forecast(Record):
    """The prefilter's prediction of a trial's latency, made before it was measured.

    Attributes:
        expected: in ms.
        least: 95 % lower bound, in ms.
        doubted: whether the bound is above the limit; the trial is then infeasible without a measurement, unless it is
            one of those that are measured to check the prefilter.
    """

    expected: float
    least: float
    doubted: bool


class TrialRecord(Record):
    """One proposal of the search and what became of it.

    Attributes:
        number: of the trial, from 0.
        id: of the candidate.
        candidate: what was proposed.
        description: of the student: "3 stages, 16-24-48 wide, 5 blocks, 21 k weights".
        chain_description: of the chain: "teacher → 3 stages, 32 wide → student"; empty without assistants.
        status: how far it has come.
        reason: why it is infeasible, failed or pruned.
        duplicate_of: number of the trial that proposed the same candidate before.
        within_budget: whether its costs are within the budget.
        costs: as far as they were measured.
        notes: on the file, such as layers kept in fp32.
        forecast: of its latency, where the prefilter is on and had enough to learn from.
        rungs: results at the rungs that it reached.
        val_accuracy: at the last of them, 0..1.
        inherited_accuracy: on validation samples with weights of the once-for-all network, 0..1.
        seconds: this trial's own, by part: propose, gate, assistants, distill.
        elapsed_s: wall clock of the run when the trial ended, pauses between processes left out.
        attempts: more than 1 if the run was interrupted during this trial.
    """

    number: int
    id: str
    candidate: CandidateField
    description: str
    chain_description: str = ""
    status: TrialStatus
    reason: str | None = None
    duplicate_of: int | None = None
    within_budget: bool = False
    costs: Costs | None = None
    notes: tuple[str, ...] = ()
    forecast: Forecast | None = None
    rungs: tuple[RungRecord, ...] = ()
    val_accuracy: float | None = None
    inherited_accuracy: float | None = None
    seconds: Mapping[str, float] = {}
    elapsed_s: float = 0.0
    attempts: int = 1

    @property
    def median_ms(self) -> float | None:
        """The median latency in ms, or None if it was not measured."""
        return self.costs.latency_ms.p50 if self.costs and self.costs.latency_ms else None

    def objectives(self, level: int) -> tuple[float, int, float]:
        """What the search compares at a rung: validation accuracy, bytes, and ms as known by then.

        Args:
            level: of the rung, from 0.

        Raises:
            ValueError: the trial has not been measured.
        """
        ms = self.rungs[level].latency_ms or self.median_ms
        if self.costs is None or ms is None:
            raise ValueError(f"trial {self.number} was trained without having been measured")
        return self.rungs[level].val_accuracy, self.costs.require_size(), ms


class SeedRecord(Record):
    """One full training of a finalist or a control; accuracies are the exported file's, through ONNX Runtime.

    Attributes:
        seed: of the training.
        epochs: of its schedule.
        val_accuracy: on the validation split, 0..1.
        test_accuracy: on the test split, 0..1.
        seconds: of training.
        parity: largest absolute difference of logits from the network that the file was made from.
        agreement: share of equal top-1 decisions, 0..1.
        sha256: of the ONNX file without metadata.
        weights_key: of the network's weights in the store, under the kind "deployed".
    """

    seed: int
    epochs: int
    val_accuracy: float
    test_accuracy: float
    seconds: float
    parity: float
    agreement: float
    sha256: str
    weights_key: str | None = None


class ControlRecord(Record):
    """The same student trained another way, at the same training cost (multiply-adds) as its finalist.

    Attributes:
        kind: which way.
        seeds: one training each.
        accuracy: on the test split, over seeds.
        gain: test accuracy of the finalist minus the control's, paired by seed.
        cost_ratio: training cost of the control / of the finalist; below 1 where its epochs are capped.
    """

    kind: Literal["no_distillation", "no_assistants"]
    seeds: tuple[SeedRecord, ...]
    accuracy: Accuracy
    gain: Accuracy
    cost_ratio: float


class FinalistRecord(Record):
    """A member of the search's front, trained in full over several seeds.

    Attributes:
        id: of the candidate.
        trial: number of the trial that proposed it.
        candidate: what was proposed.
        description: of the student, for people.
        chain_description: of the chain, for people.
        costs: measured again, on the trained file.
        notes: on the file, such as layers kept in fp32.
        val: validation accuracy over seeds.
        test: test accuracy over seeds.
        seeds: one training each.
        deployed_seed: the best on validation, whose file is exported.
        controls: the same student trained other ways.
        training_s: seconds of all seeds, assistants included.
        within_budget: whether the exported file's costs are within the budget.
    """

    id: str
    trial: int
    candidate: CandidateField
    description: str
    chain_description: str = ""
    costs: Costs
    notes: tuple[str, ...] = ()
    val: Accuracy
    test: Accuracy
    seeds: tuple[SeedRecord, ...]
    deployed_seed: int
    controls: tuple[ControlRecord, ...] = ()
    training_s: float
    within_budget: bool


class TeacherRecord(Record):
    """A teacher, trained by the tool or the user's own.

    Attributes:
        description: for people.
        origin: a space (trained by the tool), a user's factory or module, or an ONNX file.
        costs: of its exported file.
        val: validation accuracy.
        test: test accuracy, read at the end only.
        training_s: seconds of its training; 0 for a user's own.
    """

    description: str
    origin: Literal["space", "factory", "onnx"]
    costs: Costs
    val: Accuracy
    test: Accuracy | None = None
    training_s: float = 0.0


class DatasetRecord(Record):
    """The data as they were used.

    Attributes:
        name: for people.
        source: as the config names it.
        key: sha256 of all samples and labels.
        classes: names, in the order of the logits.
        input_shape: of one sample.
        scale: 255 where stored values are pixels 0..255, else 1.
        n_train: training samples.
        n_val: validation samples.
        n_test: test samples.
        notes: what was carved, dropped or converted.
    """

    name: str
    source: str
    key: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    scale: float = 1.0
    n_train: int
    n_val: int
    n_test: int
    notes: tuple[str, ...] = ()


class DeviceRecord(Record):
    """Where latency was measured.

    Attributes:
        name: of the device profile.
        description: for people.
        batch_size: samples of one call.
        environment: settings, processor and versions.
    """

    name: str
    description: str
    batch_size: int
    environment: Mapping[str, str | int | float | bool | None] = {}


class CacheRecord(Record):
    """How often the store had one kind of entry that was looked for, and how often it had to be computed."""

    hits: int = 0
    misses: int = 0


class OnceForAllRecord(Record):
    """The elastic network of a run whose strategy is "once-for-all", and the search among its sub-networks.

    Attributes:
        key: of its weights in the store.
        epochs: that it was trained for.
        networks_a_step: sub-networks trained in every step (sandwich rule).
        training_s: seconds of its training.
        search_s: seconds of the search among its sub-networks.
        evaluated: sub-networks judged with inherited weights.
        measured: networks whose size and latency were measured; the others' were predicted from these.
        latency_error: median relative error of the latency predictor on networks that it was not fitted to.
        inherited: validation accuracies (0..1) with inherited weights of the first trials' students.
    """

    key: str
    epochs: int
    networks_a_step: int
    training_s: float
    search_s: float
    evaluated: int
    measured: int
    latency_error: float
    inherited: tuple[float, ...]


class PrefilterRecord(Record):
    """What the prefilter of latencies did, and how well.

    Attributes:
        forecasts: predictions that it made.
        skipped: trials that were infeasible without a measurement.
        checked: doubted trials that were measured to check it.
        wrong: how many of these were within the limit.
        error: median relative error of predictions that a measurement followed; None: none did.
    """

    forecasts: int
    skipped: int
    checked: int
    wrong: int
    error: float | None


class RunRecord(Record):
    """A whole run, finished or not: all that a report is made from.

    Attributes:
        name: of the run.
        run_dir: its folder.
        state: how far it has come.
        message: the closest candidates, where the budget cannot be met.
        config: the resolved config.
        dataset: that students were trained and judged on.
        device: where latency was measured.
        teacher: the first one, which students are compared with.
        other_teachers: those after it.
        once_for_all: the elastic network, where the strategy uses one.
        prefilter: what it did, where it was on.
        trials: all proposals, by number.
        finalists: trained in full, in the order of the front.
        cache: use of the store by kind (weights, logits, export, latency).
        environment: machine and versions.
        seconds: of each part of the run: teacher, propose, gate, assistants, distill, finalists, test.
        warnings: that were raised.
        command: how to run it again.
    """

    name: str
    run_dir: str
    state: RunState
    message: str | None = None
    config: Mapping[str, Any]
    dataset: DatasetRecord | None = None
    device: DeviceRecord | None = None
    teacher: TeacherRecord | None = None
    other_teachers: tuple[TeacherRecord, ...] = ()
    once_for_all: OnceForAllRecord | None = None
    prefilter: PrefilterRecord | None = None
    trials: tuple[TrialRecord, ...] = ()
    finalists: tuple[FinalistRecord, ...] = ()
    cache: Mapping[str, CacheRecord] = {}
    environment: Mapping[str, Any] = {}
    seconds: Mapping[str, float] = {}
    warnings: tuple[str, ...] = ()
    command: str = ""


def without_duplicates(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Leave out the trials that are duplicates, which repeat another trial's results."""
    return [t for t in trials if t.status != "duplicate"]
