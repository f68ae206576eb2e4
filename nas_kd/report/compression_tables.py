"""Section 4, beside other compression: families, their best networks, and which differences are certain."""

from collections.abc import Mapping
from dataclasses import dataclass

from nas_kd.report import number_format as fmt
from nas_kd.report.report_context import ReportContext, cost
from nas_kd.results.compression_record import CompressionRecord, Difference, Estimate, Family, FamilyPair
from nas_kd.results.finalist_record import Accuracy, ControlKind
from nas_kd.results.trial_record import Costs

CONTROL_NAMES: Mapping[ControlKind, str] = {
    "no_distillation": "without distillation",
    "label_smoothing": "with label smoothing",
    "no_assistants": "without assistants",
}
SCORE_DECIMALS = 2


@dataclass(frozen=True)
class NetworkRow:
    """A compressed network in words and figures.

    Attributes:
        name: letter of a finalist, what was done otherwise in a control, or name of a baseline.
        within_budget: whether it is within the budget: "yes", "no".
        test: its score on test, with the interval.
        size: of its file.
        latency: the median.
        retention: of the teacher's score above chance, with the interval.
        score: the compression score, with the interval.
    """

    name: str
    within_budget: str
    test: str
    size: str
    latency: str
    retention: str
    score: str


@dataclass(frozen=True)
class FamilyRow:
    """A family of compression: its best network, how many it has, and its hypervolume with the interval."""

    name: str
    members: str
    best: NetworkRow
    hypervolume: str


@dataclass(frozen=True)
class DifferenceRow:
    """One row of the forest plot.

    Attributes:
        name: of both families.
        value: the difference of their hypervolumes.
        text: that difference with its interval.
        verdict: whether it is certain, and of what members.
        score: the difference of their best networks' compression scores, and whether it is certain.
        position: left end, middle and right end of the interval, in percent of the plot's width.
    """

    name: str
    value: Difference
    text: str
    verdict: str
    score: str
    position: tuple[float, float, float]


@dataclass(frozen=True)
class CompressionTables:
    """What the section shows.

    Attributes:
        missing: why there is nothing to show; empty where there is.
        explanation: what the figures are.
        families: the largest hypervolume first.
        baselines: every baseline, whichever is the best of its family.
        differences: of each two families.
        zero: where no difference lies, in percent of the plot's width.
    """

    missing: str = ""
    explanation: str = ""
    families: tuple[FamilyRow, ...] = ()
    baselines: tuple[NetworkRow, ...] = ()
    differences: tuple[DifferenceRow, ...] = ()
    zero: float = 0.0


def build_compression_tables(context: ReportContext) -> CompressionTables:
    """Build the section from the run's record."""
    found = context.run.compression
    if found is None:
        return CompressionTables(missing="Unknown: networks are compared when the test split has been read.")
    if found.undefined or not found.networks:
        return CompressionTables(missing=f"Not defined: {found.undefined or 'no network was measured'}.")
    start, span = _plot_range(found.pairs)
    return CompressionTables(
        explanation=_explanation(found),
        families=tuple(_family_row(context, found, family) for family in found.families),
        baselines=tuple(_network_row(context, found, b.id) for b in context.run.baselines),
        differences=tuple(_difference_row(pair, start, span) for pair in found.pairs),
        zero=-start / span * 100,
    )


def _explanation(found: CompressionRecord) -> str:
    gained = "the geometric mean of times smaller and times faster" if "latency" in found.costs else "times smaller"
    unknown = "" if "latency" in found.costs else " The teacher's latency is unknown: only sizes are compared."
    return (
        f"Compression score: retained score above chance, times log2 of {gained} than the teacher. The teacher has 0, "
        "half of its costs at its score gives 1; below 0, a network costs more than the teacher. Hypervolume: what a "
        "family offers in retained score, size and latency together, above half of the teacher's score and below its "
        f"costs; the teacher's score at a tenth of all costs gives 1.{unknown} The best network of a family is the "
        "best on validation within the budget. 95 % intervals over test samples, seeds and latencies, for each "
        "difference by itself."
    )


def _family_row(context: ReportContext, found: CompressionRecord, family: Family) -> FamilyRow:
    row = _network_row(context, found, family.best)
    return FamilyRow(family.name, fmt.count(len(family.members), "network"), row, _estimate_text(family.hypervolume, 3))


def _network_row(context: ReportContext, found: CompressionRecord, name: str) -> NetworkRow:
    label, test, costs, within = _network(context, name)
    scored = found.score_of(name)
    return NetworkRow(
        name=label,
        within_budget="✓ yes" if within else "✗ no",
        test=fmt.accuracy_with_interval(test),
        size=fmt.size(cost(costs, "size")),
        latency=fmt.latency(cost(costs, "latency")),
        retention=_percent_text(scored.retention) if scored else fmt.MISSING,
        score=_estimate_text(scored.score, SCORE_DECIMALS) if scored else fmt.MISSING,
    )


def _network(context: ReportContext, name: str) -> tuple[str, Accuracy, Costs, bool]:
    """Name a network for people; its score on test, its costs, and whether they are within the budget."""
    for finalist in context.finalists:
        letter = context.letters[finalist.id]
        if name == finalist.id:
            return letter, finalist.test_score, finalist.costs, finalist.within_budget
        for control in finalist.controls:
            if name == f"{finalist.id}/{control.kind}":
                label = f"{letter} {CONTROL_NAMES[control.kind]}"
                return label, control.score, finalist.costs, finalist.within_budget
    baseline = next(b for b in context.run.baselines if b.id == name)
    return baseline.description, baseline.test_score, baseline.costs, baseline.within_budget


def _plot_range(pairs: tuple[FamilyPair, ...]) -> tuple[float, float]:
    """Where the forest plot starts, and its width."""
    low = min(0.0, *(p.hypervolume.low for p in pairs), 0.0)
    high = max(0.0, *(p.hypervolume.high for p in pairs), 0.0)
    span = (high - low) * 1.1 or 1.0
    return (high + low) / 2 - span / 2, span


def _difference_row(pair: FamilyPair, start: float, span: float) -> DifferenceRow:
    value = pair.hypervolume
    left, middle, right = ((v - start) / span * 100 for v in (value.low, value.value, value.high))
    return DifferenceRow(
        name=f"{pair.first} {fmt.MINUS} {pair.second}",
        value=value,
        text=_estimate_text(value, 3, signed=True),
        verdict=f"{_verdict(pair, value)}; {fmt.count(pair.members, 'network')} of each",
        score=f"{_estimate_text(pair.score, SCORE_DECIMALS, signed=True)}: {_verdict(pair, pair.score)}",
        position=(left, middle, right),
    )


def _verdict(pair: FamilyPair, value: Difference) -> str:
    if not value.certain:
        return "not certain"
    text = f"{pair.first if value.value > 0 else pair.second} is ahead"
    if not value.holds_for_fewer:
        text += ", with as many networks, not with fewer"
    return text if value.holds_for_teachers else f"{text}, but not beside every teacher of 1/4 to 4 times the costs"


def _estimate_text(value: Estimate, decimals: int, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    middle, low, high = (fmt.typographic_minus(f"{v:{sign}.{decimals}f}") for v in (value.value, value.low, value.high))
    return f"{middle} ({low} to {high})"


def _percent_text(value: Estimate) -> str:
    low, high = (f"{v * 100:.0f}" for v in (value.low, value.high))
    return f"{fmt.percent(value.value, 0)} ({low}{fmt.EN_DASH}{high})"
