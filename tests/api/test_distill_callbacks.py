"""What callbacks see of a training, and how they stop it."""

from functools import partial

import pytest
from torch.utils.data import DataLoader

from nas_kd.commands.distill_modules import distill
from nas_kd.context.callbacks import EpochEnd, StopRun
from nas_kd.errors import CallbackError, InputError

from .toys import Items, Log, Net, accuracy, net, same, samples, state, trained


def test_epochs_are_reported(teacher: Net) -> None:
    log = Log()
    student = net()
    distill(student, teacher, train=samples(), val=samples(30, seed=1), epochs=3, batch_size=32, callbacks=[log])
    assert [(e.what, e.epoch, e.epochs) for e in log.epochs] == [("student", i, 3) for i in (1, 2, 3)]
    assert log.steps == [("training student: epoch", i, 3) for i in (1, 2, 3)]
    assert all(set(e.losses) == {"ce", "soft_targets"} for e in log.epochs)
    assert log.epochs[-1].learning_rate == pytest.approx(0.0, abs=1e-9)
    assert [e.seconds for e in log.epochs] == sorted(e.seconds for e in log.epochs)
    assert log.epochs[-1].val_accuracy == accuracy(student, *samples(30, seed=1))
    with pytest.raises(InputError, match="val_accuracy of epoch 1 can be read in on_epoch_end only"):
        _ = log.epochs[0].val_accuracy


def test_reading_the_accuracy_changes_nothing(teacher: Net) -> None:
    found: list[float | None] = []

    class Reading(Log):
        def on_epoch_end(self, event: EpochEnd) -> None:
            found.append(event.val_accuracy)

    noisy = DataLoader(Items(*samples(30, seed=1), noise=0.1), 8, shuffle=True)
    run = partial(trained, teacher, samples(), "soft_targets+dml", val=noisy, epochs=3)
    assert same(run(callbacks=Reading()), run())
    assert all(isinstance(accuracy, float) for accuracy in found)
    trained(teacher, samples(), callbacks=Reading())
    assert found[3:] == [None, None]


def test_a_stop_returns_the_averaged_weights_so_far(teacher: Net) -> None:
    stopped, other = Log(StopRun(), at=2), Log()
    student = net()
    distill(student, teacher, train=samples(), epochs=6, batch_size=32, callbacks=[stopped, other])
    assert [e.epoch for e in other.epochs] == [1, 2]
    assert not student.training

    class Live(Log):
        def on_epoch_end(self, event: EpochEnd) -> None:
            if event.epoch == 2:
                raise KeyboardInterrupt

    live = net()
    with pytest.raises(KeyboardInterrupt):
        distill(live, teacher, train=samples(), epochs=6, batch_size=32, callbacks=Live())
    assert not same(state(live), state(student))
    assert not same(state(live), state(net()))


def test_a_stop_ends_earlier_generations_too() -> None:
    log = Log(StopRun(), at=1)
    student = net()
    distill(student, train=samples(), method="born_again", epochs=2, callbacks=log)
    assert len(log.epochs) == 1
    assert same(state(student), state(net()))


def test_a_callback_that_fails_leaves_the_weights_reached(teacher: Net) -> None:
    class CsvLogger(Log):
        pass

    student, weights = net(), []

    class Watching(Log):
        def on_epoch_end(self, event: EpochEnd) -> None:
            weights.append(state(student))

    failing = CsvLogger(ZeroDivisionError("division by zero"))
    with pytest.raises(CallbackError) as caught:
        distill(student, teacher, train=samples(), epochs=5, callbacks=[Watching(), failing])
    assert str(caught.value) == "callback CsvLogger.on_epoch_end raised ZeroDivisionError: division by zero"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert same(state(student), weights[1])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules())
