"""Section 5, training recipes: what was chosen for students and teachers, from what, and what it was worth."""

from collections.abc import Iterator
from dataclasses import dataclass

from nas_kd.report import number_format as fmt
from nas_kd.report.probe_plot import ProbePlot, build_probe_plot, setting_symbols
from nas_kd.report.recipe_words import describe_choices, describe_setting, name_fields
from nas_kd.report.report_context import named_teachers
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.recipe_record import ProbeRecord, RecipeRecord, SmallStudentsRecord
from nas_kd.results.run_record import RunRecord


@dataclass(frozen=True)
class SettingRow:
    """One setting of a probe, formatted; `symbol` marks its line in the picture."""

    symbol: str
    setting: str
    note: str
    accuracy: str
    interval: str
    epochs: str
    seconds: str
    outcome: str


@dataclass(frozen=True)
class RecipeChoice:
    """How one recipe was chosen; without a probe, there are no rows and no picture."""

    title: str
    text: str
    rows: tuple[SettingRow, ...]
    plot: ProbePlot | None
    caption: str


def build_recipe_choices(run: RunRecord) -> tuple[RecipeChoice, ...]:
    """Build a part for the students' recipe, and one for each teacher's that a probe has chosen."""
    found = []
    if run.recipe is not None:
        own = run.seconds.get("recipe", 0.0)
        found.append(_choice("The training recipe", "Students", run.recipe, run, own))
        if run.recipe.small is not None:
            found.append(_small_students(run.recipe.small, run))
    for name, teacher in named_teachers(run):
        if teacher.recipe is not None and teacher.recipe.settings:
            own = min(teacher.recipe.seconds, run.seconds.get("teacher", 0.0))
            choice = _choice(f"The training recipe of {name}", name, teacher.recipe, run, own, picture=False)
            found.append(choice)
    return tuple(found)


def _choice(
    title: str, who: str, record: RecipeRecord, run: RunRecord, seconds: float, *, picture: bool = True
) -> RecipeChoice:
    """Say how one recipe was chosen.

    Args:
        title: heading.
        who: is trained by it.
        record: of the choice.
        run: that it belongs to.
        seconds: that this run spent on it, which is less than the probe took if its results were found.
        picture: whether to draw the curves.
    """
    who = fmt.capital(who)
    verb = "are" if who == "Students" else "was"
    length = fmt.count(record.recipe.epochs, "epoch")
    sentences = [
        f"{who} {verb} trained for {length} with {describe_setting(record.recipe)}: {_origin(record)}.",
        *_worth(record, run.score_title),
        *_cost(record, seconds, sum(run.seconds.values())),
        *([f"On the short trainings: {record.note.rstrip('.')}."] if record.note else []),
    ]
    plot = build_probe_plot(record, run.score_title) if picture else None
    rows = _rows(record, run.dataset.n_val if run.dataset else 0)
    return RecipeChoice(title, " ".join(sentences), rows, plot, _caption(plot) if plot else "")


def _small_students(small: SmallStudentsRecord, run: RunRecord) -> RecipeChoice:
    """Say how small students are augmented, and what was compared for it."""
    choice = small.choice
    kept, length = choice.recipe == choice.rules, _compared_after(choice)
    compared = f" after {length}" if length else ""
    sentences = [
        f"Networks of few weights may lose by augmentation what larger ones gain. {choice.network} was trained both "
        f"ways: students of fewer than {small.below_weights:,} weights "
        + (
            f"are augmented as all others ({choice.recipe.augment}), as less was not clearly ahead{compared}."
            if kept
            else f"were trained with augmentation {choice.recipe.augment}, which was clearly ahead{compared}."
        ),
        *([f"On the short trainings: {choice.note.rstrip('.')}."] if choice.note else []),
    ]
    rows = _rows(choice, run.dataset.n_val if run.dataset else 0, "as all others")
    return RecipeChoice("The augmentation of small students", " ".join(sentences), rows, None, "")


def _origin(record: RecipeRecord) -> str:
    given = f"; given: {name_fields(record.given)}" if record.given else ""
    if record.origin == "given":
        return "as given"
    if record.origin == "rules":
        return f"chosen by rules from the number and kind of samples{given}"
    tried = fmt.count(len(record.settings), "setting")
    return f"chosen by short trainings of one network ({record.network}) with {tried}{given}"


def _worth(record: RecipeRecord, score: str) -> Iterator[str]:
    """What the choice is ahead of the rules', and its augmentation of none, in the short trainings."""
    if record.gain is None:
        return
    when = f"After {length}" if (length := _compared_after(record)) else "At equal epochs"
    rules = next((s for s in record.settings if s.recipe == record.rules), None)
    if rules is not None and rules.failed is not None:
        yield f"What the rules propose ({describe_setting(record.rules)}) could not be trained."
    elif record.recipe == record.rules:
        yield "That is what the rules propose: no other setting was clearly ahead."
    else:
        ahead, faster = ("ahead of", "") if record.gain >= 0 else ("behind", ", and gaining faster")
        points = fmt.percentage_points(abs(record.gain)).lstrip("+")
        yield (
            f"{when}, it was {points} points of validation {score} {ahead} "
            f"what the rules propose ({describe_setting(record.rules)}){faster}."
        )
    if record.augmentation_gain is not None:
        gain, without = fmt.percentage_points(record.augmentation_gain), record.recipe.augment == "none"
        other = "with any augmentation" if without else "without augmentation"
        chosen = "leaving augmentation out" if without else f"{record.recipe.augment} augmentation"
        yield f"Against the best setting {other}, {chosen} was worth {gain} points in these trainings."


def _compared_after(record: RecipeRecord) -> str:
    """The epochs after which settings were compared in the end."""
    compared, full = record.compared_epochs, record.recipe.epochs
    if not compared:
        return ""
    return fmt.count(full, "epoch") if compared == full else f"{compared:,} of {fmt.count(full, 'epoch')}"


def _cost(record: RecipeRecord, seconds: float, total: float) -> Iterator[str]:
    if not record.settings:
        return
    share = f", {_share_text(seconds / total)} of the run's time" if 0 < seconds <= total else ""
    spent = fmt.count(record.epochs_spent, "epoch")
    yield f"The short trainings took {spent} and {fmt.duration(record.seconds)}{share}."


def _share_text(share: float) -> str:
    return f"{share * 100:.0f}{fmt.NBSP}%" if share >= 0.01 else f"under 1{fmt.NBSP}%"


def _rows(record: RecipeRecord, n_val: int, base: str = "by rules") -> tuple[SettingRow, ...]:
    return tuple(
        SettingRow(
            symbol=symbol,
            setting=_setting_words(record, setting),
            note=base if setting.recipe == record.rules else "",
            accuracy=fmt.MISSING if setting.failed is not None else fmt.percent(setting.val_score),
            interval=_interval_text(setting, n_val),
            epochs=f"{setting.epochs:,}",
            seconds=fmt.duration(setting.seconds) if setting.seconds else fmt.MISSING,
            outcome=_outcome(record, setting),
        )
        for symbol, setting in zip(setting_symbols(record), record.settings, strict=True)
    )


def _setting_words(record: RecipeRecord, setting: ProbeRecord) -> str:
    """The rules' setting in full, of the others what they change."""
    if setting.recipe == record.rules:
        return describe_setting(setting.recipe)
    return describe_choices(record.rules.differences(setting.recipe))


def _interval_text(setting: ProbeRecord, n_val: int) -> str:
    if not n_val or setting.failed is not None:
        return ""
    low, high = setting.interval(n_val)
    return fmt.accuracy_interval(Accuracy(mean=setting.val_score, low=low, high=high, samples=n_val, seeds=1), 1)


def _outcome(record: RecipeRecord, setting: ProbeRecord) -> str:
    """What became of a setting: failed, chosen, stopped in an earlier round, or not ahead at the end."""
    if setting.failed is not None:
        return f"failed: {setting.failed}"
    if setting.recipe == record.recipe:
        if record.origin != "probe":
            return "used: nothing to compare it with"
        return "kept: no other was clearly ahead" if record.recipe == record.rules else "chosen"
    if setting.epochs < max(s.epochs for s in record.settings):
        return "stopped: others did better" if record.note is None else "not continued"
    chosen = next((s for s in record.settings if s.recipe == record.recipe), None)
    ahead = chosen is not None and setting.val_score > chosen.val_score
    return "ahead, but not clearly" if ahead else "not ahead at the end"


def _caption(plot: ProbePlot) -> str:
    hidden = fmt.count(plot.n_below_view, "line") + " below this view." if plot.n_below_view else ""
    return (
        "Each line is one setting, trained once; it ends where the setting was stopped. The star marks the chosen "
        f"one; the table names the others by their marks. Intervals are of 95{fmt.NBSP}%. {hidden}"
    ).strip()
