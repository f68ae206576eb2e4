"""Section 1: what to deploy for the budget, or how far from it the closest candidates are."""

from collections.abc import Iterable
from dataclasses import dataclass

from nas_kd.results.records import Costs, FinalistRecord, TeacherRecord, TrialRecord
from nas_kd.report import number_format as numbers
from nas_kd.report.budget import (
    WITHIN,
    Miss,
    budget_words,
    closest_misses,
    extra_used,
    is_limited,
    least_words,
    verdict,
)
from nas_kd.report.report_context import AXES, Axis, Subject, cost


@dataclass(frozen=True)
class Card:
    """One of the four figures: what it is, the figure, what it must be compared with, and the share of the budget."""

    title: str
    figure: str
    interval: str
    beside: str
    used: float | None = None

    @property
    def used_words(self) -> str:
        """`78 % of the budget`."""
        share = (self.used or 0.0) * 100
        return f"{'under 1' if share < 1 else f'{share:.0f}'}{numbers.NBSP}% of the budget"


@dataclass(frozen=True)
class Answer:
    """The first thing a reader sees."""

    banner: str | None
    sentence: str
    cards: tuple[Card, ...] = ()
    file: str | None = None
    sha256: str | None = None
    sha256_name: str = "sha256"
    retarget: str | None = None
    closest: tuple[Miss, ...] = ()
    ties: str | None = None


def answer(subject: Subject, file_sha256: str = "") -> Answer:
    """The winner, or what there is instead. `file_sha256`: of the winner's file as written."""
    banner = _banner(subject)
    if subject.winner is not None:
        return _won(subject, subject.winner, banner, file_sha256)
    run = subject.run
    if run.state == "unreachable" or run.finalists:
        sentence = f"Nothing met the budget of {budget_words(subject)}."
        closest = closest_misses(subject)
        return Answer(banner, sentence, closest=closest, ties=None if closest else run.message)
    return Answer(banner, _so_far(subject), closest=() if _best(subject) else closest_misses(subject))


def _banner(subject: Subject) -> str | None:
    run = subject.run
    done = sum(t.fate not in ("running", "duplicate") for t in run.trials)
    if run.state == "searching":
        return f"Unfinished run: the search is under way ({numbers.count(done, 'candidate')} so far)."
    if run.state == "finalists":
        return f"Unfinished run: finalists are being trained in full ({len(run.finalists)} done so far)."
    return None


def _won(subject: Subject, winner: FinalistRecord, banner: str | None, file_sha256: str) -> Answer:
    run, teacher = subject.run, subject.run.teacher
    budget = f"For {budget_words(subject)}" if is_limited(subject) else "Without a budget"
    budget = f"{budget}, deploy" if run.state == "finished" else f"Best so far, {budget[0].lower()}{budget[1:]}:"
    timing = winner.costs.latency_ms
    speed = f" and {numbers.latency(timing.p50)} a call" if timing else ""
    sentence = (
        f"{budget} {subject.letters[winner.id]} ({winner.id}): {winner.words}. "
        f"{numbers.percent(winner.test.mean, subject.places)} of the test samples right, at "
        f"{numbers.size(winner.costs.size_bytes)}{speed}{_against(subject, winner)}."
    )
    deployed = next((s for s in winner.seeds if s.seed == winner.deployed_seed), None)
    return Answer(
        banner=banner,
        sentence=sentence,
        cards=tuple(_cards(subject, winner, teacher)),
        file=f"{run.run_dir}/winner/student.onnx" if run.state == "finished" else None,
        sha256=file_sha256 or (deployed.sha256 if deployed else None),
        sha256_name="sha256" if file_sha256 else "sha256 without metadata",
        retarget=_retarget(subject),
        ties=_cheaper_ties(subject, winner),
    )


def _against(subject: Subject, winner: FinalistRecord) -> str:
    teacher = subject.run.teacher
    if teacher is None or teacher.test is None:
        return ""
    factors = numbers.listing(f"{text} {word}" for text, word in _factors(winner.costs, teacher.costs))
    difference = winner.test.mean - teacher.test.mean
    points = numbers.points(abs(difference), subject.places).lstrip("+")
    where = "below" if difference < 0 else "above"
    level = f"{points} points {where}" if float(points) else "level with"
    return f": {factors} than the teacher, {level} its {numbers.percent(teacher.test.mean, subject.places)}"


def _factors(ours: Costs, teachers: Costs) -> list[tuple[str, str]]:
    words = {"size": ("smaller", "larger"), "latency": ("faster", "slower")}
    found = []
    for axis in AXES:
        mine, theirs = cost(ours, axis), cost(teachers, axis)
        if mine and theirs:
            better = theirs >= mine
            found.append((numbers.factor(theirs / mine if better else mine / theirs), words[axis][not better]))
    return found


def _cards(subject: Subject, winner: FinalistRecord, teacher: TeacherRecord | None) -> Iterable[Card]:
    test, timing = winner.test, winner.costs.latency_ms
    theirs, least = teacher.test if teacher else None, least_words(subject)
    yield Card(
        "Test accuracy",
        numbers.percent(test.mean, subject.places),
        f"{numbers.interval(test, subject.places)}{numbers.NBSP}% (95{numbers.NBSP}% interval)",
        _listed(
            f"teacher {numbers.accuracy(theirs, subject.places)}" if theirs else "",
            f"{numbers.percent(winner.val.mean, subject.places)} on validation, asked: {least}" if least else "",
        ),
    )
    yield Card(
        "Size of the file",
        numbers.size(winner.costs.size_bytes),
        f"{winner.costs.parameters:,} weights",
        f"teacher {numbers.size(teacher.costs.size_bytes)}" if teacher else "",
        _used(subject, winner, "size"),
    )
    beside = teacher.costs.latency_ms if teacher else None
    device = f" on {subject.run.device.name}" if subject.run.device else ""
    yield Card(
        f"Latency{device}",
        numbers.latency(timing.p50 if timing else None),
        f"{numbers.latency_interval(timing)} (95{numbers.NBSP}% interval)" if timing else "",
        _listed(
            f"p90 {numbers.latency(timing.p90)}" if timing else "",
            f"teacher {numbers.latency(beside.p50)}" if beside else "",
        ),
        _used(subject, winner, "latency"),
    )
    for used in extra_used(subject, winner.costs):
        yield Card(used.title, used.figure, "", used.limit, used.share)
    if teacher is not None:
        size_factor, *rest = _factors(winner.costs, teacher.costs)
        retained = f"{numbers.points(test.mean - theirs.mean, subject.places)} points of accuracy" if theirs else ""
        speed = f"{rest[0][0]} {rest[0][1]}" if rest else ""
        yield Card("Against the teacher", f"{size_factor[0]} {size_factor[1]}", speed, retained)


def _listed(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _used(subject: Subject, winner: FinalistRecord, axis: Axis) -> float | None:
    limit, spent = subject.limit(axis), cost(winner.costs, axis)
    return spent / limit if limit and spent is not None else None


def _retarget(subject: Subject) -> str:
    asked = {"max_latency_ms": 0.5, "max_size_kb": 100.0} | subject.budget.model_dump(exclude_none=True)
    flags = " ".join(f"--{option.replace('_', '-')} {value:.12g}" for option, value in asked.items())
    return f"nas-kd export {subject.run.run_dir} --out student.onnx {flags}"


def _cheaper_ties(subject: Subject, winner: FinalistRecord) -> str | None:
    """Finalists that are smaller or faster than the winner and cannot be told apart from it on accuracy."""
    names = []
    for other in subject.finalists:
        if other.id == winner.id or other.test.high < winner.test.low or verdict(subject, other) != WITHIN:
            continue
        gains = [
            f"{factor} {word}"
            for factor, word in _factors(other.costs, winner.costs)
            if word in ("smaller", "faster") and factor != numbers.factor(1)
        ]
        if gains:
            names.append(f"{subject.letters[other.id]} ({numbers.listing(gains)})")
    if not names:
        return None
    are = "is" if len(names) == 1 else "are"
    interval = "its interval overlaps" if len(names) == 1 else "their intervals overlap"
    return f"On these test samples, {numbers.listing(names)} {are} not distinguishable from the winner: {interval}."


def _best(subject: Subject) -> TrialRecord | None:
    done = [t for t in subject.run.trials if t.val_accuracy is not None and t.within_budget and t.fate != "duplicate"]
    return max(done, key=lambda t: t.val_accuracy or 0.0, default=None)


def _so_far(subject: Subject) -> str:
    best = _best(subject)
    if best is None or not isinstance(best.costs, Costs):
        return f"No candidate within {budget_words(subject)} has been trained yet."
    timing = best.costs.latency_ms
    speed = f", {numbers.latency(timing.p50)} a call" if timing else ""
    after = f" after {numbers.count(best.rungs[-1].epochs, 'epoch')}" if best.rungs else ""
    return (
        f"Best within the budget so far ({budget_words(subject)}): {best.words}, with "
        f"{numbers.percent(best.val_accuracy or 0.0)} on validation{after}, "
        f"{numbers.size(best.costs.size_bytes)}{speed}. Test accuracies come with the finalists."
    )
