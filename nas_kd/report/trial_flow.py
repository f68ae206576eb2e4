"""What became of the candidates: from all proposals through the rungs down to the finalists."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nas_kd.report import number_format as numbers
from nas_kd.results.records import RunRecord, TrialRecord

# What can become of a candidate on its way, in words, and what is said about it.
ON_THE_WAY = {
    "infeasible": ("Rejected", "over the budget when measured thoroughly"),
    "failed": ("Failed", ""),
    "pruned": ("Stopped", "others did better"),
    "paused": ("Waiting", "may be trained on yet"),
    "running": ("Still running", "when the record was read"),
}


@dataclass(frozen=True)
class Step:
    """One row of the flow: how many candidates, and the part of all proposals they are, as a bar (percent)."""

    name: str
    number: int
    start: float
    width: float
    stays: bool
    note: str = ""


def own_trials(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Without duplicates, which repeat another's results."""
    return [t for t in trials if t.status != "duplicate"]


def rung_names(trials: Sequence[TrialRecord]) -> dict[int, str]:
    """Epochs of every rung that was reached, rising -> `rung 2 (12 epochs)`."""
    epochs = sorted({r.epochs for t in trials for r in t.rungs})
    return {e: f"rung {n} ({numbers.count(e, 'epoch')})" for n, e in enumerate(epochs, start=1)}


def flow(run: RunRecord) -> tuple[Step, ...]:
    """From all proposals down to the finalists; a loss is drawn where it falls off the right end."""
    total = left = len(run.trials)
    if not total:
        return ()
    steps = [Step("Proposed", total, 0.0, 100.0, True)]
    for change in _changes(run):
        if change.stays:
            steps.append(replace(change, number=left, width=left / total * 100))
        elif change.number:
            left -= change.number
            steps.append(replace(change, start=left / total * 100, width=change.number / total * 100))
    return (*steps, *_end(run))


def _changes(run: RunRecord) -> list[Step]:
    """Losses, and the rungs between them, in order; bars and the numbers at the rungs are still to be worked out."""
    own, names = own_trials(run.trials), list(rung_names(run.trials).values())
    duplicates, rejected = len(run.trials) - len(own), sum(t.status == "infeasible" and not t.rungs for t in own)
    skipped = run.prefilter.skipped if run.prefilter else 0
    changes = [
        _loss("Duplicates", duplicates, "known already: not trained again"),
        _loss("Rejected at the gate", rejected - skipped, "over the budget, before any training"),
        _loss("Rejected unmeasured", skipped, "expected far above the latency limit"),
    ]
    for level in range(len(names) + 1):
        lost = _lost([t for t in own if len(t.rungs) == level and (level or t.status != "infeasible")], level)
        # The last rung is the end of the search, which is told of below.
        if level and (level < len(names) or any(change.number for change in lost)):
            changes.append(Step(f"Reached {names[level - 1]}", 0, 0.0, 0.0, True))
        changes += lost
    return changes


def _loss(name: str, number: int, note: str) -> Step:
    return Step(name, number, 0.0, 0.0, False, note)


def _lost(here: Sequence[TrialRecord], level: int) -> list[Step]:
    """Those that came as far as this and, so far, no further."""
    losses = []
    for status, (name, note) in ON_THE_WAY.items():
        them = [t for t in here if t.status == status]
        said = f"{name} {'after' if status in ('failed', 'running') else 'at'} rung {level}" if level else name
        losses.append(_loss(said, len(them), _reasons(them) if status == "failed" else note))
    return losses


def _end(run: RunRecord) -> list[Step]:
    total, final = len(run.trials), len(run.finalists)
    finished = sum(t.status == "finished" for t in run.trials)
    epochs = max((t.rungs[-1].epochs for t in run.trials if t.status == "finished" and t.rungs), default=0)
    note = numbers.count(epochs, "epoch") if epochs else ""
    steps = [Step("Trained to the end of the search", finished, 0.0, finished / total * 100, True, note)]
    if final or run.state in ("finished", "finalists"):
        note = "trained again in full, over several seeds"
        steps.append(Step("Finalists", final, 0.0, final / total * 100, True, note))
    return steps


def _reasons(failed: Sequence[TrialRecord], most: int = 2) -> str:
    common = Counter(t.reason or "no reason given" for t in failed).most_common(most)
    return "; ".join(f"{reason[:120]} ({number})" for reason, number in common)
