"""Controls: the same student without distillation, and without assistants, at the same training cost.

Cost is counted in multiply-adds, so that it does not depend on the machine's mood: a training step of a network costs
three forward passes, a live teacher one, cached logits nothing.
"""

from dataclasses import dataclass, replace
from typing import Literal

from nas_kd.candidate import Candidate, Recipe
from nas_kd.engine.teachers import can_use_cache
from nas_kd.methods.combine import make_method
from nas_kd.pipeline.chain import Chain

FORWARDS_PER_STEP = 3


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
    plain = replace(candidate, assistants=(), recipe=Recipe("none"))
    controls = [_control("no_distillation", plain, chain, cost)]
    if candidate.assistants:
        controls.append(_control("no_assistants", replace(candidate, assistants=()), chain, cost))
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
    """Multiply-adds per training sample: `epochs` of the student, and the assistants' full schedules."""
    config, builder = chain.context.config, chain.builder
    student = FORWARDS_PER_STEP * builder.macs(candidate.student)
    method = make_method(candidate.recipe.method)
    if method.needs and not can_use_cache(tuple(method.needs)):
        teacher = chain.last_teacher(candidate.assistants)
        student += teacher.macs if teacher is not None else 0
    assistants = sum(FORWARDS_PER_STEP * builder.macs(a) for a in candidate.assistants)
    return float(student * epochs + assistants * config.distill.epochs)
