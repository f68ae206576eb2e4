"""The picture of a recipe probe: validation score by epoch, one line a setting that ends where it was stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nas_kd.report import number_format as fmt
from nas_kd.report.axes import AxisScale, linear_scale
from nas_kd.results.recipe_record import ProbeRecord, RecipeRecord

N_SYMBOLS = 9  # of settings that are neither the chosen one nor the rules'; each has its own shape and colour
CHOSEN, RULES = "chosen-setting", "rules-setting"
LEAST_SPAN = 0.2  # of the accuracies in view
SPAN_RATIO = 3.0  # height of the view over the distance from the best to the median setting


@dataclass(frozen=True)
class SettingLine:
    """One setting's line.

    Attributes:
        symbol: shape and colour, the same as in the table.
        label: written beside the line's end; most lines have none.
        points: (epoch, score on validation), at least one.
    """

    symbol: str
    label: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class ProbePlot:
    """All lines and their scales; those drawn on top come last. `n_below_view`: lines that end below the view."""

    x: AxisScale
    y: AxisScale
    y_title: str
    lines: tuple[SettingLine, ...]
    n_below_view: int
    alt_text: str


def setting_symbols(record: RecipeRecord) -> tuple[str, ...]:
    """Name the symbol of each setting, in the order in which they were tried."""
    others = [r for r in record.settings if r.recipe not in (record.recipe, record.rules)]
    own = {r.recipe: f"setting-{n % N_SYMBOLS}" for n, r in enumerate(others)}
    own |= {record.rules: RULES, record.recipe: CHOSEN}
    return tuple(own[r.recipe] for r in record.settings)


def build_probe_plot(record: RecipeRecord, score: str = "accuracy") -> ProbePlot | None:
    """Build the picture of a probe.

    Args:
        record: of the choice.
        score: what settings are judged by, in sentences.

    Returns:
        None if no setting was trained.
    """
    pairs = zip(setting_symbols(record), record.settings, strict=True)
    trained = [(symbol, setting) for symbol, setting in pairs if setting.failed is None]
    if not trained:
        return None
    lines = [SettingLine(symbol, _label(symbol, record), _points(setting)) for symbol, setting in trained]
    lines.sort(key=lambda line: (line.symbol == CHOSEN, line.symbol == RULES))
    ends = [line.points[-1][1] for line in lines]
    floor = max(ends) - max(LEAST_SPAN, SPAN_RATIO * (max(ends) - median(ends)))
    y = linear_scale([max(floor, value) for line in lines for _, value in line.points])
    return ProbePlot(
        x=linear_scale([0.0, max(s.epochs for _, s in trained)], "count", floor=0.0),
        y=y,
        y_title=f"validation {score}",
        lines=tuple(lines),
        n_below_view=sum(end < y.low for end in ends),
        alt_text=_alt_text(record, [setting for _, setting in trained], score),
    )


def _label(symbol: str, record: RecipeRecord) -> str:
    if symbol == CHOSEN:
        return "by rules, kept" if record.recipe == record.rules else "chosen"
    return "by rules" if symbol == RULES else ""


def _points(setting: ProbeRecord) -> tuple[tuple[int, float], ...]:
    """The curve, where it was taken; without one, the score at its end alone."""
    taken = tuple((epoch, value) for epoch, value in enumerate(setting.curve, start=1) if value is not None)
    return taken or ((setting.epochs, setting.val_score),)


def _alt_text(record: RecipeRecord, trained: Sequence[ProbeRecord], score: str) -> str:
    named = ((record.recipe, "the chosen one"), (record.rules, "the rules' one"))
    ends = [
        f"{name} {fmt.percent(setting.val_score)} after {fmt.count(setting.epochs, 'epoch')}"
        for recipe, name in dict(named).items()
        for setting in trained
        if setting.recipe == recipe
    ]
    return f"Validation {score} of {fmt.count(len(trained), 'setting')} by epoch: {fmt.join_with_and(ends)}."
