"""Densely guided distillation (Son et al. 2021, arXiv:2009.08825), eq. 6-7: learning from all links of a chain at once.

L = ce_weight CE + mean over the kept links of the method's terms with that link as the teacher; in each step every link
is dropped with probability 0.25 (the paper's survival probability of 0.75), one at least is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.combine import Combined, method_class

DROP = 0.25


class Dense(Method):
    """One copy of a method for each teacher."""

    source = "Son 2021, arXiv:2009.08825"
    summary = "a method applied to every link of the chain, some dropped at random a step"
    teachers = "several"

    def __init__(self, copies: Sequence[Method]) -> None:
        """`copies`: one for each teacher, all alike."""
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

    def attach(self, context: MethodContext) -> None:
        """Attach each copy to its own teacher."""
        pairs = zip(context.teachers, context.teacher_outputs, strict=True)
        for copy, (teacher, outputs) in zip(self._copies, pairs, strict=True):
            copy.attach(replace(context, teachers=(teacher,), teacher_outputs=(outputs,)))

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """The method's terms, each the mean over the teachers that are kept in this step."""
        kept = torch.rand(len(self._copies)) >= DROP
        if not kept.any():
            kept[torch.randint(len(kept), ())] = True
        pairs = zip(self._copies, teachers, kept.tolist(), strict=True)
        shown = [copy(student, [teacher], batch) for copy, teacher, keep in pairs if keep]
        return {name: torch.stack([terms[name] for terms in shown]).mean() for name in shown[0]}

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """The method's own."""
        return self._copies[0].order(labels, generator)

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Those of all copies."""
        return {f"{i}.{name}": o for i, copy in enumerate(self._copies) for name, o in copy.optimizers().items()}


def make_dense(name: str, temperature: float | None, strength: float, teachers: int) -> Method:
    """The method called `name` (`a+b` sums) for so many teachers at once.

    Raises:
        InputError: a name is unknown.
    """

    def part(method: type[Method]) -> Method:
        copies = [method(temperature, strength) for _ in range(teachers)]
        return Dense(copies) if method.teachers == "one" else copies[0]

    parts = [part(method_class(n)) for n in name.split("+")]
    return parts[0] if len(parts) == 1 else Combined(parts)
