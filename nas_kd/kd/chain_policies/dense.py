"""Densely guided distillation (Son et al. 2021, DGKD, arXiv:2009.08825), eq. 6-7: each link learns from all before it.

L = ce_weight CE + mean over the kept links of the method's terms with that link as the teacher; in each step every link
is dropped with probability 0.25 (the paper's survival probability of 0.75), and at least one is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.chain_policies.base import ChainPolicy
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.combine import Combined, make_method, method_class
from nas_kd.results.candidate import Architecture, Recipe

if TYPE_CHECKING:
    from nas_kd.kd.distiller import Distiller

DROP = 0.25


class DenselyGuided(Method):
    """Applies one copy of a method to each teacher, and drops some of them at random in every step."""

    source = "Son 2021, arXiv:2009.08825"
    summary = "a method applied to every link of the chain, some dropped at random a step"
    teachers = "several"

    def __init__(self, copies: Sequence[Method]) -> None:
        """Sum these copies.

        Args:
            copies: instances of one method with the same parameters, one for each teacher.
        """
        first = copies[0]
        super().__init__(first.temperature, first.strength)
        self.name = first.name  # type: ignore[misc]
        self.copies = nn.ModuleList(copies)
        self._copies = tuple(copies)
        self.needs, self.tunable, self.unscaled_terms = first.needs, first.tunable, first.unscaled_terms
        self.ce_weight, self.target_grad_ratio, self.train_cost_factor = (
            first.ce_weight,
            first.target_grad_ratio,
            first.train_cost_factor,
        )
        self.clipped, self.version = first.clipped, first.version
        self.standardizes, self.by_stage = first.standardizes, first.by_stage

    def attach(self, context: MethodContext) -> None:
        """Attach each copy to its own teacher."""
        pairs = zip(context.teachers, context.teacher_outputs, strict=True)
        for copy, (teacher, outputs) in zip(self._copies, pairs, strict=True):
            copy.attach(replace(context, teachers=(teacher,), teacher_outputs=(outputs,)))

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Average each of the method's terms over the teachers that are kept in this step."""
        kept = torch.rand(len(self._copies)) >= DROP
        if not kept.any():
            kept[torch.randint(len(kept), ())] = True
        pairs = zip(self._copies, teachers, kept.tolist(), strict=True)
        shown = [copy(student, [teacher], batch) for copy, teacher, keep in pairs if keep]
        return {name: torch.stack([terms[name] for terms in shown]).mean() for name in shown[0]}

    @property
    def has_own_order(self) -> bool:
        """Whether the method orders samples."""
        return self._copies[0].has_own_order

    @property
    def has_own_optimizers(self) -> bool:
        """Whether the method has optimisers."""
        return self._copies[0].has_own_optimizers

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """Order the samples as the method does."""
        return self._copies[0].order(labels, generator)

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Collect the optimisers of all copies."""
        return {f"{i}.{name}": o for i, copy in enumerate(self._copies) for name, o in copy.optimizers().items()}


def make_dense(name: str, temperature: float | None, strength: float, teachers: int) -> Method:
    """Create the method called `name` (`a+b` sums) for several teachers at once.

    Args:
        name: a method or a sum; parts that take several teachers by themselves are used as they are.
        temperature: of the softened outputs; None: each method's default.
        strength: factor of the method's terms.
        teachers: number of teachers.

    Raises:
        InputError: a name is unknown.
    """

    def part(method: type[Method]) -> Method:
        copies = [method(temperature, strength) for _ in range(teachers)]
        return DenselyGuided(copies) if method.teachers == "one" else copies[0]

    parts = [part(method_class(n)) for n in name.split("+")]
    return parts[0] if len(parts) == 1 else Combined(parts)


class Dense(ChainPolicy):
    """Teacher, first assistant, second assistant, ... all teach the student, and every assistant behind them."""

    name = "dense"
    source = "Son 2021, arXiv:2009.08825"
    summary = "each link learns from all before it, some dropped at random in every step"

    def usable_assistants(
        self,
        proposed: Sequence[Architecture],
        student: Architecture,
        method: Method,
        n_weights: Callable[[Architecture], int],
    ) -> tuple[Architecture, ...]:
        """Select assistants larger than the student, also for methods that take several teachers by themselves."""
        if not (method.chainable or method.teachers == "several"):
            return ()
        return tuple(a for a in proposed if n_weights(a) > n_weights(student))

    def teachers(
        self, distiller: "Distiller", roots: Sequence[Teacher], assistants: tuple[Architecture, ...]
    ) -> list[Teacher]:
        """List the run's own teachers, then every assistant of the chain."""
        return [*roots, *(distiller.assistant(self, assistants[: n + 1]) for n in range(len(assistants)))]

    def make_method(self, recipe: Recipe, n_teachers: int) -> Method:
        """Create the method, copied for each teacher where it takes only one."""
        temperature, strength = recipe.params.get("temperature"), recipe.params.get("strength", 1.0)
        method = make_method(recipe.method, temperature, strength)
        if method.teachers == "one" and n_teachers > 1:
            return make_dense(recipe.method, temperature, strength, n_teachers)
        return method

    def describe(self, assistants: Sequence[str]) -> str:
        """Describe the chain in one line, and that every link teaches all behind it."""
        return f"{super().describe(assistants)} (dense)"


PLUGIN = Dense()
