"""What a chain policy decides: who teaches each link of a chain of assistants, and what of the chain is deployed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.training_job import TrainedModel, TrainingJob
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.plugins import load
from nas_kd.results.candidate import NO_DISTILLATION, Architecture, Candidate, Recipe

if TYPE_CHECKING:
    from nas_kd.kd.distiller import Distiller


class ChainPolicy(ABC):
    """One file in `nas_kd/kd/chain_policies/` with `PLUGIN = <instance>`, or a user's `package.module:Name`.

    The defaults suit policies in which assistants teach and only the student is deployed; such a policy defines
    `teachers` alone.
    """

    name: ClassVar[str]
    source: ClassVar[str]  # author year, arXiv id
    summary: ClassVar[str]  # one line for `nas-kd list policies`
    sums_outputs: ClassVar[bool] = False  # whether what is deployed adds up the outputs of several networks
    any_classes: ClassVar[bool] = False  # whether no link adds up what several networks say of classes

    def usable_assistants(
        self,
        proposed: Sequence[Architecture],
        student: Architecture,
        method: Method,
        n_weights: Callable[[Architecture], int],
    ) -> tuple[Architecture, ...]:
        """Select the assistants that make sense for this student; the others are dropped from the candidate.

        Args:
            proposed: drawn by the search, each once, largest first.
            student: the architecture at the end of the chain.
            method: how the student is distilled.
            n_weights: counts an architecture's weights.
        """
        if not method.chainable:
            return ()
        return tuple(a for a in proposed if n_weights(a) > n_weights(student))

    @abstractmethod
    def teachers(
        self, distiller: "Distiller", roots: Sequence[Teacher], assistants: tuple[Architecture, ...]
    ) -> list[Teacher]:
        """List the teachers of the link behind these assistants, training what is missing.

        Args:
            distiller: `distiller.assistant(self, assistants[:n])` is the n-th assistant, trained.
            roots: the run's own teachers that the link's method would learn from without a chain.
            assistants: those before the link, largest first; at least one.
        """

    def make_method(self, recipe: Recipe, n_teachers: int) -> Method:
        """Create the method that trains one link.

        Args:
            recipe: the link's method and parameters.
            n_teachers: how many teachers the link learns from.
        """
        return make_method(recipe.method, recipe.params.get("temperature"), recipe.params.get("strength", 1.0))

    def distill(self, distiller: "Distiller", job: TrainingJob, candidate: Candidate) -> TrainedModel:
        """Train what the candidate deploys.

        Args:
            distiller: trains links and finds those trained before.
            job: the student's training.
            candidate: the whole candidate; its student and recipe are the job's.
        """
        method = make_method(candidate.recipe.method)
        return distiller.train(job, distiller.teachers_for(method, self, candidate.assistants), self)

    def prepare(self, distiller: "Distiller", candidate: Candidate) -> None:
        """Train the assistants that the candidate's student learns from, as far as they are missing."""
        distiller.teachers_for(make_method(candidate.recipe.method), self, candidate.assistants)

    def without_shared_assistants(self, candidate: Candidate) -> Candidate:
        """Build the candidate that is trained up to the first rung: without the assistants that only teach.

        Where assistants are deployed it is the candidate itself: what is compared at a rung must be what is deployed.
        """
        return candidate.direct() if self.deployed(candidate) == (candidate.student,) else candidate

    def deployed(self, candidate: Candidate) -> tuple[Architecture, ...]:
        """List the networks whose logits are summed in the exported file."""
        return (candidate.student,)

    def reusable_chains(self, candidate: Candidate) -> list[tuple[Architecture, ...]]:
        """List the chains, each ending in its last assistant, that are trained in full once and shared by trials."""
        return [candidate.assistants[: n + 1] for n in range(len(candidate.assistants))]

    def assistant_epochs(self, student_epochs: int, full_epochs: int) -> int:
        """Epochs for which one candidate's assistants are trained when its student is trained for `student_epochs`."""
        return full_epochs

    def without_distillation(self, candidate: Candidate) -> Candidate:
        """Build the control that deploys the same thing, trained on labels alone."""
        return replace(candidate.direct(), recipe=Recipe(NO_DISTILLATION, training=candidate.recipe.training))

    def describe(self, assistants: Sequence[str]) -> str:
        """Describe the chain in one line, from descriptions of its assistants, largest first."""
        return " → ".join(("teacher", *assistants, "student"))


def load_policy(name: str) -> ChainPolicy:
    """Find the chain policy called `name` (or `package.module:Name`).

    Raises:
        InputError: there is none, or it is no `ChainPolicy`.
    """
    return load("policy", name, ChainPolicy)  # type: ignore[type-abstract]
