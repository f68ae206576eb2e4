"""Controls: the same student without distillation, with smoothed labels, and without assistants, at the same cost.

Cost is the multiply-adds of training student and assistants, so that it does not depend on the machine's mood. What a
teacher shows is not counted: it is computed once where it fits into the cache.
"""

from dataclasses import dataclass, replace

from nas_kd.config.options import FinalistOptions
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.training_work import CountsWork
from nas_kd.methods.combine import make_method
from nas_kd.results.candidate import LABEL_SMOOTHING, Candidate
from nas_kd.results.finalist_record import ControlKind


@dataclass(frozen=True)
class Control:
    """How a control is trained. `cost_ratio`: its training cost / its finalist's; below 1 where epochs are capped."""

    kind: ControlKind
    candidate: Candidate
    epochs: int
    cost_ratio: float


def controls_of(
    candidate: Candidate, builder: NetworkBuilder, full_epochs: int, options: FinalistOptions
) -> list[Control]:
    """List the controls that are asked for and make sense for a finalist.

    One that is not distilled has none, and only one with a chain has `no_assistants`. Where assistants are deployed
    with the student, `label_smoothing` smooths the student's labels; they learn the error that is left, as without it.

    Args:
        candidate: the finalist.
        builder: counts multiply-adds.
        full_epochs: of the finalist's schedule.
        options: of the config's section `finalists`.
    """
    if not (options.controls and candidate.recipe.distills):
        return []
    plain = load_policy(candidate.policy).without_distillation(candidate)
    wanted: list[tuple[ControlKind, Candidate]] = [("no_distillation", plain)]
    if options.controls == "all":
        smoothed = replace(plain, recipe=replace(plain.recipe, method=LABEL_SMOOTHING))
        wanted.append(("label_smoothing", smoothed))
    if candidate.assistants:
        wanted.append(("no_assistants", candidate.direct()))
    cost = training_cost(candidate, builder, full_epochs, full_epochs)
    controls = []
    for kind, control in wanted:
        one_epoch = training_cost(control, builder, 1, full_epochs)
        longest = round(options.max_control_epochs * full_epochs)
        epochs = max(full_epochs, min(longest, round(cost / one_epoch)))
        controls.append(Control(kind, control, epochs, one_epoch * epochs / cost))
    return controls


def training_cost(candidate: Candidate, builder: CountsWork, epochs: int, full_epochs: int) -> float:
    """Multiply-adds of forward passes per training sample, for the student and for what is trained beside it.

    Backward passes cost every network the same two forwards more, and cancel in ratios.

    Args:
        candidate: student, chain and method.
        builder: counts multiply-adds.
        epochs: for which the student is trained.
        full_epochs: for which shared assistants and earlier generations are trained.
    """
    method, policy = make_method(candidate.recipe.method), load_policy(candidate.policy)
    student = builder.macs(candidate.student) * (method.train_cost_factor * epochs + method.generations * full_epochs)
    assistants = sum(map(builder.macs, candidate.assistants)) * policy.assistant_epochs(epochs, full_epochs)
    return float(student + assistants)
