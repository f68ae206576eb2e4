"""Progress on the command line: live on a terminal, as a few lines elsewhere."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nas_kd.cli.figures import milliseconds, print_plain, size_and_latency
from nas_kd.cli.terminal import Terminal
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder
from nas_kd.results.run_record import NO_SCORE, TeacherRecord
from nas_kd.results.trial_record import Costs, TrialRecord, TrialStatus
from nas_kd.scores.base import DEFAULT_SCORE, Score
from nas_kd.tasks.base import load_task

# Without a terminal:
LINE_EVERY = 10  # trials or trainings
FIRST_SILENCE_S = 5.0  # of a stage's long work before a line says how far it is; each silence is twice the last ...
MAX_SILENCE_S = 60.0  # ... up to this
OPTIONAL_COUNTS: tuple[TrialStatus, ...] = ("paused", "pruned", "failed")  # shown if there are any
HYPERVOLUME = (
    "hypervolume (below) sums up in one number how much smaller and faster than the teacher the candidates "
    "are at the score that they keep; 1 is the teacher's score at a tenth of its size and latency, and it only rises"
)


class ConsoleCallback(Callback):
    """Prints the progress of a run to stderr.

    On a terminal, a few live lines. Elsewhere one line per stage, one for the search's first training and first trial,
    one per ten trials, and for long work one after 5 s, then each time after twice as long, a minute at most.

    Inside its context everything else that is written to the terminal goes to the run's log, see `Terminal`.

    Args:
        config: of the run; its number of trials and its score are used.
        verbose: leave the terminal to all, and show log messages.
    """

    def __init__(self, config: SearchConfig, verbose: bool = False) -> None:
        self._terminal = Terminal(verbose)
        self._console = Console(stderr=True)
        self._n_trials = config.search.trials
        self._headline = load_task(config.data.task).headline_score
        self._score = load_task(config.data.task).score(config.data.score)
        self._live: Live | None = None
        self._status = ""
        self._comparable = True  # whether every teacher's size and latency are known
        self._details: dict[str, str] = {}  # work in progress -> how far it is
        self._trial_events = self._trials_done = 0
        self._first_progress: tuple[float, int] | None = None  # time and count, to estimate the time left from
        self._deadline: float | None = None
        self._last_line_at = time.monotonic()
        self._silence_s = FIRST_SILENCE_S  # that is kept before the next line about long work

    def __enter__(self) -> "ConsoleCallback":
        self._console = Console(file=self._terminal.open())
        if self._console.is_terminal and not self._terminal.verbose:
            self._live = Live(
                console=self._console,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._terminal.close()
        self._console = Console(stderr=True)

    def _print_line(self, text: str) -> None:
        self._last_line_at = time.monotonic()
        print_plain(self._console, text)

    def _redraw(self) -> None:
        if self._live is not None:
            self._live.update(Text("\n  ".join([self._status, *self._details.values()]), style="cyan"))

    def on_start(self, run_dir: str, resumed: bool) -> None:
        """Print the run's folder, and whether the run is resumed."""
        self._terminal.write_to(RunFolder(Path(run_dir)).log)
        self._print_line(f"{'resuming' if resumed else 'run folder'}: {run_dir}")

    def on_stage(self, text: str) -> None:
        """Show the new stage and forget the progress of the last one."""
        self._status, self._details, self._first_progress, self._deadline = text, {}, None, None
        self._silence_s = FIRST_SILENCE_S
        if self._live is not None:
            self._redraw()
        else:
            self._print_line(f"{text} ...")

    def on_note(self, text: str) -> None:
        """Print a note to the user."""
        self._print_line(f"note: {text}")

    def on_teacher(self, record: TeacherRecord) -> None:
        """Print the teacher's score, size and latency."""
        costs, score = record.costs, ""
        self._comparable = self._comparable and costs.size_bytes is not None and costs.latency_ms is not None
        accuracy = NO_SCORE if record.val is None else f"{record.val.mean:.2%}"
        if self._score.name != self._headline.name and record.val_score is not None:
            score = f"{self._score.title} {record.val_score.mean:.2%}, "
        self._print_line(
            f"teacher: {record.description}; validation {self._headline.title} {accuracy}, {score}"
            f"{size_and_latency(costs)}"
        )

    def on_measured(self, done: int, total: int) -> None:
        """Show how many networks of a sample have been measured."""
        progress = f"{done} of {total}{self._time_left(done, total)}"
        self._details = {"measured": progress}
        if self._live is not None:
            self._redraw()
        elif done % LINE_EVERY == 0:
            self._print_line(f"{self._status}: {progress}")

    def print_costs(self, description: str, precision: str, costs: Costs, within_budget: bool) -> None:
        """Print a network of a sample with its costs."""
        figures = [
            f"{costs.require_size() / 1000:.1f} kB",
            milliseconds(costs.latency_ms),
            f"{costs.macs:,} multiply-adds",
        ]
        if costs.memory_bytes is not None:
            figures.append(f"{costs.memory_bytes / 1000:.0f} kB of memory")
        fits = "" if within_budget else "; over the budget"
        self._print_line(f"{precision}  {', '.join(figures)}: {description}{fits}")

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Show how far long work is; without a terminal, only after a while without a line."""
        if done < total:
            self._details[what] = f"{what} {done} of {total}"
        else:
            self._details.pop(what, None)
        if self._live is not None:
            self._redraw()
        elif self._details and self._is_silent_for_long():
            self._print_line("; ".join([self._status, *self._details.values()]))
            self._silence_s = max(FIRST_SILENCE_S, 2 * self._silence_s)

    def _is_silent_for_long(self) -> bool:
        return time.monotonic() - self._last_line_at >= min(self._silence_s, MAX_SILENCE_S)

    def on_search_start(self, trials: int, seconds: float | None) -> None:
        """Show that the search begins, and note its limits for the time left."""
        self._n_trials = trials
        self.on_stage("searching")
        if self._comparable:
            self._print_line(f"note: {HYPERVOLUME}")
        self._silence_s = 0.0  # the first training is shown at once
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def on_trial_end(self, record: TrialRecord, trials: Sequence[TrialRecord], hypervolume: float) -> None:
        """Show the state of the search; called for a trial again after each of its rungs."""
        self._trial_events += 1
        done = sum(t.status != "duplicate" for t in trials)
        status = _search_status(trials, self._n_trials, hypervolume if self._comparable else None, self._score)
        self._status = status + self._time_left(done, self._n_trials)
        self._details = {}
        if self._live is not None:
            self._redraw()
        elif self._is_worth_a_line(done):
            self._print_line(self._status)
            self._silence_s = max(FIRST_SILENCE_S, 2 * self._silence_s)
        self._trials_done = done
        if record.status == "failed":
            self._print_line(f"trial {record.number} failed: {record.reason}")

    def _is_worth_a_line(self, done: int) -> bool:
        """Whether a trial's end is shown without a terminal: of the first, of every tenth, of the last, after long."""
        last = done == self._n_trials and done > self._trials_done
        return self._trial_events == 1 or self._trial_events % LINE_EVERY == 0 or last or self._is_silent_for_long()

    def _time_left(self, done: int, total: int) -> str:
        now = time.monotonic()
        if self._first_progress is None:
            self._first_progress = (now, done)
            return ""
        started, first = self._first_progress
        if done <= first or done >= total:
            return ""
        left = (now - started) / (done - first) * (total - done)
        if self._deadline is not None:
            left = min(left, max(0.0, self._deadline - now))
        return f", about {_duration(left)} left"

    def on_finalist(self, done: int, total: int, description: str) -> None:
        """Show how many trainings of finalists and controls are done."""
        self._status = f"training finalists: {done} of {total}{self._time_left(done, total)}"
        self._details = {"finalist": description} if description else {}
        if self._live is not None:
            self._redraw()
        elif done % LINE_EVERY == 0 or done == total:
            self._print_line(self._status)


def _search_status(trials: Sequence[TrialRecord], n_trials: int, hypervolume: float | None, score: Score) -> str:
    """`trial 20 of 60, 3 infeasible, 4 paused, best within budget 97.20%, hypervolume 1.234`.

    Against a teacher of unknown size and latency there is no hypervolume.
    """
    counts = Counter(t.status for t in trials)
    best = max((t.val_score or 0.0 for t in trials if t.within_budget), default=0.0)
    parts = [f"trial {len(trials) - counts['duplicate']} of {n_trials}", f"{counts['infeasible']} infeasible"]
    parts += [f"{counts[status]} {status}" for status in OPTIONAL_COUNTS if counts[status]]
    named = "" if score.name == DEFAULT_SCORE else f"{score.title} "
    parts.append(f"best within budget {named}{best:.2%}" if best else "none within budget yet")
    if hypervolume is not None:
        parts.append(f"hypervolume {hypervolume:.3f}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
