"""What the command line prints of a search, on a terminal and elsewhere."""

import re
from pathlib import Path

import pytest

from nas_kd.cli.console import ConsoleCallback
from nas_kd.cli.printed_results import print_result
from nas_kd.config.options import SearchConfig
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs
from tests.records import costs, finalist, run, teacher, trial

SEARCH = SearchConfig()


def _end_trials(callback: ConsoleCallback, number: int) -> None:
    trials = [trial(n, 0.9, 1000, 0.1) for n in range(number)]
    for n in range(1, number + 1):
        callback.on_trial_end(trials[n - 1], trials[:n], 0.5)


def test_time_left_is_at_most_the_search_time_limit(capsys: pytest.CaptureFixture[str]) -> None:
    with ConsoleCallback(SEARCH) as callback:
        callback.on_search_start(10**12, None)
        _end_trials(callback, 20)
        callback.on_search_start(10**12, 3600.0)
        _end_trials(callback, 20)
    unlimited, limited = re.findall(r"trial 20 of .*, about (.*) left", capsys.readouterr().err)
    assert int(unlimited.removesuffix(" min")) > 60
    assert limited == "60 min"


def test_terminal_shows_all_work_in_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    with ConsoleCallback(SEARCH) as callback:
        callback.on_search_start(40, None)
        callback.on_progress("training A: epoch", 1, 3)
        callback.on_progress("training B: epoch", 2, 3)
        callback.on_progress("training A: epoch", 3, 3)
        callback.on_progress("training C: epoch", 1, 9)
    last = capsys.readouterr().err.rpartition("searching")[2]
    assert "training B: epoch 2 of 3" in last
    assert "training C: epoch 1 of 9" in last
    assert "training A" not in last


def test_long_work_is_not_silent_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas_kd.cli.console.MAX_SILENCE_S", 0.0)
    with ConsoleCallback(SEARCH) as callback:
        callback.on_stage("preparing the teacher")
        callback.on_progress("training A: epoch", 1, 3)
        callback.on_progress("training A: epoch", 3, 3)
    assert capsys.readouterr().err.splitlines()[1:] == ["preparing the teacher; training A: epoch 1 of 3"]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The console's clock, which stands still; its one number may be changed."""
    clock = [0.0]
    monkeypatch.setattr("nas_kd.cli.console.time.monotonic", lambda: clock[0])
    return clock


@pytest.mark.usefixtures("now")
def test_the_searchs_first_training_and_trial_are_shown_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ConsoleCallback(SEARCH) as callback:
        callback.on_search_start(60, None)
        for epoch in range(1, 9):
            callback.on_progress("training A: epoch", epoch, 9)
        _end_trials(callback, 9)
    begun, hypervolume, training, trial_line = capsys.readouterr().err.splitlines()
    assert begun == "searching ..."
    assert hypervolume.startswith("note: hypervolume (below) sums up in one number how much smaller and faster")
    assert training == "searching; training A: epoch 1 of 9"
    assert trial_line.startswith("trial 1 of 60, ")


def test_trials_without_a_training_are_not_all_shown_without_a_terminal(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with ConsoleCallback(SEARCH) as callback:
        callback.on_search_start(60, None)
        for number in range(1, 21):
            now[0] += 0.1
            trials = [trial(k, None, 1000, 0.1, status="infeasible") for k in range(number)]
            callback.on_trial_end(trials[-1], trials, 0.0)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trial ")]
    assert [line.split(" of ")[0] for line in lines] == ["trial 1", "trial 10", "trial 20"]


def test_silence_of_long_work_grows_to_a_minute_and_begins_anew_with_each_stage(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:

    def shown(seconds: int) -> list[int]:
        """When lines came, of an epoch each second."""
        callback.on_stage("preparing the teacher")
        begun = now[0]
        for epoch in range(1, seconds):
            now[0] = begun + epoch
            callback.on_progress("training A: epoch", epoch, seconds)
        return [int(n) for n in re.findall(r"epoch (\d+) of", capsys.readouterr().err)]

    with ConsoleCallback(SEARCH) as callback:
        assert shown(300) == [5, 15, 35, 75, 135, 195, 255]
        assert shown(30) == [5, 15]


def test_no_word_on_hypervolume_where_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with ConsoleCallback(SEARCH) as callback:
        callback.on_teacher(teacher().model_copy(update={"costs": Costs(parameters=1, macs=1)}))
        callback.on_search_start(60, None)
        _end_trials(callback, 1)
    assert "hypervolume" not in capsys.readouterr().err


def test_epochs_are_not_printed_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ConsoleCallback(SEARCH) as callback:
        callback.on_stage("preparing the teacher")
        for epoch in range(1, 31):
            callback.on_progress("training A: epoch", epoch, 30)
    assert capsys.readouterr().err == "preparing the teacher ...\n"


def test_finalists_fit_into_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    disturbed = costs(98_300, 0.0654).model_copy(
        update={"latency_ms": Latency(p50=0.0654, p90=0.09, low=0.06, high=0.07, unstable=True)}
    )
    finalists = (finalist("A", 0.9, 1, None, costs=disturbed), finalist("B", 0.8, 5000, 0.02))
    print_result(run(finalists=finalists), Path("x"))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "98.3 kB" in line and "65.4 us*" in line and "soft_targets, fp32" in line]
    assert [line for line in lines if "5.0 kB" in line and "20 us " in line]
    assert [line for line in lines if line.startswith("* unstable")]


def test_stable_latencies_have_no_footnote(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(run(finalists=(finalist("A", 0.9, 5000, 0.02),)), Path("x"))
    assert "unstable" not in capsys.readouterr().out
