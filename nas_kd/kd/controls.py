"""Controls: the same student without distillation, and without assistants, at the same training cost.

Cost is the multiply-adds of training student and assistants, so that it does not depend on the machine's mood. What a
teacher shows is not counted: it is computed once where it fits into the cache.
"""

from dataclasses import dataclass, replace
from typing import Literal

from nas_kd.kd.chain import Chain
from nas_kd.methods.combine import make_method
from nas_kd.results.candidate import Candidate, Recipe


@dataclass(frozen=True)
class Control:
    """How a control is trained. `cost_ratio`: its training cost / its finalist's; below 1 where epochs are capped."""

    kind: Literal["no_distillation", "no_assistants"]
    candidate: Candidate
    epochs: int
    cost_ratio: float


def controls_of(candidate: Candidate, chain: Chain) -> list[Control]:
    """The controls that make sense: none for a finalist that is not distilled, no `no_assistants` without a chain."""
    epochs = chain.context.config.distill.epochs
    cost = training_cost(candidate, chain, epochs)
    if candidate.recipe.method == "none":
        return []
    alone = replace(candidate, assistants=(), policy="sequential")
    # What is deployed as a sum is compared with the same sum, taught by the labels alone.
    plain = replace(candidate if candidate.policy == "residual" else alone, recipe=Recipe("none"))
    controls = [_control("no_distillation", plain, chain, cost)]
    if candidate.assistants:
        controls.append(_control("no_assistants", alone, chain, cost))
    return controls


def _control(
    kind: Literal["no_distillation", "no_assistants"], candidate: Candidate, chain: Chain, cost: float
) -> Control:
    config = chain.context.config
    one_epoch = training_cost(candidate, chain, 1)
    longest = round(config.finalists.max_control_epochs * config.distill.epochs)
    epochs = max(config.distill.epochs, min(longest, round(cost / one_epoch)))
    return Control(kind, candidate, epochs, one_epoch * epochs / cost)


def training_cost(candidate: Candidate, chain: Chain, epochs: int) -> float:
    """Multiply-adds of forward passes per training sample: `epochs` of the student and of what is trained beside it.

    Assistants and earlier generations are trained for a full schedule; those that are deployed, for the student's.
    Backward passes cost every network the same two forwards more, and cancel in ratios.
    """
    builder, full = chain.builder, chain.context.config.distill.epochs
    method = make_method(candidate.recipe.method)
    student = builder.macs(candidate.student) * (method.train_cost_factor * epochs + method.generations * full)
    assistants = sum(map(builder.macs, candidate.assistants)) * (epochs if candidate.policy == "residual" else full)
    return float(student + assistants)
