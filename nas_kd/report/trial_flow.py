"""What became of the candidates: from all proposals through the rungs to the finalists."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nas_kd.report import number_format as fmt
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import TrialRecord, TrialStatus, without_duplicates

# Status of candidates that did not finish the search -> name of the step and note.
LOSSES: dict[TrialStatus, tuple[str, str]] = {
    "infeasible": ("Infeasible", "over the budget when measured in full"),
    "failed": ("Failed", ""),
    "pruned": ("Pruned", "others did better"),
    "paused": ("Paused", "may still be trained further"),
    "running": ("Running", "when the record was read"),
}
NEVER_BEGUN = ("Not trained", "the time was over")  # pruned before the first rung


@dataclass(frozen=True)
class FlowStep:
    """One row of the flow: the candidates left at a step, or lost before the next.

    `start` and `width` place its bar, in percent of all proposals.
    """

    name: str
    count: int
    start: float
    width: float
    is_loss: bool
    note: str = ""


def rung_names(trials: Sequence[TrialRecord]) -> dict[int, str]:
    """Name every rung that was reached, by its epochs in rising order: `rung 2 (12 epochs)`."""
    epochs = sorted({r.epochs for t in trials for r in t.rungs})
    return {e: f"rung {n} ({fmt.count(e, 'epoch')})" for n, e in enumerate(epochs, start=1)}


def build_trial_flow(run: RunRecord) -> tuple[FlowStep, ...]:
    """List the steps from all proposals to the finalists; the bar of a loss ends where that of the step before ends."""
    total = left = len(run.trials)
    if not total:
        return ()
    steps = [FlowStep("Proposed", total, 0.0, 100.0, is_loss=False)]
    for step in _losses_and_rungs(run):
        if not step.is_loss:
            steps.append(replace(step, count=left, width=left / total * 100))
        elif step.count:
            left -= step.count
            steps.append(replace(step, start=left / total * 100, width=step.count / total * 100))
    return (*steps, *_last_steps(run))


def _losses_and_rungs(run: RunRecord) -> list[FlowStep]:
    """Losses, and the rungs between them, in order; bars and the counts at the rungs are still to be filled in."""
    trials, names = without_duplicates(run.trials), list(rung_names(run.trials).values())
    infeasible = sum(t.status == "infeasible" and not t.rungs for t in trials)
    skipped = run.prefilter.skipped if run.prefilter else 0
    steps = [
        _loss("Duplicates", len(run.trials) - len(trials), "proposed before, not trained again"),
        _loss("Infeasible at the gate", infeasible - skipped, "over the budget, before any training"),
        _loss("Infeasible, not measured", skipped, "predicted to be above the latency limit"),
    ]
    for level in range(len(names) + 1):
        here = [t for t in trials if len(t.rungs) == level and (level or t.status != "infeasible")]
        losses = _losses_at(here, level)
        # The last rung is shown as "Finished", unless candidates were lost at it.
        if level and (level < len(names) or any(loss.count for loss in losses)):
            steps.append(FlowStep(f"Reached {names[level - 1]}", 0, 0.0, 0.0, is_loss=False))
        steps += losses
    return steps


def _loss(name: str, count: int, note: str) -> FlowStep:
    return FlowStep(name, count, 0.0, 0.0, is_loss=True, note=note)


def _losses_at(here: Sequence[TrialRecord], level: int) -> list[FlowStep]:
    """Losses among the candidates whose last rung so far is `level`, by status."""
    losses = []
    for status, usual in LOSSES.items():
        name, note = NEVER_BEGUN if status == "pruned" and not level else usual
        trials = [t for t in here if t.status == status]
        preposition = "after" if status in ("failed", "running") else "at"
        full_name = f"{name} {preposition} rung {level}" if level else name
        losses.append(_loss(full_name, len(trials), _failure_reasons(trials) if status == "failed" else note))
    return losses


def _last_steps(run: RunRecord) -> list[FlowStep]:
    total, finalists = len(run.trials), len(run.finalists)
    finished = [t for t in run.trials if t.status == "finished"]
    epochs = max((t.rungs[-1].epochs for t in finished if t.rungs), default=0)
    note = f"trained for {fmt.count(epochs, 'epoch')}" if epochs else ""
    steps = [FlowStep("Finished", len(finished), 0.0, len(finished) / total * 100, is_loss=False, note=note)]
    if finalists or run.state in ("finished", "finalists"):
        note = "trained again on the full schedule, over several seeds"
        steps.append(FlowStep("Finalists", finalists, 0.0, finalists / total * 100, is_loss=False, note=note))
    return steps


def _failure_reasons(failed: Sequence[TrialRecord], most: int = 2) -> str:
    common = Counter(t.reason or "no reason given" for t in failed).most_common(most)
    return "; ".join(f"{reason[:120]} ({number})" for reason, number in common)
