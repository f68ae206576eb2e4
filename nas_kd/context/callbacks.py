"""What a run tells whoever watches it; the base class keeps quiet."""

from collections.abc import Sequence

from nas_kd.results.records import FinalistRecord, RunRecord, TeacherRecord, TrialRecord


class Callback:
    """Receives events; the command line draws them, tests may collect them."""

    def on_start(self, run_dir: str, resumed: bool) -> None:
        """The run's folder is open and locked."""

    def on_stage(self, text: str) -> None:
        """A new step begins."""

    def on_note(self, text: str) -> None:
        """Something that the user should know."""

    def on_teacher(self, record: TeacherRecord) -> None:
        """The teacher is ready."""

    def on_search_start(self, trials: int, seconds: float | None) -> None:
        """The search proper begins; it ends after so many candidates, or, unless None, so many seconds from now."""

    def on_trial_end(self, record: TrialRecord, trials: Sequence[TrialRecord], hypervolume: float) -> None:
        """A trial has ended; `trials` are all so far."""

    def on_measured(self, done: int, total: int) -> None:
        """So many networks of a sample have been measured."""

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Something long has come a step further, here or in a worker. `what`: with the unit, "training A: epoch"."""

    def on_finalist(self, done: int, total: int, description: str) -> None:
        """One of the finalists' or controls' trainings has ended."""

    def on_finish(self, run: RunRecord, finalists: Sequence[FinalistRecord]) -> None:
        """The run is over."""
