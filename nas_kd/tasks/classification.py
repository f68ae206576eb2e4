"""Classification: every sample has one class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.base import load_score
from nas_kd.scores.class_score import Decisions
from nas_kd.tasks.base import Array, DecisionKind, Differences, Targets, Task
from nas_kd.tasks.class_labels import check_class_sizes, validated_labels


@dataclass(frozen=True)
class Classification(Task):
    """One class a sample; a network returns logits (B, C). See `Task` for the attributes."""

    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "classification"
    summary: ClassVar[str] = "one class a sample; accuracy"
    headline: ClassVar[str] = "accuracy"
    knowledge: ClassVar[str] = "balanced_accuracy"
    decisions: ClassVar[DecisionKind] = "sample"
    one_class: ClassVar[bool] = True
    default_methods: ClassVar[tuple[str, ...]] = ("soft_targets", "dkd", "similarity", "soft_targets+similarity")
    stratum: ClassVar[str] = "class"

    def read_targets(self, ys: Mapping[str, Array], names: tuple[str, ...] | None) -> Targets:
        """Read names, class numbers, one-hot rows, or -1 and 1; see `validated_labels`."""
        labels = validated_labels(dict(ys), names)
        return Targets(dict(labels.numbers), labels.classes, self, labels.encoding)

    def strata(self, y: Array) -> NDArray[np.int64]:
        """The classes themselves."""
        return y

    def check_carving(self, y: Array, names: tuple[str, ...], carved: tuple[str, ...]) -> None:
        """Refuse classes that are too small; see `check_class_sizes`."""
        check_class_sizes(y, names, carved)

    def targets(self, y: Tensor) -> Tensor:
        """Class numbers (B,), as they are."""
        return y

    def decide(self, raw: Tensor) -> Tensor:
        """Logits (B, C), as they are."""
        return raw

    def evidence(self, outputs: NDArray[np.float32], y: Array) -> Decisions:
        """The classes with the largest logits."""
        return Decisions(y, outputs.argmax(axis=1), outputs.shape[1])

    def details(self, tested: Sequence[Any], deployed: Any) -> dict[str, Any]:
        """Balanced accuracy over seeds, and the confusion matrix of what is deployed."""
        return {
            "balanced": load_score("balanced_accuracy").over_seeds(tested),
            "confusion": deployed.confusion,
        }

    def differences(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Differences:
        """Samples with another class; the gap is that between the two classes' logits."""
        top, other = ours.argmax(1), theirs.argmax(1)
        rows = np.flatnonzero(top != other)
        return Differences(rows, ours[rows, top[rows]] - ours[rows, other[rows]])

    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """Logits for a softmax."""
        return OutputRecord(
            name=self.output,
            kind="logits",
            probabilities="softmax(logits / temperature)",
            noun=f"classifier of {len(names)} classes",
            each="one logit a class",
            items="classes",
            example='print(card["nas_kd.classes"][int(logits[0].argmax())])',
            limit="It knows the classes above and nothing else: any input gets one of them.",
            hub_metric="accuracy",
            hub_tasks={
                3: ("image-classification", "Image Classification"),
                1: ("tabular-classification", "Tabular Classification"),
            },
        )

    def class_counts(self, y: Array, n_outputs: int) -> tuple[int, ...]:
        """Samples by class."""
        return tuple(np.bincount(y, minlength=n_outputs).tolist())


CLASSIFICATION = Classification()
PLUGIN = CLASSIFICATION
