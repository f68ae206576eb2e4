"""What the terminal shows: live progress where somebody watches, a few lines where nobody does, tables at the end."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from nas_kd.commands.distill import DistillResult
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.results.fronts import front_document
from nas_kd.results.latency import Latency
from nas_kd.results.limits import describe_costs
from nas_kd.results.records import Accuracy, Costs, FinalistRecord, RunRecord, TeacherRecord, TrialRecord

LINES_EVERY = 10  # trials or trainings, where nobody watches
SILENT_AT_MOST = 60.0  # seconds, there, while something goes on
UNSTABLE = " (unstable)"


class ConsoleCallback(Callback):
    """Some live lines on a terminal; elsewhere a line a stage, one every ten trials, and one a minute in long work."""

    def __init__(self, config: SearchConfig) -> None:
        self._console = Console(stderr=True)
        self._goal = config.search.trials
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._status = ""
        self._details: dict[str, str] = {}  # what is under way, and how far
        self._told = self._done = 0
        self._begun: tuple[float, int] | None = None
        self._ends_at: float | None = None
        self._said_at = time.monotonic()

    def __enter__(self) -> "ConsoleCallback":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def _say(self, text: str) -> None:
        self._said_at = time.monotonic()
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def _draw(self) -> None:
        if self._console.is_terminal:
            self._live.update(Text("\n  ".join([self._status, *self._details.values()]), style="cyan"))

    def on_start(self, run_dir: str, resumed: bool) -> None:
        """Say where."""
        self._say(f"{'resuming' if resumed else 'run folder'}: {run_dir}")

    def on_stage(self, text: str) -> None:
        """Say what comes next."""
        self._status, self._details, self._begun, self._ends_at = text, {}, None, None
        if self._console.is_terminal:
            self._draw()
        else:
            self._say(f"{text} ...")

    def on_note(self, text: str) -> None:
        """Say it."""
        self._say(f"note: {text}")

    def on_teacher(self, record: TeacherRecord) -> None:
        """Say what the teacher is worth."""
        costs = record.costs
        self._say(
            f"teacher: {record.description}; validation accuracy {record.val.mean:.2%}, "
            f"{costs.require_size() / 1000:.1f} kB, {_ms(costs.latency_ms)}"
        )

    def on_measured(self, done: int, total: int) -> None:
        """Redraw, now and then a line."""
        description = f"{done} of {total}{self._time_left(done, total)}"
        self._details = {"measured": description}
        if self._console.is_terminal:
            self._draw()
        elif done % LINES_EVERY == 0:
            self._say(f"{self._status}: {description}")

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Redraw, after a long silence a line; what has come to its end is no longer shown."""
        if done < total:
            self._details[what] = f"{what} {done} of {total}"
        else:
            self._details.pop(what, None)
        if self._console.is_terminal:
            self._draw()
        elif self._details and time.monotonic() - self._said_at >= SILENT_AT_MOST:
            self._say("; ".join([self._status, *self._details.values()]))

    def on_search_start(self, trials: int, seconds: float | None) -> None:
        """Say so; of so many, until then."""
        self._goal = trials
        self.on_stage("searching")
        self._ends_at = None if seconds is None else time.monotonic() + seconds

    def on_trial_end(self, record: TrialRecord, trials: Sequence[TrialRecord], hypervolume: float) -> None:
        """Count, redraw, now and then a line; a trial is told anew after every rung."""
        self._told += 1
        fates = {
            f: sum(t.status == f for t in trials) for f in ("infeasible", "failed", "paused", "pruned", "duplicate")
        }
        done = len(trials) - fates["duplicate"]
        best = max((t.val_accuracy or 0.0 for t in trials if t.within_budget), default=0.0)
        parts = [f"trial {done} of {self._goal}", f"{fates['infeasible']} infeasible"]
        parts += [f"{fates[f]} {f}" for f in ("paused", "pruned", "failed") if fates[f]]
        parts += [
            f"best within budget {best:.2%}" if best else "none within budget yet",
            f"hypervolume {hypervolume:.3f}",
        ]
        self._status = ", ".join(parts) + self._time_left(done, self._goal)
        self._details = {}
        if self._console.is_terminal:
            self._draw()
        elif self._told % LINES_EVERY == 0 or (done == self._goal and done > self._done):
            self._say(self._status)
        self._done = done
        if record.status == "failed":
            self._say(f"trial {record.number} failed: {record.reason}")

    def _time_left(self, done: int, total: int) -> str:
        now = time.monotonic()
        if self._begun is None:
            self._begun = (now, done)
            return ""
        started, first = self._begun
        if done <= first or done >= total:
            return ""
        left = (now - started) / (done - first) * (total - done)
        if self._ends_at is not None:
            left = min(left, max(0.0, self._ends_at - now))
        return f", about {_duration(left)} left"

    def on_finalist(self, done: int, total: int, description: str) -> None:
        """Count and redraw."""
        self._status = f"training finalists: {done} of {total}{self._time_left(done, total)}"
        self._details = {"finalist": description} if description else {}
        if self._console.is_terminal:
            self._draw()
        elif done % LINES_EVERY == 0 or done == total:
            self._say(self._status)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _ms(latency: Latency | None, unstable: str = UNSTABLE) -> str:
    if latency is None:
        return "-"
    figure = f"{latency.p50 * 1000:.3g} us" if latency.p50 < 1 else f"{latency.p50:.3g} ms"
    return f"{figure}{unstable if latency.unstable else ''}"


def _percent(accuracy: Accuracy) -> str:
    return f"{accuracy.mean:.1%} [{accuracy.low * 100:.1f}, {accuracy.high * 100:.1f}]"


def print_result(run: RunRecord, folder: Path) -> None:
    """The front as a table, then where the report and the winner lie."""
    console = Console()
    document = front_document(run)
    budget = ", ".join(f"{k} {v:g}" for k, v in run.config.get("budget", {}).items()) or "no limits"
    table = Table(title=f"Finalists of {escape(run.name)}, budget: {budget}", title_justify="left", box=box.SIMPLE)
    for column in ("", "test accuracy", "size", "latency", "recipe"):
        figures = column in ("size", "latency")
        whole = column in ("", "test accuracy", "size")
        table.add_column(column, justify="right" if figures else "left", no_wrap=whole, overflow="fold")
    by_id, shown = {f.id: f for f in run.finalists}, []
    for entry in document["candidates"]:
        finalist = by_id[entry["id"]]
        mark, recipe = _mark(entry, document["winner"]), escape(_recipe(finalist))
        table.add_row(mark, *_figures(finalist.test, finalist.costs, "*"), recipe)
        shown.append(finalist.costs)
    if run.teacher is not None and run.teacher.test is not None:
        table.add_row("teacher", *_figures(run.teacher.test, run.teacher.costs, "*"), "")
        shown.append(run.teacher.costs)
    console.print(table)
    if any(c.unstable for c in shown):
        console.print("* unstable: disturbed while it was measured; `nas-kd measure` repeats it")
    best = by_id.get(document["winner"] or "")
    if best is None:
        console.print("no finalist meets the budget; the report says how close they come")
    else:
        costs = describe_costs(best.costs, Budget.model_validate(run.config.get("budget") or {}))
        line = f"winner: {folder / 'winner' / 'student.onnx'}: {best.description}; {costs}"
        console.print(escape(line), soft_wrap=True, highlight=False)
    console.print(f"report: {folder / 'report' / 'index.html'}", soft_wrap=True, highlight=False)


def _mark(entry: Mapping[str, Any], winner: str | None) -> str:
    """What a finalist of front.json is: the winner, or why it cannot be."""
    if entry["id"] == winner:
        return "winner"
    if not entry["within_budget"]:
        return "over budget"
    return "" if entry.get("reaches_accuracy", True) else "inaccurate"


def _recipe(finalist: FinalistRecord) -> str:
    assistants = len(finalist.assistant_descriptions)
    chain = f", {assistants} assistant{'s' if assistants > 1 else ''}" if assistants else ""
    return f"{finalist.candidate['method']}, {finalist.candidate['precision']}{chain}"


def _figures(accuracy: Accuracy, costs: Costs, unstable: str = UNSTABLE) -> tuple[str, str, str]:
    return _percent(accuracy), f"{costs.require_size() / 1000:.1f} kB", _ms(costs.latency_ms, unstable)


def print_finalist(finalist: FinalistRecord, out: Path) -> None:
    """What was exported."""
    said = (f"trial {finalist.trial}", finalist.description, _recipe(finalist))
    figures = _figures(finalist.test, finalist.costs)
    Console().print(escape(f"{out}: {'; '.join((*said, *figures))}"), soft_wrap=True, highlight=False)


def print_distilled(distilled: DistillResult) -> None:
    """Student beside teacher."""
    Console().print(
        f"{escape(str(distilled.path))}: {escape(distilled.description)}, {escape(distilled.method)}; "
        f"test accuracy {_percent(distilled.test)} (teacher {distilled.teacher.val.mean:.2%} on validation), "
        f"{distilled.size_bytes / 1000:.1f} kB, {_ms(distilled.latency)}",
        soft_wrap=True,
        highlight=False,
    )


def print_plugins(kind: str, plugins: Mapping[str, Any]) -> None:
    """Name and summary of each; of methods, family by family, also what they need, their defaults and their source."""
    table = Table(Column("name", no_wrap=True), "what it is")
    family = _family if kind == "method" else (lambda _: "")
    for name, plugin in sorted(plugins.items(), key=lambda item: (family(item[1]), item[0])):
        summary = escape(getattr(plugin, "summary", ""))
        table.add_row(name, f"{summary}\n[dim]{escape(_facts(plugin))}[/dim]" if kind == "method" else summary)
    Console().print(table)


def _facts(method: Any) -> str:
    """`feature; needs features; CE x 1, gradient x 4; Romero 2015, arXiv:1412.6550`."""
    made = method()
    needs = ["several teachers"] if made.teachers == "several" else []
    needs += sorted(made.needs - {"logits", "network"})
    if made.teachers == "none" or made.generations:
        needs.append("no teacher")
    if "network" in made.needs:
        needs.append("the teacher's gradients but no training images")
    default = [f"CE x {made.ce_weight:g}"]
    if made.target_grad_ratio is not None and made.teachers != "none":
        default.append(f"gradient x {made.target_grad_ratio:g}")
    if "temperature" in made.tunable:
        default.append(f"T {made.temperature:g}")
    if made.train_cost_factor > 1:
        default.append(f"{made.train_cost_factor:.1f} networks")
    if made.generations:
        default.append(f"{made.generations} generations before")
    needed = [f"needs {', '.join(needs)}"] if needs else []
    return "; ".join([_family(method), *needed, ", ".join(default), made.source])


def _family(method: type) -> str:
    """The folder that the method lies in."""
    parts = method.__module__.split(".")
    return parts[-2].replace("_", " ") if len(parts) > 1 else ""
