"""Callbacks: events reach all of them, a stop is clean, and a failing one is named."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from nas_kd.context.callbacks import Callback, CallbackList, EpochEnd, StopRun, as_callback
from nas_kd.errors import CallbackError, InputError
from nas_kd.results.trial_record import Judged

EVENTS: dict[str, tuple[Any, ...]] = {
    "on_start": ("runs/a", False),
    "on_stage": ("training",),
    "on_note": ("a note",),
    "on_teacher": ("record",),
    "on_search_start": (5, None),
    "on_trial_end": ("record", ["record"], 0.5),
    "on_measured": (1, 2),
    "on_progress": ("epoch", 1, 2),
    "on_epoch_end": (EpochEnd("student", 1, 2, {"ce": 1.0}, 0.1, 2.0),),
    "on_finalist": (1, 2, "a network"),
    "on_finish": ("run", ["finalist"]),
}


class Recorder(Callback):
    """Keeps every event that it receives."""

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in EVENTS:
            return lambda *event: self.events.append((name, event))
        return super().__getattribute__(name)


class Raising(Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_stage(self, text: str) -> None:
        raise self.error


def test_every_hook_of_the_base_class_is_known_and_passed_on() -> None:
    assert {name for name in vars(Callback) if name.startswith("on_")} == set(EVENTS)
    recorders = [Recorder(), Recorder()]
    both, silent = CallbackList(recorders), Callback()
    for name, event in EVENTS.items():
        getattr(both, name)(*event)
        assert getattr(silent, name)(*event) is None
    assert recorders[0].events == recorders[1].events == list(EVENTS.items())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (RuntimeError(), "RuntimeError"),
        (InputError("mine"), "InputError: mine"),
    ],
)
def test_an_error_names_the_callback_and_the_hook(error: Exception, reason: str) -> None:
    with pytest.raises(CallbackError) as caught:
        CallbackList([Recorder(), Raising(error)]).on_stage("training")
    assert str(caught.value) == f"callback Raising.on_stage raised {reason}"
    assert caught.value.__cause__ is error
    assert isinstance(caught.value, InputError)


def test_an_error_within_a_list_of_lists_is_wrapped_once() -> None:
    with pytest.raises(CallbackError, match=r"^callback Raising\.on_stage raised KeyError: 'a'$"):
        CallbackList([CallbackList([Raising(KeyError("a"))])]).on_stage("training")


def test_a_stop_is_raised_after_the_others_have_had_the_event() -> None:
    after = Recorder()
    with pytest.raises(StopRun):
        CallbackList([Raising(StopRun()), after]).on_stage("training")
    assert after.events == [("on_stage", ("training",))]


def test_an_interrupt_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        CallbackList([Raising(KeyboardInterrupt())]).on_stage("training")


def test_what_a_user_passes_becomes_one_callback() -> None:
    assert type(as_callback(None)) is Callback
    recorders = [Recorder(), Recorder()]
    wrapped = as_callback(recorders)
    assert as_callback(wrapped) is wrapped
    wrapped.on_note("both")
    as_callback(recorders[0]).on_note("one")
    as_callback(()).on_note("none")
    assert [len(r.events) for r in recorders] == [2, 1]
    with pytest.raises(CallbackError):
        as_callback(Raising(ValueError())).on_stage("a single one is named, too")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([print], "want instances of nas_kd.Callback, got builtin_function_or_method"),
        (print, "want instances of nas_kd.Callback, got builtin_function_or_method"),
        ([Recorder], r"Recorder is a class; pass an instance, Recorder\(\)"),
        (Recorder, r"Recorder is a class; pass an instance, Recorder\(\)"),
        ("log.csv", "want instances of nas_kd.Callback, got str"),
    ],
)
def test_what_is_no_callback_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^callbacks: {message}[^\n]*$"):
        as_callback(given)


def event(judge: Callable[[], Judged | None]) -> EpochEnd:
    return EpochEnd("student", 1, 3, {}, 0.1, 1.0, judge)


def test_the_validation_accuracy_is_computed_once_and_only_if_it_is_read() -> None:
    calls: list[int] = []

    def judge() -> Judged:
        calls.append(1)
        return Judged(0.75, 0.5)

    read, unread = event(judge), event(judge)
    assert [read.val_accuracy, read.val_score, read.val_accuracy] == [0.75, 0.5, 0.75]
    assert calls == [1]
    assert "0.75" not in repr(unread)
    assert EpochEnd("student", 1, 3, {}, 0.1, 1.0).val_accuracy is None


def test_callbacks_need_no_torch() -> None:
    code = "import sys, nas_kd.context.callbacks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
