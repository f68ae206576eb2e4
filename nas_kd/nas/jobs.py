"""The jobs that a search hands to its workers, and how each is done: four dataclasses that travel as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from nas_kd.context.callbacks import Callback
from nas_kd.errors import TrialError
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.distiller import Distiller
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.nas.supernet.subnet_evaluator import SubnetEvaluator
from nas_kd.nas.trial import train_to_next_rung
from nas_kd.results.candidate import Architecture, Candidate
from nas_kd.results.trial_record import TrialRecord


@dataclass(frozen=True)
class JobTools:
    """What jobs are done with, in the coordinator's process or in a worker's.

    Attributes:
        distiller: trains candidates.
        artifacts: exports them.
        subnets: judges parts of an elastic network.
        methods: names of the config's distillation methods.
        plan: epochs after which candidates are compared, and which trials are trained in full whatever they reach.
        seed: of the run.
        callback: receives how far a job has come.
    """

    distiller: Distiller
    artifacts: ArtifactBuilder
    subnets: SubnetEvaluator
    methods: tuple[str, ...]
    plan: SearchPlan
    seed: int
    callback: Callback


class Job(Protocol):
    """Something a worker does for a search."""

    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """The job as JSON, with its kind."""

    def run(self, tools: JobTools) -> Any:
        """Do the job and return its result, which is JSON-able."""


@dataclass(frozen=True)
class TrainTrial:
    """Train a trial's candidate up to its next rung; the result is the trial's new record.

    Attributes:
        record: the trial so far.
        weight_sources: keys of stored weights that networks may start from.
    """

    record: TrialRecord
    weight_sources: tuple[str, ...] = ()
    kind: ClassVar[str] = "train_trial"

    def to_json(self) -> dict[str, Any]:
        """The job as JSON, with its kind."""
        record = self.record.model_dump(mode="json")
        return {"kind": self.kind, "record": record, "weight_sources": list(self.weight_sources)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "TrainTrial":
        """Read the job that `to_json` wrote."""
        return TrainTrial(TrialRecord.model_validate(value["record"]), tuple(value["weight_sources"]))

    def run(self, tools: JobTools) -> Any:
        """Train, judge, and return the record as JSON."""
        distiller = tools.distiller.inheriting_from(self.weight_sources)
        record = train_to_next_rung(self.record, distiller, tools.artifacts, tools.plan, tools.seed)
        return record.model_dump(mode="json")

    def result(self, value: Any) -> TrialRecord:
        """Read the record that `run` returned."""
        return TrialRecord.model_validate(value)


@dataclass(frozen=True)
class TrainFinalist:
    """Train a candidate in full from one seed and leave its verified file in the store.

    Attributes:
        candidate: a finalist's, or a control's.
        seed: of its training.
        epochs: length of its schedule.
        weight_sources: keys of stored weights that networks may start from.
    """

    candidate: Candidate
    seed: int
    epochs: int
    weight_sources: tuple[str, ...] = ()
    kind: ClassVar[str] = "train_finalist"

    def to_json(self) -> dict[str, Any]:
        """The job as JSON, with its kind."""
        return {
            "kind": self.kind,
            "candidate": self.candidate.to_json(),
            "seed": self.seed,
            "epochs": self.epochs,
            "weight_sources": list(self.weight_sources),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "TrainFinalist":
        """Read the job that `to_json` wrote."""
        candidate, sources = Candidate.from_json(value["candidate"]), tuple(value["weight_sources"])
        return TrainFinalist(candidate, value["seed"], value["epochs"], sources)

    def run(self, tools: JobTools) -> None:
        """Train, export and verify; the file is in the store afterwards."""
        distiller = tools.distiller.inheriting_from(self.weight_sources)
        trained = distiller.distill(self.candidate, self.seed, self.epochs)
        tools.artifacts.verified_file(trained, self.candidate.precision)


@dataclass(frozen=True)
class PrecomputeTeacher:
    """Compute the teachers' outputs on some epochs of augmentation and leave them in the store.

    Attributes:
        epochs: from 0.
    """

    epochs: tuple[int, ...]
    kind: ClassVar[str] = "precompute_teacher"

    def to_json(self) -> dict[str, Any]:
        """The job as JSON, with its kind."""
        return {"kind": self.kind, "epochs": list(self.epochs)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "PrecomputeTeacher":
        """Read the job that `to_json` wrote."""
        return PrecomputeTeacher(tuple(value["epochs"]))

    def run(self, tools: JobTools) -> None:
        """Compute what is missing of these epochs."""
        tools.distiller.trainer.outputs.precompute(tools.methods, self.epochs, tools.callback)


@dataclass(frozen=True)
class EvaluateSubnets:
    """Judge parts of a trained elastic network with the weights that they inherit.

    Attributes:
        architectures: the parts.
        supernet: key of the elastic network's weights in the store.
    """

    architectures: tuple[Architecture, ...]
    supernet: str
    kind: ClassVar[str] = "evaluate_subnets"

    def to_json(self) -> dict[str, Any]:
        """The job as JSON, with its kind."""
        return {
            "kind": self.kind,
            "architectures": [a.to_json() for a in self.architectures],
            "supernet": self.supernet,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "EvaluateSubnets":
        """Read the job that `to_json` wrote."""
        return EvaluateSubnets(tuple(map(Architecture.from_json, value["architectures"])), value["supernet"])

    def run(self, tools: JobTools) -> list[float | None]:
        """Scores on validation, 0..1, in the order of the architectures; None for one that cannot be judged."""
        return [self._score(architecture, tools) for architecture in self.architectures]

    def _score(self, architecture: Architecture, tools: JobTools) -> float | None:
        try:
            with as_trial_error():
                return tools.subnets.score(architecture, self.supernet)
        except TrialError:
            tools.subnets.require(self.supernet)  # without it none can be judged
            return None

    def result(self, value: Any) -> dict[Architecture, float]:
        """Read the accuracies that `run` returned, by architecture; those that cannot be judged are left out."""
        accuracies: Sequence[float | None] = value
        judged = zip(self.architectures, accuracies, strict=True)
        return {architecture: accuracy for architecture, accuracy in judged if accuracy is not None}


_KINDS = {job.kind: job for job in (TrainTrial, TrainFinalist, PrecomputeTeacher, EvaluateSubnets)}


def job_from_json(value: Mapping[str, Any]) -> Job:
    """Read a job of any kind.

    Raises:
        ValueError: its kind is unknown.
    """
    if value.get("kind") not in _KINDS:
        raise ValueError(f"unknown kind of job {value.get('kind')!r}; known: {', '.join(_KINDS)}")
    return _KINDS[value["kind"]].from_json(value)
