"""Residual error distillation (Gao et al. 2021, arXiv:2002.09168), on logits: each network adds what the sum lacks.

The teachers of a residual link are the networks whose logits are summed so far (frozen) and, last, the teacher proper.
With z the sum of the frozen logits and the link's own: L = 0.1 CE(z) + 0.9 T^2 KL(teacher || softmax(z / T)), T = 4;
without a teacher L = CE(z). The paper matches feature maps as well; logits suffice to sum networks of any two families.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.chain_policies.base import ChainPolicy
from nas_kd.kd.training_job import TrainedModel, TrainingJob
from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.models.wrappers import sum_networks
from nas_kd.results.candidate import NO_DISTILLATION, Architecture, Candidate, Recipe
from nas_kd.serialization import fingerprint

if TYPE_CHECKING:
    from nas_kd.kd.distiller import Distiller


class ResidualError(Method):
    """Trains a network to add what a sum of frozen networks still gets wrong.

    Its cross-entropy is that of the sum, hence `ce_weight` 0.
    """

    name = "residual"
    source = "Gao 2021, arXiv:2002.09168"
    summary = "learns the error that is left; deployed as a sum"
    teachers: Literal["none", "several"] = "several"
    ce_weight = 0.0
    target_grad_ratio = None
    standardizes = False
    kd_weight = 0.9

    def __init__(self, taught: bool) -> None:
        """Prepare the loss of one link.

        Args:
            taught: whether the last teacher is one to learn from, rather than one more network of the sum.
        """
        super().__init__()
        self._taught = taught
        self.teachers = "several" if taught else "none"  # beside the networks of the sum

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Compute the sum's cross-entropy and, where there is a teacher, its divergence from the teacher."""
        frozen = teachers[:-1] if self._taught else teachers
        logits = torch.stack([student.logits, *(f.logits for f in frozen)]).sum(dim=0)
        error = batch.label_loss(logits)
        if not self._taught:
            return {"residual_ce": error}
        distilled = batch.divergence(logits, teachers[-1].logits, self.temperature)
        return {"residual_ce": (1 - self.kd_weight) * error, "residual": self.kd_weight * distilled}


class Residual(ChainPolicy):
    """The student learns first, then each assistant learns the error of the sum so far; the sum is deployed."""

    name = "residual"
    source = "Gao 2021, arXiv:2002.09168"
    summary = "each link adds what the sum so far gets wrong; all of them are deployed as one network"
    sums_outputs = True

    def usable_assistants(
        self,
        proposed: Sequence[Architecture],
        student: Architecture,
        method: Method,
        n_weights: Callable[[Architecture], int],
    ) -> tuple[Architecture, ...]:
        """Select all of them: a network that is added to the student need not be larger than it."""
        return tuple(proposed)

    def teachers(
        self, distiller: "Distiller", roots: Sequence[Teacher], assistants: tuple[Architecture, ...]
    ) -> list[Teacher]:
        """List the run's own teachers: assistants do not teach, they are added to the student."""
        return list(roots)

    def make_method(self, recipe: Recipe, n_teachers: int) -> Method:
        """Create the residual loss for links that are added, and the candidate's method for the student."""
        if recipe.method == ResidualError.name:
            return ResidualError(taught=bool(recipe.params["taught"]))
        return super().make_method(recipe, n_teachers)

    def distill(self, distiller: "Distiller", job: TrainingJob, candidate: Candidate) -> TrainedModel:
        """Train the student, then each assistant on what the sum of those before still gets wrong."""
        method = make_method(job.recipe.method)
        roots = distiller.teachers_for(method, self, ())
        first = [] if method.teachers == "none" else distiller.first_teacher()
        links = [distiller.train(job, roots, self)]
        frozen = [distiller.as_teacher(links[0], job.student)]
        for architecture in candidate.assistants:
            recipe = Recipe(ResidualError.name, {"taught": float(bool(first))})
            added = replace(job, student=architecture, recipe=recipe)
            links.append(distiller.train(added, [*frozen, *first], self, added_to=[t.model for t in frozen]))
            frozen.append(distiller.as_teacher(links[-1], architecture))
        return TrainedModel(
            model=sum_networks([link.model for link in links]),
            key=fingerprint([link.key for link in links]),
            val_accuracy=links[-1].val_accuracy,
            val_score=links[-1].val_score,
            seconds=sum(link.seconds for link in links),
            losses=links[-1].losses,
            calibration=links[0].calibration,
            grad_ratios=links[0].grad_ratios,
        )

    def prepare(self, distiller: "Distiller", candidate: Candidate) -> None:
        """Train nothing beforehand: assistants are trained after the student, and for it alone."""

    def deployed(self, candidate: Candidate) -> tuple[Architecture, ...]:
        """List the student and all its assistants."""
        return (candidate.student, *candidate.assistants)

    def reusable_chains(self, candidate: Candidate) -> list[tuple[Architecture, ...]]:
        """List nothing: each assistant depends on the student that it is added to."""
        return []

    def assistant_epochs(self, student_epochs: int, full_epochs: int) -> int:
        """Assistants are trained for as many epochs as the student."""
        return student_epochs

    def without_distillation(self, candidate: Candidate) -> Candidate:
        """Build the control that deploys the same sum, trained on labels alone."""
        return replace(candidate, recipe=Recipe(NO_DISTILLATION, training=candidate.recipe.training))

    def describe(self, assistants: Sequence[str]) -> str:
        """Describe the sum in one line."""
        return f"teacher → {' + '.join(('student', *assistants))}"


PLUGIN = Residual()
