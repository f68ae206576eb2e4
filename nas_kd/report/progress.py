"""Section 5: how the search went - hypervolume, what became of the candidates, and where the time went."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_kd.front import hypervolume_history
from nas_kd.record import RunRecord, TrialRecord
from nas_kd.report import numbers
from nas_kd.report.axes import Scale, linear_scale
from nas_kd.report.importances import importances
from nas_kd.report.subject import Subject
from nas_kd.statistics import kendall_tau

MOST_POINTS = 400  # of a curve; a long search is thinned to those where it rises
MOST_CHOICES = 12
PARTS = {
    "data": "loading the data",
    "teacher": "training the teacher",
    "propose": "proposing",
    "gate": "gate: export, size, latency",
    "assistants": "training assistants",
    "students": "distilling candidates",
    "distil": "distilling candidates",
    "finalists": "finalists and controls",
}


@dataclass(frozen=True)
class Curve:
    """Hypervolume against one kind of time."""

    title: str
    x_title: str
    x: Scale
    y: Scale
    points: tuple[tuple[float, float], ...]
    alternative: str


@dataclass(frozen=True)
class Step:
    """One row of the flow: how many candidates, and the part of all proposals they are, as a bar (percent)."""

    name: str
    number: int
    start: float
    width: float
    stays: bool
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """A named share of a whole, in percent."""

    name: str
    share: float
    text: str


@dataclass(frozen=True)
class Progress:
    """All of section 5."""

    curves: tuple[Curve, ...]
    flow: tuple[Step, ...]
    time: tuple[Bar, ...]
    choices: tuple[Bar, ...]
    choices_note: str
    remarks: tuple[str, ...]


def progress(subject: Subject) -> Progress:
    """What the search did, as far as it got."""
    run = subject.run
    judged = _same_epochs(run.trials)
    shares = importances([_choices(t) for t in judged], [t.val_accuracy or 0.0 for t in judged])
    epochs = judged[0].rungs[-1].epochs if judged and judged[0].rungs else None
    after = f" after {numbers.count(epochs, 'epoch')}" if epochs else ""
    return Progress(
        curves=_curves(run),
        flow=_flow(run),
        time=_time(run.seconds),
        choices=tuple(Bar(n, s * 100, f"{s * 100:.0f}{numbers.NBSP}%") for n, s in list(shares.items())[:MOST_CHOICES]),
        choices_note=f"validation accuracy{after} of {numbers.count(len(judged), 'candidate')}",
        remarks=(*_rung_remarks(run.trials), *_final_remark(run), *_chain_remark(run.trials)),
    )


def _curves(run: RunRecord) -> tuple[Curve, ...]:
    history = list(hypervolume_history(run))
    if len(history) < 2 or not any(volume for *_, volume in history):
        return ()
    names = ("wall-clock time", "training time")
    return tuple(_curve([(row[n], row[2]) for row in history], names[n]) for n in (0, 1))


def _curve(points: Sequence[tuple[float, float]], name: str) -> Curve:
    rising = [p for n, p in enumerate(points) if n in (0, len(points) - 1) or p[1] != points[n - 1][1]]
    thin = rising[:: max(1, -(-len(rising) // MOST_POINTS))]
    shown = (*thin, rising[-1]) if thin[-1] != rising[-1] else tuple(thin)
    (first, start), (last, end) = shown[0], shown[-1]
    between = f"between {numbers.duration(first)} and {numbers.duration(last)}"
    alternative = f"Hypervolume rose from {start:.3f} to {end:.3f} {between}."
    return Curve(
        title=f"Hypervolume against {name}",
        x_title=name,
        x=linear_scale([0.0, last], "duration", floor=0.0),
        y=linear_scale([v for _, v in shown], "number"),
        points=tuple(shown),
        alternative=alternative,
    )


def _flow(run: RunRecord) -> tuple[Step, ...]:
    """From all proposals down to the finalists; a loss is drawn where it falls off the right end."""
    fates: Counter[str] = Counter(t.fate for t in run.trials)
    total = len(run.trials)
    if not total:
        return ()
    steps, left = [Step("Proposed", total, 0.0, 100.0, True)], total
    losses = [("duplicate", "Duplicates", "known already: not trained again")]
    losses += [("rejected", "Rejected at the gate", "over the budget, before any training")]
    for fate, name, note in losses:
        steps += _loss(name, fates[fate], left, total, note)
        left -= fates[fate]
    steps += _loss("Failed", fates["failed"], left, total, _reasons(run.trials))
    left -= fates["failed"]
    for epochs, number in sorted(Counter(_reached(t) for t in run.trials if t.fate == "stopped").items()):
        steps += _loss(f"Stopped after {numbers.count(epochs, 'epoch')}", number, left, total, "the rest did better")
        left -= number
    steps += _loss("Still running", fates["running"], left, total, "when the record was read")
    steps.append(
        Step("Trained to the end of the search", fates["finished"], 0.0, fates["finished"] / total * 100, True)
    )
    final = len(run.finalists)
    if final or run.state in ("finished", "finalists"):
        steps.append(
            Step("Finalists", final, 0.0, final / total * 100, True, "trained again in full, over several seeds")
        )
    return tuple(steps)


def _loss(name: str, number: int, left: int, total: int, note: str) -> list[Step]:
    return [Step(name, number, (left - number) / total * 100, number / total * 100, False, note)] if number else []


def _reached(trial: TrialRecord) -> int:
    return trial.rungs[-1].epochs if trial.rungs else 0


def _reasons(trials: Sequence[TrialRecord], most: int = 2) -> str:
    common = Counter(t.reason or "no reason given" for t in trials if t.fate == "failed").most_common(most)
    return "; ".join(f"{reason[:120]} ({number})" for reason, number in common)


def _time(seconds: Mapping[str, float]) -> tuple[Bar, ...]:
    whole = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda pair: -pair[1])
    return (
        tuple(Bar(PARTS.get(n, n), s / whole * 100, numbers.duration(s)) for n, s in ordered if s > 0)
        if whole > 0
        else ()
    )


def _same_epochs(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials judged after the commonest number of epochs (of equals, the most epochs): these can be compared."""
    judged = [t for t in trials if t.val_accuracy is not None and t.fate != "duplicate"]
    if not judged:
        return []
    common = max(Counter(_reached(t) for t in judged).items(), key=lambda pair: (pair[1], pair[0]))[0]
    return [t for t in judged if _reached(t) == common]


def _choices(trial: TrialRecord) -> dict[str, str | float]:
    """Every choice of the candidate under its name; the chain counts as one."""
    candidate = trial.candidate
    student = {f"student: {k}": v for k, v in candidate["student"].items() if k != "space"}
    params = {f"method: {k}": v for k, v in candidate["params"].items()}
    chain = {"chain: assistants": len(candidate["assistants"])}
    return {**student, **params, **chain, "method": candidate["method"], "precision": candidate["precision"]}


def _rung_remarks(trials: Sequence[TrialRecord]) -> list[str]:
    """Does an early judgement predict a later one?"""
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for trial in trials:
        if trial.fate != "duplicate":
            for before, after in zip(trial.rungs, trial.rungs[1:], strict=False):
                pair = (before.val_accuracy, after.val_accuracy)
                found.setdefault((before.epochs, after.epochs), []).append(pair)
    return [
        f"Rank correlation (Kendall's tau) of validation accuracy after {early} and after {late} epochs: "
        f"{tau:.2f}, over the {len(pairs)} candidates that were not stopped between."
        for (early, late), pairs in sorted(found.items())
        if len(pairs) >= 8 and (tau := kendall_tau(*zip(*pairs, strict=True))) is not None
    ]


def _final_remark(run: RunRecord) -> list[str]:
    """Did the search's short training rank the finalists as the full one does?"""
    early = {t.number: t.val_accuracy for t in run.trials}
    pairs = [(before, f.val.mean) for f in run.finalists if (before := early.get(f.trial)) is not None]
    if len(pairs) < 4:
        return []
    tau = kendall_tau(*zip(*pairs, strict=True))
    if tau is None:
        return []
    return [
        f"Rank correlation (Kendall's tau) of the finalists' validation accuracy in the search and after full "
        f"training: {tau:.2f}, over {len(pairs)} finalists (the best, so close to each other: expect a low figure)."
    ]


def _chain_remark(trials: Sequence[TrialRecord]) -> list[str]:
    """How many trainings of assistants the store saved."""
    links = [
        str(t.candidate["assistants"][: n + 1])
        for t in trials
        if t.rungs and t.fate != "duplicate"
        for n in range(len(t.candidate["assistants"]))
    ]
    distinct = len(set(links))
    if len(links) == distinct:
        return []
    return [
        f"Assistants were used {len(links):,} times and are {distinct:,} different trainings: "
        f"the other {len(links) - distinct:,} came from the store."
    ]
