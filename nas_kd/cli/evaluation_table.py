"""Prints the score of a file on a split, and how each class is recognised."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from nas_kd.commands.evaluate import ClassResult, Evaluation
from nas_kd.results.finalist_record import Accuracy
from nas_kd.scores.base import load_score

MAX_CLASSES = 20


def print_evaluation(result: Evaluation) -> None:
    """Print accuracy with its interval, calibration, and recall by class: of many classes the lowest ones."""
    console, accuracy = Console(), result.accuracy
    for note in result.notes:
        console.print(f"note: {escape(note)}", soft_wrap=True, highlight=False)
    table = Table(title=escape(result.file), title_justify="left", show_header=False)
    table.add_row("data", escape(f"{result.dataset}, {result.split} split, {accuracy.samples:,} samples"))
    right = "" if result.correct is None else f", {result.correct:,} of {accuracy.samples:,} right"
    table.add_row(result.title, f"{_percent(accuracy)}{right}")
    for name, value in result.scores.items():
        table.add_row(load_score(name).title, _percent(value))
    for name, figure in (("calibration error (ECE)", result.ece), ("cross-entropy, nats", result.nll)):
        if figure is None:
            continue
        stated = f", {figure.after:.4f} at the file's temperature {result.temperature:.4g}"
        table.add_row(name, f"{figure.before:.4f}{stated if result.temperature != 1 else ''}")
    if result.preprocessing != "raw":
        table.add_row("preprocessing", result.preprocessing)
    console.print(table)
    if result.classes:
        _print_classes(console, result.classes)


def _print_classes(console: Console, classes: tuple[ClassResult, ...]) -> None:
    known = [c for c in classes if c.recall is not None]
    shown = known
    if len(known) > MAX_CLASSES:
        shown = sorted(known, key=lambda c: c.recall.mean if c.recall else 0.0)[:MAX_CLASSES]
    right = [Column(name, justify="right") for name in ("samples", "recall")]
    table = Table("class", *right, "most often taken for", box=box.SIMPLE)
    if len(shown) < len(known):
        table.title, table.title_justify = f"the {MAX_CLASSES} lowest of {len(known)} classes", "left"
    for c in shown:
        mistaken = f"{escape(c.mistaken_for)} ({c.mistakes})" if c.mistaken_for is not None else ""
        table.add_row(escape(c.name), f"{c.samples:,}", _percent(c.recall) if c.recall else "", mistaken)
    console.print(table)


def _percent(accuracy: Accuracy) -> str:
    return f"{accuracy.mean:.2%} [{accuracy.low * 100:.1f}, {accuracy.high * 100:.1f}]"
