"""Callbacks: what a run reports while it works, and how to stop it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from nas_kd.errors import CallbackError, InputError
from nas_kd.results.finalist_record import FinalistRecord
from nas_kd.results.run_record import RunRecord, TeacherRecord
from nas_kd.results.trial_record import Judged, TrialRecord
from nas_kd.user_code import unchanged_settings

if TYPE_CHECKING:
    from nas_kd.engine.training import Training


class StopRun(Exception):
    """Raised by a callback to stop cleanly: what has been reached so far is the result.

    Examples:
        >>> import nas_kd, torch
        >>> class StopAtTwo(nas_kd.Callback):
        ...     def on_epoch_end(self, event):
        ...         print(f"epoch {event.epoch} of {event.epochs}")
        ...         if event.epoch == 2:
        ...             raise nas_kd.StopRun("enough")
        >>> train = torch.randn(32, 8), torch.arange(32) % 2
        >>> nas_kd.distill(torch.nn.Linear(8, 2), train=train, method="none", epochs=50, callbacks=StopAtTwo())
        epoch 1 of 50
        epoch 2 of 50
        Linear(in_features=8, out_features=2, bias=True)
    """


@dataclass(frozen=True)
class EpochEnd:
    """The state of a training at the end of an epoch.

    Attributes:
        what: the network that is trained, for people, e.g. "student".
        epoch: epochs that are done, from 1.
        epochs: length of the schedule.
        losses: means over the epoch of cross-entropy (`ce`) and of the method's terms, by name, unweighted.
        learning_rate: of the epoch's last step.
        seconds: spent on training so far.

    Examples:
        >>> import nas_kd
        >>> event = nas_kd.EpochEnd("student", 3, 30, {"ce": 0.41, "soft_targets": 1.2}, learning_rate=0.1, seconds=2.5)
        >>> {name: loss for name, loss in event.losses.items() if name != "ce"}
        {'soft_targets': 1.2}
    """

    what: str
    epoch: int
    epochs: int
    losses: Mapping[str, float]
    learning_rate: float
    seconds: float
    _judge: Callable[[], Judged | None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def val_accuracy(self) -> float | None:
        """Validation accuracy of the averaged weights, 0..1; None without validation data.

        It is computed when it is first read, which takes one pass over the validation data, and has to be read while
        the callback runs.
        """
        return None if self._judged is None else self._judged.accuracy

    @property
    def val_score(self) -> float | None:
        """The run's score (`data.score`) on validation, likewise; without a run, the accuracy."""
        return None if self._judged is None else self._judged.score

    @cached_property
    def _judged(self) -> Judged | None:
        return self._judge()

    @staticmethod
    def of(training: "Training", what: str, judge: Callable[[], Judged | None] = lambda: None) -> "EpochEnd":
        """Describe a training right after an epoch.

        Args:
            training: in the state after the epoch.
            what: the network, for people.
            judge: judges the averaged weights on validation; called at most once.
        """
        epoch = training.epoch

        def judge_epoch() -> Judged | None:
            if training.epoch != epoch:
                raise InputError(
                    f"val_accuracy of epoch {epoch} can be read in on_epoch_end only, training has gone on"
                )
            return judge()

        return EpochEnd(
            what=what,
            epoch=epoch,
            epochs=training.setup.schedule.epochs,
            losses=dict(training.losses),
            learning_rate=training.learning_rate,
            seconds=training.seconds,
            _judge=judge_epoch,
        )


class Callback:
    """Receives what a run reports; derive from it and override what you need, the base class does nothing.

    Any method may raise `StopRun` to stop the run cleanly.

    Examples:
        >>> import nas_kd, torch
        >>> class Losses(nas_kd.Callback):
        ...     def __init__(self):
        ...         self.names = []
        ...     def on_epoch_end(self, event):
        ...         self.names.append(sorted(event.losses))
        >>> losses, train = Losses(), (torch.randn(32, 8), torch.arange(32) % 2)
        >>> student, teacher = torch.nn.Linear(8, 2), torch.nn.Linear(8, 2)
        >>> student = nas_kd.distill(student, teacher, train=train, epochs=2, callbacks=[losses])
        >>> losses.names
        [['ce', 'soft_targets'], ['ce', 'soft_targets']]
    """

    def on_start(self, run_dir: str, resumed: bool) -> None:
        """Called once the run's folder is open and locked.

        Args:
            run_dir: the folder.
            resumed: whether it held an unfinished run, which goes on.
        """

    def on_stage(self, text: str) -> None:
        """Called when a new stage of the run begins, e.g. "preparing the teacher"."""

    def on_note(self, text: str) -> None:
        """Called with anything unusual that the user should know."""

    def on_teacher(self, record: TeacherRecord) -> None:
        """Called for each teacher once it is trained or loaded, and measured."""

    def on_search_start(self, trials: int, seconds: float | None) -> None:
        """Called when candidates begin to be proposed.

        Args:
            trials: the search ends after this many candidates,
            seconds: or after this time, unless it is None.
        """

    def on_trial_end(self, record: TrialRecord, trials: Sequence[TrialRecord], hypervolume: float) -> None:
        """Called when a trial has ended, whatever its status.

        Args:
            record: the trial.
            trials: all trials so far.
            hypervolume: normalized hypervolume of the front so far, >= 0.
        """

    def on_measured(self, done: int, total: int) -> None:
        """Called when another network of a sample of the space has been measured.

        Args:
            done: networks measured so far.
            total: networks in the sample.
        """

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Called when something long has advanced by a step, in this process or a worker.

        Args:
            what: the activity, with the unit of its steps: "training A: epoch".
            done: steps done.
            total: steps in all.
        """

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Called when a training in this process has finished an epoch."""

    def on_finalist(self, done: int, total: int, description: str) -> None:
        """Called when a training of a finalist or a control has ended.

        Args:
            done: such trainings ended so far.
            total: such trainings in all, as far as known.
            description: the network, for people.
        """

    def on_finish(self, run: RunRecord, finalists: Sequence[FinalistRecord]) -> None:
        """Called at the end of the run with all that is known of it."""


class CallbackList(Callback):
    """Passes every event on to several callbacks, in their order.

    `StopRun` from one of them is raised after the others have had the event, too. Any other exception becomes a
    `CallbackError` that names the callback.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        """Wrap callbacks in one.

        Args:
            callbacks: instances of `Callback`.

        Raises:
            InputError: something else is among them.
        """
        for callback in callbacks:
            if isinstance(callback, type) and issubclass(callback, Callback):
                raise InputError(f"callbacks: {callback.__name__} is a class; pass an instance, {callback.__name__}()")
            if not isinstance(callback, Callback):
                kind = type(callback).__name__
                raise InputError(f"callbacks: want instances of nas_kd.Callback, got {kind}; derive a class from it")
        self._callbacks = tuple(callbacks)

    def _call(self, hook: str, *event: object) -> None:
        stop: StopRun | None = None
        for callback in self._callbacks:
            try:
                with unchanged_settings():
                    getattr(callback, hook)(*event)
            except StopRun as error:
                stop = stop or error
            except CallbackError:  # of a list within this one
                raise
            except Exception as error:
                reason = ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())]))
                raise CallbackError(f"callback {type(callback).__name__}.{hook} raised {reason}") from error
        if stop is not None:
            raise stop

    def on_start(self, run_dir: str, resumed: bool) -> None:
        """Pass on that the run's folder is open and locked."""
        self._call("on_start", run_dir, resumed)

    def on_stage(self, text: str) -> None:
        """Pass on that a new stage begins."""
        self._call("on_stage", text)

    def on_note(self, text: str) -> None:
        """Pass on what the user should know."""
        self._call("on_note", text)

    def on_teacher(self, record: TeacherRecord) -> None:
        """Pass on that a teacher is ready."""
        self._call("on_teacher", record)

    def on_search_start(self, trials: int, seconds: float | None) -> None:
        """Pass on that candidates begin to be proposed."""
        self._call("on_search_start", trials, seconds)

    def on_trial_end(self, record: TrialRecord, trials: Sequence[TrialRecord], hypervolume: float) -> None:
        """Pass on that a trial has ended."""
        self._call("on_trial_end", record, trials, hypervolume)

    def on_measured(self, done: int, total: int) -> None:
        """Pass on that another network has been measured."""
        self._call("on_measured", done, total)

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Pass on that something long has advanced."""
        self._call("on_progress", what, done, total)

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Pass on that an epoch has ended."""
        self._call("on_epoch_end", event)

    def on_finalist(self, done: int, total: int, description: str) -> None:
        """Pass on that a training of a finalist has ended."""
        self._call("on_finalist", done, total, description)

    def on_finish(self, run: RunRecord, finalists: Sequence[FinalistRecord]) -> None:
        """Pass on that the run is over."""
        self._call("on_finish", run, finalists)


def as_callback(callbacks: Callback | Sequence[Callback] | None) -> Callback:
    """Make one callback of what a user passed: one, several or none.

    Raises:
        InputError: something is not an instance of `Callback`.
    """
    if callbacks is None:
        return Callback()
    if isinstance(callbacks, CallbackList):
        return callbacks
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Sequence):
        return CallbackList([callbacks])
    return CallbackList(callbacks)
