"""Plans how many finalists, seeds and controls a run trains: what its config asks for, within a share of its training.

A plan follows from the records and from counted costs (`training_costs.py`), never from the clock: a run that was
killed and is resumed plans the same. Under `search.max_minutes` costs are the seconds that the records state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nas_kd.commands.training_costs import student_cost
from nas_kd.config.options import FinalistOptions
from nas_kd.kd.controls import controls_of
from nas_kd.kd.training_work import TrainingWork
from nas_kd.results.candidate import Candidate
from nas_kd.results.finalist_record import FinalistPlan

LEAST_FINALISTS, LEAST_SEEDS = 2, 2  # that are kept before the next thing is reduced; in the end one finalist


@dataclass(frozen=True)
class FinalistCost:
    """What it costs to train one finalist and its controls from one seed: in multiply-adds per training sample, or s.

    Attributes:
        own: of the finalist; assistants that the search has trained are not trained again.
        controls: (of one epoch, epochs wanted) of each control.
    """

    own: float
    controls: tuple[tuple[float, int], ...]

    @staticmethod
    def of(candidate: Candidate, options: FinalistOptions, work: TrainingWork, full_epochs: int) -> "FinalistCost":
        """Count a candidate's.

        Args:
            candidate: the finalist.
            options: of the config's section `finalists`.
            work: counts it.
            full_epochs: of a finalist's schedule.
        """
        controls = controls_of(candidate, work.builder, full_epochs, options)
        return FinalistCost(
            student_cost(candidate, work, full_epochs, full_epochs),
            tuple((student_cost(c.candidate, work, 1, full_epochs), c.epochs) for c in controls),
        )

    def timed(self, seconds: float) -> "FinalistCost":
        """The same in seconds; `seconds`: of one finalist's training, from one seed."""
        rate = seconds / self.own if self.own else 0.0
        return FinalistCost(self.own * rate, tuple((cost * rate, epochs) for cost, epochs in self.controls))

    def of_controls(self, longest: int) -> float:
        """Count its controls, none trained for more than `longest` epochs."""
        return sum(one_epoch * min(longest, epochs) for one_epoch, epochs in self.controls)


def plan_finalists(
    finalists: Sequence[FinalistCost], cost_before: float, options: FinalistOptions, full_epochs: int
) -> FinalistPlan:
    """Plan the trainings of finalists and their controls, within the share that the config allows.

    What is asked for is reduced until it fits. The least plan (one finalist with its controls, two seeds) is kept even
    if it takes more.

    Args:
        finalists: what each costs, in the order in which they were chosen.
        cost_before: of all training before, in the same unit; of a run with a time limit, that.
        options: of the config's section `finalists`.
        full_epochs: of a finalist's schedule.
    """

    def share(plan: FinalistPlan) -> float:
        own = sum(f.own for f in finalists[: plan.finalists])
        controls = sum(f.of_controls(plan.control_epochs) for f in finalists[: plan.controlled])
        cost = plan.seeds * (own + controls)
        return cost / ((cost_before + cost) or 1.0)

    longest = max((epochs for f in finalists for _, epochs in f.controls), default=0)
    plan = wanted = FinalistPlan(
        finalists=len(finalists),
        seeds=options.seeds,
        controlled=len(finalists) if longest else 0,
        control_epochs=max(longest, full_epochs),
        max_share=options.max_share,
    )
    for plan in reductions(wanted, full_epochs):
        if share(plan) <= options.max_share:
            break
    return plan.model_copy(update={"share": share(plan), "reductions": _describe_reductions(plan, wanted)})


def reductions(plan: FinalistPlan, full_epochs: int) -> Iterator[FinalistPlan]:
    """Yield ever smaller plans, from this one on: what is missed least is given up first.

    Controls' epochs come down to a finalist's, then the number of finalists to two, then only the first finalist has
    controls, then seeds come down to two, which an interval needs, then finalists to one.
    """

    def reduced(**changes: int) -> FinalistPlan:
        nonlocal plan
        changes["controlled"] = min(
            changes.get("controlled", plan.controlled), changes.get("finalists", plan.finalists)
        )
        plan = plan.model_copy(update=changes)
        return plan

    yield plan
    for epochs in range(plan.control_epochs - 1, full_epochs - 1, -1) if plan.controlled else ():
        yield reduced(control_epochs=epochs)
    for finalists in range(plan.finalists - 1, LEAST_FINALISTS - 1, -1):
        yield reduced(finalists=finalists)
    if plan.controlled > 1:
        yield reduced(controlled=1)
    for seeds in range(plan.seeds - 1, LEAST_SEEDS - 1, -1):
        yield reduced(seeds=seeds)
    if plan.finalists > 1:
        yield reduced(finalists=1)


def _describe_reductions(plan: FinalistPlan, wanted: FinalistPlan) -> tuple[str, ...]:
    less = []
    if plan.finalists < wanted.finalists:
        less.append(f"{plan.finalists} of {wanted.finalists} finalists")
    if plan.seeds < wanted.seeds:
        less.append(f"{plan.seeds} of {wanted.seeds} seeds")
    if plan.controlled < min(plan.finalists, wanted.controlled):
        less.append("controls of the first finalist alone")
    if plan.control_epochs < wanted.control_epochs:
        less.append(f"at most {plan.control_epochs} instead of {wanted.control_epochs} epochs for a control")
    return tuple(less)


def describe_plan(plan: FinalistPlan) -> str:
    """Describe what a plan leaves out, why, and how to have it all; empty if it leaves out nothing."""
    if not plan.reductions:
        return ""
    kept = f"finalists and controls take {plan.share:.0%} of the run's training"
    if plan.share > plan.max_share:
        kept += f", more than finalists.max_share = {plan.max_share:.3g} even so"
    else:
        kept += f", at most finalists.max_share = {plan.max_share:.3g}"
    return f"{kept}: {', '.join(plan.reductions)}; finalists.max_share = 1 trains all"
