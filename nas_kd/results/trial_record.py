"""The record of one trial, and what all records are made of. Imports no torch."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, PlainSerializer, model_validator

from nas_kd.results.candidate import Candidate
from nas_kd.results.latency import Latency

TrialStatus = Literal["running", "paused", "duplicate", "infeasible", "pruned", "failed", "finished"]


def _candidate(value: Any) -> Any:
    return Candidate.from_json(value) if isinstance(value, Mapping) else value


CandidateField = Annotated[
    InstanceOf[Candidate], BeforeValidator(_candidate), PlainSerializer(lambda candidate: candidate.to_json())
]


class Record(BaseModel):
    """Base class of records: frozen, JSON-able data without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Judged(NamedTuple):
    """How good a network is on one split: its accuracy, and the score that decides (`data.score`); 0..1 both."""

    accuracy: float
    score: float


class ScoredRecord(Record):
    """Base class of records with an accuracy and the run's score beside it; where only accuracy is given, it is both.

    Records of runs that decide on accuracy, and of versions before scores, have the accuracy alone.
    """

    scored: ClassVar[Mapping[str, str]] = {"val_score": "val_accuracy"}  # field of the score -> of the accuracy

    @model_validator(mode="before")
    @classmethod
    def _accuracy_is_the_score(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        filled = {score: given.get(accuracy) for score, accuracy in cls.scored.items() if given.get(score) is None}
        return {**given, **{k: v for k, v in filled.items() if v is not None}}


class Costs(Record):
    """What a network costs to deploy, as far as it is known: what is None was not measured.

    Attributes:
        parameters: Number of trained weights.
        macs: Multiply-adds of one sample.
        size_bytes: Size of the ONNX file with its metadata; None if the network was not exported.
        latency_ms: Latency of one call on the device.
        memory_bytes: Peak memory of an ONNX Runtime session that runs the file.
    """

    parameters: int
    macs: int
    size_bytes: int | None = None
    latency_ms: Latency | None = None
    memory_bytes: int | None = None

    @property
    def known_macs(self) -> int | None:
        """Multiply-adds; None of a teacher that exists only as its outputs, of which nothing was counted."""
        return self.macs if self.macs or self.parameters else None

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


class RungRecord(ScoredRecord):
    """A trial's result at one rung.

    Attributes:
        epochs: of the full schedule that the student was trained for.
        val_accuracy: on the validation split, 0..1.
        val_score: what decides, on the same split, 0..1.
        seconds: of the training since the rung before, when it took place; of all its epochs where it began anew, with
            its assistants.
        without_assistants: whether the student was trained without the candidate's assistants up to here, as before a
            promotion; trials that differ in their assistants alone share that training.
        latency_ms: the median as it was known by then, which a later measurement may correct.
    """

    epochs: int
    val_accuracy: float
    val_score: float
    seconds: float
    without_assistants: bool = False
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


class TrialRecord(ScoredRecord):
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
        val_score: what decides, there, 0..1.
        inherited_accuracy: what decides, on validation samples with weights of the once-for-all network, 0..1.
        seconds: spent on this trial itself, by part: propose, gate, assistants (those that it was the first to need),
            distill (trainings found in the store cost none).
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
    val_score: float | None = None
    inherited_accuracy: float | None = None
    seconds: Mapping[str, float] = {}
    elapsed_s: float = 0.0
    attempts: int = 1

    @property
    def median_ms(self) -> float | None:
        """The median latency in ms, or None if it was not measured."""
        return self.costs.latency_ms.p50 if self.costs and self.costs.latency_ms else None

    @property
    def without_assistants(self) -> bool:
        """Whether its accuracy is that of a training without the candidate's assistants, see `RungRecord`."""
        return bool(self.rungs) and self.rungs[-1].without_assistants

    @property
    def epoch_s(self) -> float:
        """Seconds that an epoch of its student took, by its rungs; 0 without any."""
        alike = [r for r in self.rungs if r.without_assistants == self.without_assistants]
        return sum(r.seconds for r in alike) / alike[-1].epochs if alike else 0.0

    def objectives(self, level: int) -> tuple[float, int, float]:
        """What the search compares at a rung: the score on validation, bytes, and ms as known by then.

        Args:
            level: of the rung, from 0.

        Raises:
            ValueError: the trial has not been measured.
        """
        ms = self.rungs[level].latency_ms or self.median_ms
        if self.costs is None or ms is None:
            raise ValueError(f"trial {self.number} was trained without having been measured")
        return self.rungs[level].val_score, self.costs.require_size(), ms


def without_duplicates(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Leave out the trials that are duplicates, which repeat another trial's results."""
    return [t for t in trials if t.status != "duplicate"]
