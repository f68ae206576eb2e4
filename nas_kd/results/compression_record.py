"""The records of other compression of the teacher, and of how families of compression compare. Imports no torch."""

from collections.abc import Mapping
from typing import ClassVar

from nas_kd.results.confusion import Confusion
from nas_kd.results.finalist_record import Accuracy, ClassScores, SeedRecord
from nas_kd.results.trial_record import Costs, Record, ScoredRecord


class BaselineRecord(ScoredRecord):
    """The teacher, compressed without distillation, measured and judged like a finalist.

    Attributes:
        id: the baseline's name and the network's: "quantization/int8".
        techniques: of compression, such as ("quantization",).
        description: for people.
        precision: of the file.
        costs: of the file.
        notes: on the file, such as layers kept in fp32.
        val: validation accuracy over seeds.
        test: test accuracy over seeds.
        val_score: what decides, on validation, over seeds.
        test_score: the same on test.
        balanced: balanced accuracy on test over seeds.
        further: scores on test that the task adds, by name.
        confusion: what the file does with the test samples; None where samples have no single class.
        by_class: a score of each class on test, where confusion is not a matter of counting samples.
        decoding_ms: milliseconds a sample of what `predict.py` does after the graph, such as suppressing boxes; None:
            nothing that takes time.
        seeds: one training each, or one conversion.
        deployed_seed: the best on validation, whose file was measured.
        within_budget: whether its costs are within the budget.
    """

    scored: ClassVar = {"val_score": "val", "test_score": "test"}

    id: str
    techniques: tuple[str, ...]
    description: str
    precision: str
    costs: Costs
    notes: tuple[str, ...] = ()
    val: Accuracy
    test: Accuracy
    val_score: Accuracy
    test_score: Accuracy
    balanced: Accuracy | None = None
    further: Mapping[str, Accuracy] = {}
    confusion: Confusion | None = None
    by_class: ClassScores | None = None
    decoding_ms: float | None = None
    seeds: tuple[SeedRecord, ...]
    deployed_seed: int
    within_budget: bool


class Estimate(Record):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class NetworkScore(Record):
    """How much a network keeps of the teacher, and what that is worth at its costs.

    Attributes:
        id: of a finalist, of its control ("ID/no_distillation"), or of a baseline.
        family: of compression.
        retention: of the teacher's score above chance, on test; 1 is all of it.
        score: retention x log2 of the geometric mean of times smaller and times faster.
    """

    id: str
    family: str
    retention: Estimate
    score: Estimate


class Family(Record):
    """Networks that were compressed by the same techniques.

    Attributes:
        name: the techniques: "distillation + quantization".
        members: ids of the networks.
        best: id of the best on validation within the budget; of all, if none is.
        best_within_budget: whether it is within the budget.
        hypervolume: of all members, see `nas_kd.results.compression`.
    """

    name: str
    members: tuple[str, ...]
    best: str
    best_within_budget: bool
    hypervolume: Estimate


class Difference(Estimate):
    """A difference of two families, from the same draws for both.

    Attributes:
        holds_for_fewer: whether all smaller numbers of members have the same order; true where there is no smaller one.
        holds_for_teachers: whether teachers of a quarter to four times the costs would leave the order as it is.
    """

    holds_for_fewer: bool = True
    holds_for_teachers: bool

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


class FamilyPair(Record):
    """Two families compared.

    Attributes:
        first: name of one.
        second: of the other.
        members: as many of each as are compared: those of the smaller family.
        hypervolume: the first's less the second's, as the mean over all choices of that many members.
        score: the compression score of the first's best member less that of the second's.
    """

    first: str
    second: str
    members: int
    hypervolume: Difference
    score: Difference


class CompressionRecord(Record):
    """How all compressed networks of a run compare with the teacher and with each other.

    Attributes:
        undefined: why there are no scores; empty where there are.
        costs: that are compared: "size" and, where the teacher's is known, "latency".
        teacher_score: of the reference on test, 0..1.
        chance: what guessing gets on test.
        teacher_size_bytes: of its file.
        teacher_latency_ms: its median latency, where it is known.
        networks: their scores.
        families: the largest hypervolume first.
        pairs: each of two families.
    """

    undefined: str = ""
    costs: tuple[str, ...] = ()
    teacher_score: float = 0.0
    chance: float = 0.0
    teacher_size_bytes: int | None = None
    teacher_latency_ms: float | None = None
    networks: tuple[NetworkScore, ...] = ()
    families: tuple[Family, ...] = ()
    pairs: tuple[FamilyPair, ...] = ()

    def score_of(self, name: str) -> NetworkScore | None:
        """The score of a network by its id; None if it has none."""
        return next((n for n in self.networks if n.id == name), None)
