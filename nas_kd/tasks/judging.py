"""What a task makes of a trained network's outputs: evidence for scores, differences, pictures, and words for cards."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.finalist_record import PictureRecord
from nas_kd.results.output_record import OutputRecord
from nas_kd.scores.base import Evidence, Score, load_score

Array = NDArray[Any]


class Differences(NamedTuple):
    """Decisions that two networks make differently: one a sample, unless a sample has many places to decide about.

    Attributes:
        rows: (D,) int64 their positions.
        gaps: (D,) how far the first network's outputs are from deciding like the second's, in units of its outputs.
        places: number of decisions about all samples; None: one each.
    """

    rows: NDArray[np.int64]
    gaps: NDArray[np.float32]
    places: int | None = None


class TaskJudging(ABC):
    """The part of a task that networks are judged and described by; see `nas_kd.tasks.base.Task`."""

    name: ClassVar[str]
    headline: ClassVar[str]
    scored_as: ClassVar[str] = ""
    knowledge: ClassVar[str]

    @abstractmethod
    def evidence(self, outputs: NDArray[np.float32], y: Array) -> Evidence:
        """What a network did with the samples of a split.

        Args:
            outputs: (N, ...) as the network, or its file, returns them.
            y: (N, ...) targets.
        """

    def evidence_of_parts(self, parts: Iterable[tuple[NDArray[np.float32], Array]]) -> Evidence:
        """The same of a split that comes in parts (outputs, targets), one at least.

        A task whose outputs are large keeps what scores need of each part, and no outputs.
        """
        outputs, targets = zip(*parts, strict=True)
        return self.evidence(np.concatenate(outputs), np.concatenate(targets))

    def fault_of_outputs(self, outputs: NDArray[np.float32]) -> str:
        """What is wrong with outputs of a user's network that are clearly not what the task works with; else "".

        Args:
            outputs: (N, ...) for some samples.
        """
        return ""

    def details(self, tested: Sequence[Evidence], deployed: Evidence) -> dict[str, Any]:
        """Further facts for the record of a network that was judged on test, by field.

        Args:
            tested: evidence of each seed.
            deployed: that of the network that is deployed.
        """
        return {}

    def decision_rule(self, outputs: NDArray[np.float32], y: Array) -> dict[str, Any]:
        """What cards say of how to decide by outputs, such as a threshold, found on validation.

        Args:
            outputs: (N, ...) of the deployed file, for the validation samples.
            y: (N, ...) their targets.
        """
        return {}

    def pictures(
        self,
        x: NDArray[np.float32],
        y: Array,
        outputs: NDArray[np.float32],
        names: Sequence[str],
        rule: Mapping[str, Any],
    ) -> tuple[PictureRecord, ...]:
        """Draw what a network says of a few test samples, for the report; none unless a task does.

        Args:
            x: (N, ...) samples in stored units.
            y: (N, ...) their targets.
            outputs: (N, ...) of the network.
            names: of classes or outputs.
            rule: its `decision_rule`.
        """
        return ()

    @abstractmethod
    def differences(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Differences:
        """Find the samples about which two networks decide differently.

        Args:
            ours: (N, ...) outputs of one.
            theirs: of the other, on the same samples.
        """

    @abstractmethod
    def describe_output(self, names: Sequence[str]) -> OutputRecord:
        """What cards of exported networks say of their output.

        Args:
            names: of classes or outputs.
        """

    def in_order(self, outputs: NDArray[np.float32], order: Sequence[int]) -> NDArray[np.float32]:
        """Bring outputs (N, ...) into another order of classes.

        Args:
            outputs: as a network returns them.
            order: for each class, its number among those of the network.
        """
        return outputs[:, list(order)]

    def class_counts(self, y: Array, n_outputs: int) -> tuple[int, ...]:
        """Samples by class; empty where samples have no single class."""
        return ()

    def score(self, name: str | None) -> Score:
        """The score that decides.

        Args:
            name: `data.score`; None: the task's own.

        Raises:
            InputError: there is none of this name for this task.
        """
        return load_score(name or self.headline, self.scored_as or self.name)

    @property
    def headline_score(self) -> Score:
        """The score that comes first everywhere."""
        return load_score(self.headline)

    @property
    def knowledge_score(self) -> Score:
        """The score by which a teacher has to be better than guessing."""
        return load_score(self.knowledge)

    def first_score(self, evidence: Evidence) -> float:
        """A network's headline score, 0..1."""
        return self.headline_score.value(evidence)
