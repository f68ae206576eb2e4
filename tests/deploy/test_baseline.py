"""The history of the reference's times, and the baseline that follows from it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_kd.latency.baseline import CALIBRATION_RUNS, HISTORY_LENGTH, BaselineHistory, cache_folder


def slow_at_first() -> Callable[[], float]:
    values = iter([1.6, 1.7, 1.0, 1.02, 1.04])
    return lambda: next(values)


def unexpected() -> float:
    raise AssertionError("measured again")


def test_first_use_measures_then_remembers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speed.json"
    assert BaselineHistory(path).baseline_ms(slow_at_first()) == 1.02  # the median of the undisturbed times
    assert len(json.loads(path.read_text())) == CALIBRATION_RUNS
    assert BaselineHistory(path).baseline_ms(unexpected) == 1.02


def test_neighbours_do_not_matter_and_a_changed_machine_is_learnt(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    history = BaselineHistory(path)
    history.baseline_ms(slow_at_first())
    for _ in range(20):
        history.add(1.6)
    assert history.baseline_ms(unexpected) == 1.02
    for _ in range(HISTORY_LENGTH):
        history.add(1.6)
    assert history.baseline_ms(unexpected) == 1.6
    for _ in range(HISTORY_LENGTH // 8):
        history.add(0.9)  # it is faster now
    assert history.baseline_ms(unexpected) == 0.9
    assert history.latest(3) == [0.9, 0.9, 0.9]
    assert len(json.loads(path.read_text())) == HISTORY_LENGTH


@pytest.mark.parametrize("damage", ["", "{", "[1.0, -2.0, 1.0, 1.0, 1.0]", '["a"]', "[NaN,1.0,1.0,1.0,1.0]", "3"])
def test_a_damaged_file_is_measured_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(damage)
    assert BaselineHistory(path).baseline_ms(slow_at_first()) == 1.02
    assert BaselineHistory(path).baseline_ms(unexpected) == 1.02


def test_where_no_file_can_be_written_a_warning_is_given_and_memory_is_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history = BaselineHistory(tmp_path / "file" / "speed.json")
    with pytest.warns(UserWarning, match="cannot keep .* set NAS_KD_CACHE"):
        assert history.baseline_ms(slow_at_first()) == 1.02
    assert history.baseline_ms(unexpected) == 1.02


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NAS_KD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nas-kd"
    monkeypatch.setenv("NAS_KD_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
    # Existing histories on users' machines are found under this name.
    assert BaselineHistory.of_device("small", "0123456789abcdef01")._path == Path(
        "/elsewhere/reference-small-0123456789abcdef.json"
    )
