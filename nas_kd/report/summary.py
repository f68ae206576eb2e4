"""Section 1: what to deploy for the budget, or how far from it the closest candidates are."""

from collections.abc import Iterable
from dataclasses import dataclass

from nas_kd.report import number_format as numbers
from nas_kd.report.budget import (
    WITHIN,
    BudgetMiss,
    budget_words,
    closest_misses,
    extra_used,
    is_limited,
    least_words,
    verdict,
)
from nas_kd.report.report_context import AXES, Axis, ReportContext, cost
from nas_kd.results.records import Costs, FinalistRecord, TeacherRecord, TrialRecord


@dataclass(frozen=True)
class Card:
    """One of the four figures: what it is, the figure, what it must be compared with, and the share of the budget."""

    title: str
    figure: str
    interval: str
    beside: str
    used: float | None = None

    @property
    def used_description(self) -> str:
        """`78 % of the budget`."""
        share = (self.used or 0.0) * 100
        return f"{'under 1' if share < 1 else f'{share:.0f}'}{numbers.NBSP}% of the budget"


@dataclass(frozen=True)
class Summary:
    """The first thing a reader sees."""

    banner: str | None
    sentence: str
    cards: tuple[Card, ...] = ()
    file: str | None = None
    sha256: str | None = None
    sha256_name: str = "sha256"
    retarget: str | None = None
    closest: tuple[BudgetMiss, ...] = ()
    ties: str | None = None


def summary(context: ReportContext, file_sha256: str = "") -> Summary:
    """The winner, or what there is instead. `file_sha256`: of the winner's file as written."""
    banner = _banner(context)
    if context.winner is not None:
        return _won(context, context.winner, banner, file_sha256)
    run = context.run
    if run.state == "unreachable" or run.finalists:
        sentence = f"Nothing met the budget of {budget_words(context)}."
        closest = closest_misses(context)
        return Summary(banner, sentence, closest=closest, ties=None if closest else run.message)
    return Summary(banner, _so_far(context), closest=() if _best(context) else closest_misses(context))


def _banner(context: ReportContext) -> str | None:
    run = context.run
    done = sum(t.status not in ("running", "duplicate") for t in run.trials)
    if run.state == "searching":
        return f"Unfinished run: the search is under way ({numbers.count(done, 'candidate')} so far)."
    if run.state == "finalists":
        return f"Unfinished run: finalists are being trained in full ({len(run.finalists)} done so far)."
    return None


def _won(context: ReportContext, winner: FinalistRecord, banner: str | None, file_sha256: str) -> Summary:
    run, teacher = context.run, context.run.teacher
    budget = f"For {budget_words(context)}" if is_limited(context) else "Without a budget"
    budget = f"{budget}, deploy" if run.state == "finished" else f"Best so far, {budget[0].lower()}{budget[1:]}:"
    timing = winner.costs.latency_ms
    speed = f" and {numbers.latency(timing.p50)} a call" if timing else ""
    sentence = (
        f"{budget} {context.letters[winner.id]} ({winner.id}): {winner.description}. "
        f"{numbers.percent(winner.test.mean, context.places)} of the test samples right, at "
        f"{numbers.size(winner.costs.size_bytes)}{speed}{_against(context, winner)}."
    )
    deployed = next((s for s in winner.seeds if s.seed == winner.deployed_seed), None)
    return Summary(
        banner=banner,
        sentence=sentence,
        cards=tuple(_cards(context, winner, teacher)),
        file=f"{run.run_dir}/winner/student.onnx" if run.state == "finished" else None,
        sha256=file_sha256 or (deployed.sha256 if deployed else None),
        sha256_name="sha256" if file_sha256 else "sha256 without metadata",
        retarget=_retarget(context),
        ties=_cheaper_ties(context, winner),
    )


def _against(context: ReportContext, winner: FinalistRecord) -> str:
    teacher = context.run.teacher
    if teacher is None or teacher.test is None:
        return ""
    factors = numbers.listing(f"{text} {word}" for text, word in _factors(winner.costs, teacher.costs))
    difference = winner.test.mean - teacher.test.mean
    points = numbers.points(abs(difference), context.places).lstrip("+")
    where = "below" if difference < 0 else "above"
    level = f"{points} points {where}" if float(points) else "level with"
    return f": {factors} than the teacher, {level} its {numbers.percent(teacher.test.mean, context.places)}"


def _factors(ours: Costs, teachers: Costs) -> list[tuple[str, str]]:
    description = {"size": ("smaller", "larger"), "latency": ("faster", "slower")}
    found = []
    for axis in AXES:
        mine, theirs = cost(ours, axis), cost(teachers, axis)
        if mine and theirs:
            better = theirs >= mine
            found.append((numbers.factor(theirs / mine if better else mine / theirs), description[axis][not better]))
    return found


def _cards(context: ReportContext, winner: FinalistRecord, teacher: TeacherRecord | None) -> Iterable[Card]:
    test, timing = winner.test, winner.costs.latency_ms
    theirs, least = teacher.test if teacher else None, least_words(context)
    yield Card(
        "Test accuracy",
        numbers.percent(test.mean, context.places),
        f"{numbers.interval(test, context.places)}{numbers.NBSP}% (95{numbers.NBSP}% interval)",
        _listed(
            f"teacher {numbers.accuracy(theirs, context.places)}" if theirs else "",
            f"{numbers.percent(winner.val.mean, context.places)} on validation, asked: {least}" if least else "",
        ),
    )
    yield Card(
        "Size of the file",
        numbers.size(winner.costs.size_bytes),
        f"{winner.costs.parameters:,} weights",
        f"teacher {numbers.size(teacher.costs.size_bytes)}" if teacher else "",
        _used(context, winner, "size"),
    )
    beside = teacher.costs.latency_ms if teacher else None
    device = f" on {context.run.device.name}" if context.run.device else ""
    yield Card(
        f"Latency{device}",
        numbers.latency(timing.p50 if timing else None),
        f"{numbers.latency_interval(timing)} (95{numbers.NBSP}% interval)" if timing else "",
        _listed(
            f"p90 {numbers.latency(timing.p90)}" if timing else "",
            f"teacher {numbers.latency(beside.p50)}" if beside else "",
        ),
        _used(context, winner, "latency"),
    )
    for used in extra_used(context, winner.costs):
        yield Card(used.title, used.figure, "", used.limit, used.share)
    if teacher is not None:
        size_factor, *rest = _factors(winner.costs, teacher.costs)
        retained = f"{numbers.points(test.mean - theirs.mean, context.places)} points of accuracy" if theirs else ""
        speed = f"{rest[0][0]} {rest[0][1]}" if rest else ""
        yield Card("Against the teacher", f"{size_factor[0]} {size_factor[1]}", speed, retained)


def _listed(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _used(context: ReportContext, winner: FinalistRecord, axis: Axis) -> float | None:
    limit, spent = context.limit(axis), cost(winner.costs, axis)
    return spent / limit if limit and spent is not None else None


def _retarget(context: ReportContext) -> str:
    asked = {"max_latency_ms": 0.5, "max_size_kb": 100.0} | context.budget.model_dump(exclude_none=True)
    flags = " ".join(f"--{option.replace('_', '-')} {value:.12g}" for option, value in asked.items())
    return f"nas-kd export {context.run.run_dir} --out student.onnx {flags}"


def _cheaper_ties(context: ReportContext, winner: FinalistRecord) -> str | None:
    """Finalists that are smaller or faster than the winner and cannot be told apart from it on accuracy."""
    names = []
    for other in context.finalists:
        if other.id == winner.id or other.test.high < winner.test.low or verdict(context, other) != WITHIN:
            continue
        gains = [
            f"{factor} {word}"
            for factor, word in _factors(other.costs, winner.costs)
            if word in ("smaller", "faster") and factor != numbers.factor(1)
        ]
        if gains:
            names.append(f"{context.letters[other.id]} ({numbers.listing(gains)})")
    if not names:
        return None
    are = "is" if len(names) == 1 else "are"
    interval = "its interval overlaps" if len(names) == 1 else "their intervals overlap"
    return f"On these test samples, {numbers.listing(names)} {are} not distinguishable from the winner: {interval}."


def _best(context: ReportContext) -> TrialRecord | None:
    done = [t for t in context.run.trials if t.val_accuracy is not None and t.within_budget and t.status != "duplicate"]
    return max(done, key=lambda t: t.val_accuracy or 0.0, default=None)


def _so_far(context: ReportContext) -> str:
    best = _best(context)
    if best is None or best.costs is None or best.costs.size_bytes is None:
        return f"No candidate within {budget_words(context)} has been trained yet."
    timing = best.costs.latency_ms
    speed = f", {numbers.latency(timing.p50)} a call" if timing else ""
    after = f" after {numbers.count(best.rungs[-1].epochs, 'epoch')}" if best.rungs else ""
    return (
        f"Best within the budget so far ({budget_words(context)}): {best.description}, with "
        f"{numbers.percent(best.val_accuracy or 0.0)} on validation{after}, "
        f"{numbers.size(best.costs.size_bytes)}{speed}. Test accuracies come with the finalists."
    )
