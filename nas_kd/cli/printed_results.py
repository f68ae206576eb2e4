"""What the command line prints at the end: finalists, an exported or a distilled student."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from nas_kd.cli.figures import UNSTABLE, kilobytes, milliseconds, percent, print_plain
from nas_kd.commands.distill import DistillResult
from nas_kd.config.options import Budget
from nas_kd.plugins import display_name
from nas_kd.results.finalist_record import Accuracy, FinalistRecord
from nas_kd.results.front_document import front_document
from nas_kd.results.fronts import describe_uncertain_minimum
from nas_kd.results.limits import describe_costs
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import Costs
from nas_kd.scores.base import load_score


def print_result(run: RunRecord, folder: Path) -> None:
    """Print the finalists and the teacher as a table, then the paths of the winner and the report.

    Args:
        run: a finished run.
        folder: its folder.
    """
    console = Console()
    document = front_document(run)
    budget = ", ".join(f"{k} {v:g}" for k, v in run.config.get("budget", {}).items()) or "no limits"
    table = Table(title=f"Finalists of {escape(run.name)}, budget: {budget}", title_justify="left", box=box.SIMPLE)
    score = f"test {run.score_title}"
    for column in ("", score, "size", "latency", "method"):
        justify: JustifyMethod = "right" if column in ("size", "latency") else "left"
        table.add_column(column, justify=justify, no_wrap=column in ("", score, "size"), overflow="fold")
    by_id, shown = {f.id: f for f in run.finalists}, []
    for entry in document["candidates"]:
        finalist = by_id[entry["id"]]
        role, method = _role(entry, document["winner"]), escape(_method(finalist))
        table.add_row(role, *_figure_cells(finalist.test_score, finalist.costs, "*"), method)
        shown.append(finalist.costs)
    if run.teacher is not None and run.teacher.test_score is not None:
        table.add_row("teacher", *_figure_cells(run.teacher.test_score, run.teacher.costs, "*"), "")
        shown.append(run.teacher.costs)
    console.print(table)
    if any(c.unstable for c in shown):
        console.print("* unstable: the measurement was disturbed; repeat it with `nas-kd measure`")
    best = by_id.get(document["winner"] or "")
    if best is None:
        console.print("no finalist meets the budget; the report shows how close they come")
    else:
        limits = Budget.model_validate(run.config.get("budget") or {})
        costs = describe_costs(best.costs, limits)
        print_plain(console, f"winner: {folder / 'winner' / 'student.onnx'}: {best.description}; {costs}")
        for text in _other_scores(run, best):
            print_plain(console, text)
        if note := describe_uncertain_minimum(best.val_score, limits):
            print_plain(console, f"note: the winner is not shown to reach the minimum: {note}")
    print_plain(console, f"report: {folder / 'report' / 'index.html'}")


def _other_scores(run: RunRecord, winner: FinalistRecord) -> Iterator[str]:
    """The task's own score and balanced accuracy on test, of winner and teacher, where the table does not have them."""
    teacher = run.teacher
    shown = (
        (run.headline_title, winner.test, teacher.test if teacher else None),
        ("balanced accuracy", winner.balanced, teacher.balanced if teacher else None),
    )
    for title, mine, theirs in shown:
        if title != run.score_title and mine is not None:
            yield f"{title} on test: winner {percent(mine)}" + (f", teacher {percent(theirs)}" if theirs else "")


def _role(entry: Mapping[str, Any], winner: str | None) -> str:
    """Whether a candidate of front.json is the winner, or why it cannot be."""
    if entry["id"] == winner:
        return "winner"
    if not entry["within_budget"]:
        return "over budget"
    reaches = entry.get("reaches_accuracy", entry.get("reaches_score", True))
    return "" if reaches else "low accuracy" if "reaches_accuracy" in entry else "low score"


def _method(finalist: FinalistRecord) -> str:
    """`soft_targets, fp32, 1 assistant`, and how it was taught, if not as usual."""
    assistants = len(finalist.candidate.assistants)
    chain = f", {assistants} assistant{'s' if assistants > 1 else ''}" if assistants else ""
    teaching = "".join(f", {words}" for words in [finalist.candidate.recipe.teaching.describe()] if words)
    return f"{display_name(finalist.candidate.recipe.method)}, {finalist.candidate.precision}{chain}{teaching}"


def _figure_cells(accuracy: Accuracy, costs: Costs, unstable: str = UNSTABLE) -> tuple[str, str, str]:
    return percent(accuracy), kilobytes(costs.size_bytes), milliseconds(costs.latency_ms, unstable)


def print_finalist(finalist: FinalistRecord, title: str, out: Path) -> None:
    """Print which finalist was exported to `out`, with its figures; `title`: of the task's own score."""
    parts = (f"trial {finalist.trial}", finalist.description, _method(finalist))
    accuracy, *costs = _figure_cells(finalist.test, finalist.costs)
    figures = (f"test {title} {accuracy}", *costs)
    print_plain(Console(), f"{out}: {'; '.join((*parts, *figures))}")


def print_distilled(distilled: DistillResult) -> None:
    """Print the figures of a student that was distilled without a search, beside the teacher's on the same split."""
    teacher = distilled.teacher
    shown = {f"test {distilled.title}": (distilled.test, teacher.test)}
    for title, value in distilled.scores.items():
        theirs = teacher.balanced if title == load_score("balanced_accuracy").title else teacher.test_score
        shown[title] = (value, theirs)
    scores = [
        f"{title} {percent(mine)}" + (f" (teacher {percent(theirs)})" if theirs else "")
        for title, (mine, theirs) in shown.items()
    ]
    print_plain(
        Console(),
        f"{distilled.path}: {distilled.description}, {distilled.method}; {', '.join(scores)}; "
        f"{distilled.size_bytes / 1000:.1f} kB, {milliseconds(distilled.latency)}",
    )
