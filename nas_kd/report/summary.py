"""Section 1, summary: what to deploy within the budget, or how far the closest candidates are from it."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nas_kd.report import number_format as fmt
from nas_kd.report.budget_text import (
    WITHIN_BUDGET,
    BudgetMiss,
    budget_text,
    budget_verdict,
    closest_to_budget,
    has_budget,
    min_score_text,
    other_limits_used,
)
from nas_kd.report.report_context import AXES, ReportContext, cost
from nas_kd.report.training_facts import teacher_warnings
from nas_kd.results.finalist_record import FinalistRecord
from nas_kd.results.fronts import Axis, describe_uncertain_minimum
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.split_notes import imbalance_note, small_split_notes
from nas_kd.results.trial_record import Costs, TrialRecord


@dataclass(frozen=True)
class Card:
    """One of the key figures: its value, interval or detail, comparison, and the share of the limit that it uses."""

    title: str
    value: str
    detail: str
    comparison: str
    budget_share: float | None = None

    @property
    def budget_share_text(self) -> str:
        """The share of the limit in words: `78 % of the budget`."""
        share = (self.budget_share or 0.0) * 100
        return f"{'under 1' if share < 1 else f'{share:.0f}'}{fmt.NBSP}% of the budget"


@dataclass(frozen=True)
class Summary:
    """The first section: the winner with its file, or the closest candidates.

    Attributes:
        banner: set while the run is unfinished.
        warnings: what a reader has to know before believing the figures.
        headline: the answer in one or two sentences.
        cards: the winner's key figures.
        note: finalists that cannot be distinguished from the winner, or why there is none.
        file: path of the ONNX file to deploy.
        sha256: its checksum; `sha256_label` names it.
        export_command: how to choose another finalist under another budget: an example with a smaller size.
        closest: if nothing met the budget, the candidates that come closest.
    """

    banner: str | None
    headline: str
    cards: tuple[Card, ...] = ()
    note: str | None = None
    file: str | None = None
    sha256: str | None = None
    sha256_label: str = "sha256"
    export_command: str | None = None
    closest: tuple[BudgetMiss, ...] = ()
    warnings: tuple[str, ...] = ()


def build_summary(context: ReportContext, file_sha256: str = "") -> Summary:
    """Build the summary of a run at any stage.

    Args:
        context: the run.
        file_sha256: checksum of the winner's file as written.
    """
    return replace(_answer(context, file_sha256), warnings=(*_split_warnings(context), *teacher_warnings(context.run)))


def _split_warnings(context: ReportContext) -> Iterator[str]:
    """What the samples cannot show: small splits, unbalanced classes under accuracy, a minimum within the interval."""
    data, winner = context.run.dataset, context.winner
    if data is None:
        return
    if context.run.decides_on_accuracy and (note := imbalance_note(data.class_counts, data.classes)):
        yield f"{fmt.capital(note)}."
    for note in small_split_notes(data.split_sizes, data.headline_title):
        yield f"{fmt.capital(note)}."
    if winner and (note := describe_uncertain_minimum(winner.val_score, context.budget)):
        yield f"{context.letters[winner.id]} is not shown to reach the {context.score} asked for: {note}."


def _answer(context: ReportContext, file_sha256: str) -> Summary:
    banner = _banner(context)
    if context.winner is not None:
        return _winner_summary(context, context.winner, banner, file_sha256)
    run = context.run
    if run.state == "unreachable" or run.finalists:
        headline = f"Nothing met the budget of {budget_text(context)}."
        closest = closest_to_budget(context)
        return Summary(banner, headline, closest=closest, note=None if closest else run.message)
    closest = () if _best_trial(context) else closest_to_budget(context)
    return Summary(banner, _best_so_far(context), closest=closest)


def _banner(context: ReportContext) -> str | None:
    run = context.run
    done = sum(t.status not in ("running", "duplicate") for t in run.trials)
    if run.state == "searching":
        return f"Unfinished run: the search is in progress ({fmt.count(done, 'candidate')} so far)."
    if run.state == "finalists":
        return f"Unfinished run: the finalists are being trained in full ({len(run.finalists)} done so far)."
    return None


def _winner_summary(context: ReportContext, winner: FinalistRecord, banner: str | None, file_sha256: str) -> Summary:
    run = context.run
    budget = f"For {budget_text(context)}" if has_budget(context) else "Without a budget"
    budget = f"{budget}, deploy" if run.state == "finished" else f"Best so far, {budget[0].lower()}{budget[1:]}:"
    timing = winner.costs.latency_ms
    speed = f", {fmt.latency(timing.p50)} per call" if timing else ""
    headline = (
        f"{budget} {context.letters[winner.id]} ({winner.id}): {winner.description}. "
        f"Test {context.score} {fmt.percent(winner.test_score.mean, context.accuracy_decimals)}, "
        f"{fmt.size(winner.costs.size_bytes)}{speed}{_teacher_comparison(context, winner)}."
    )
    deployed = next((s for s in winner.seeds if s.seed == winner.deployed_seed), None)
    return Summary(
        banner=banner,
        headline=headline,
        cards=tuple(_cards(context, winner, run.teacher)),
        note=_indistinguishable_note(context, winner),
        file=f"{run.run_dir}/winner/student.onnx" if run.state == "finished" else None,
        sha256=file_sha256 or (deployed.sha256 if deployed else None),
        sha256_label="sha256" if file_sha256 else "sha256 without metadata",
        export_command=_export_command(context, winner),
    )


def _teacher_comparison(context: ReportContext, winner: FinalistRecord) -> str:
    teacher = context.run.teacher
    if teacher is None or teacher.test_score is None:
        return ""
    ratios = fmt.join_with_and(f"{ratio} {word}" for ratio, word in _cost_ratios(winner.costs, teacher.costs))
    difference = winner.test_score.mean - teacher.test_score.mean
    points = fmt.percentage_points(abs(difference), context.accuracy_decimals).lstrip("+")
    where = "below" if difference < 0 else "above"
    level = f"{points} points {where}" if float(points) else "level with"
    theirs = fmt.percent(teacher.test_score.mean, context.accuracy_decimals)
    compared = f"{ratios} than the teacher, {level} its {theirs}" if ratios else f"{level} the teacher's {theirs}"
    return f": {compared}"


def _cost_ratios(costs: Costs, others: Costs) -> list[tuple[str, str]]:
    """Size and latency against those of another network: `[("55x", "smaller"), ("12x", "faster")]`."""
    words = {"size": ("smaller", "larger"), "latency": ("faster", "slower")}
    found = []
    for axis in AXES:
        mine, theirs = cost(costs, axis), cost(others, axis)
        if mine and theirs:
            better = theirs >= mine
            found.append((fmt.ratio(theirs / mine if better else mine / theirs), words[axis][not better]))
    return found


def _cards(context: ReportContext, winner: FinalistRecord, teacher: TeacherRecord | None) -> Iterator[Card]:
    yield _score_card(context, winner, teacher)
    yield Card(
        "Size of the file",
        fmt.size(winner.costs.size_bytes),
        f"{winner.costs.parameters:,} weights",
        f"teacher {fmt.size(teacher.costs.size_bytes)}" if teacher and teacher.costs.size_bytes else "",
        _budget_share(context, winner, "size"),
    )
    yield _latency_card(context, winner, teacher)
    for use in other_limits_used(context, winner.costs):
        yield Card(use.title, use.value, "", use.limit, use.share)
    if teacher is not None and (ratios := _cost_ratios(winner.costs, teacher.costs)):
        size_ratio, *latency_ratio = ratios
        speed = " ".join(latency_ratio[0]) if latency_ratio else ""
        difference = ""
        if teacher.test_score:
            gap = winner.test_score.mean - teacher.test_score.mean
            points = fmt.percentage_points(gap, context.accuracy_decimals)
            difference = f"{points} points of {context.score}"
        yield Card("Against the teacher", " ".join(size_ratio), speed, difference)


def _score_card(context: ReportContext, winner: FinalistRecord, teacher: TeacherRecord | None) -> Card:
    test, decimals, minimum = winner.test_score, context.accuracy_decimals, min_score_text(context)
    theirs = fmt.accuracy_with_interval(teacher.test_score, decimals) if teacher and teacher.test_score else ""
    validation = f"validation {fmt.percent(winner.val_score.mean, decimals)}, budget: {minimum}" if minimum else ""
    return Card(
        f"Test {context.score}",
        fmt.percent(test.mean, decimals),
        f"{fmt.accuracy_interval(test, decimals)}{fmt.NBSP}% (95{fmt.NBSP}% interval)",
        _join_nonempty(f"teacher {theirs}" if theirs else "", validation, _other_scores(context, winner)),
    )


def _other_scores(context: ReportContext, winner: FinalistRecord) -> str:
    """Accuracy where another score decides, and balanced accuracy where it is not the same to a point."""
    shown = {} if context.run.decides_on_headline else {context.run.headline_title: winner.test}
    balanced = winner.balanced if context.score_name != "balanced_accuracy" else None
    if balanced is not None and (shown or abs(balanced.mean - winner.test.mean) >= 0.005):
        shown["balanced accuracy"] = balanced
    return "; ".join(f"{name} {fmt.accuracy_with_interval(value)}" for name, value in shown.items())


def _latency_card(context: ReportContext, winner: FinalistRecord, teacher: TeacherRecord | None) -> Card:
    timing = winner.costs.latency_ms
    theirs = teacher.costs.latency_ms if teacher else None
    device = f" on {context.run.device.name}" if context.run.device else ""
    return Card(
        f"Latency{device}",
        fmt.latency(timing.p50 if timing else None),
        f"{fmt.latency_interval(timing)} (95{fmt.NBSP}% interval)" if timing else "",
        _join_nonempty(
            f"p90 {fmt.latency(timing.p90)}" if timing else "", f"teacher {fmt.latency(theirs.p50)}" if theirs else ""
        ),
        _budget_share(context, winner, "latency"),
    )


def _join_nonempty(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _budget_share(context: ReportContext, winner: FinalistRecord, axis: Axis) -> float | None:
    limit, value = context.limit(axis), cost(winner.costs, axis)
    return value / limit if limit and value is not None else None


def _export_command(context: ReportContext, winner: FinalistRecord) -> str | None:
    """The run's budget with a limit on the size under which another finalist wins; None: there is no smaller one."""
    smaller_kb = _smaller_size_kb(context, winner)
    if smaller_kb is None:
        return None
    limits = context.budget.model_dump(exclude_none=True) | {"max_size_kb": smaller_kb}
    flags = " ".join(f"--{option.replace('_', '-')} {value:.12g}" for option, value in limits.items())
    return f"nas-kd export {shlex.quote(context.run.run_dir)} --out student.onnx {flags}"


def _smaller_size_kb(context: ReportContext, winner: FinalistRecord) -> float | None:
    """A limit that leaves the winner out and the next smaller finalist in; None: there is none."""
    size = winner.costs.require_size()
    others = [f for f in context.finalists if budget_verdict(context, f) == WITHIN_BUDGET]
    smaller = [other for f in others if (other := f.costs.require_size()) < size]
    if not smaller:
        return None
    unit = int(10 ** max(0, len(str(max(smaller))) - 2))  # two digits
    limit = -(-max(smaller) // unit) * unit
    return (limit if limit < size else max(smaller)) / 1000


def _indistinguishable_note(context: ReportContext, winner: FinalistRecord) -> str | None:
    """Names smaller or faster finalists whose score cannot be distinguished from the winner's."""
    names = []
    for other in context.finalists:
        if other.id == winner.id or other.test_score.high < winner.test_score.low:
            continue
        if budget_verdict(context, other) != WITHIN_BUDGET:
            continue
        gains = [
            f"{ratio} {word}"
            for ratio, word in _cost_ratios(other.costs, winner.costs)
            if word in ("smaller", "faster") and ratio != fmt.ratio(1)
        ]
        if gains:
            names.append(f"{context.letters[other.id]} ({fmt.join_with_and(gains)})")
    if not names:
        return None
    interval = "its interval overlaps" if len(names) == 1 else "their intervals overlap"
    return (
        f"On this test split, the {context.score} of {fmt.join_with_and(names)} cannot be distinguished from the "
        f"winner's: {interval}."
    )


def _best_trial(context: ReportContext) -> TrialRecord | None:
    done = [t for t in context.run.trials if t.val_score is not None and t.within_budget and t.status != "duplicate"]
    return max(done, key=lambda t: t.val_score or 0.0, default=None)


def _best_so_far(context: ReportContext) -> str:
    best = _best_trial(context)
    if best is None or best.costs is None or best.costs.size_bytes is None:
        return f"No candidate within the budget ({budget_text(context)}) has been trained yet."
    timing = best.costs.latency_ms
    speed = f", {fmt.latency(timing.p50)} per call" if timing else ""
    after = f" after {fmt.count(best.rungs[-1].epochs, 'epoch')}" if best.rungs else ""
    return (
        f"Best within the budget so far ({budget_text(context)}): {best.description}, with "
        f"{fmt.percent(best.val_score or 0.0)} validation {context.score}{after}, "
        f"{fmt.size(best.costs.size_bytes)}{speed}. Test {context.score} is measured on the finalists, after the "
        "search."
    )
