import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_kd.latency.baseline import CALIBRATE, KEEP, baseline_ms, cache_folder, remember


def slow_at_first() -> Callable[[], float]:
    values = iter([1.6, 1.7, 1.0, 1.02, 1.04])
    return lambda: next(values)


def unexpected() -> float:
    raise AssertionError("measured again")


def test_first_use_measures_then_remembers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speed.json"
    assert baseline_ms(path, slow_at_first()) == 1.02  # the median of those in which nothing disturbed
    assert len(json.loads(path.read_text())) == CALIBRATE
    assert baseline_ms(path, unexpected) == 1.02


def test_neighbours_do_not_matter_and_a_changed_machine_is_learnt(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    baseline_ms(path, slow_at_first())
    for _ in range(20):
        remember(path, 1.6)
    assert baseline_ms(path, unexpected) == 1.02
    for _ in range(KEEP):
        remember(path, 1.6)
    assert baseline_ms(path, unexpected) == 1.6
    for _ in range(KEEP // 8):
        remember(path, 0.9)  # it is faster now
    assert baseline_ms(path, unexpected) == 0.9
    assert len(json.loads(path.read_text())) == KEEP


@pytest.mark.parametrize("damage", ["", "{", "[1.0, -2.0, 1.0, 1.0, 1.0]", '["a"]', "[NaN,1.0,1.0,1.0,1.0]", "3"])
def test_a_damaged_file_is_measured_afresh(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(damage)
    assert baseline_ms(path, slow_at_first()) == 1.02
    assert baseline_ms(path, unexpected) == 1.02


def test_where_nothing_can_be_kept_it_is_said_and_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "speed.json"
    with pytest.warns(UserWarning, match="cannot keep .* set NAS_KD_CACHE"):
        assert baseline_ms(path, slow_at_first()) == 1.02
    assert baseline_ms(path, unexpected) == 1.02


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NAS_KD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nas-kd"
    monkeypatch.setenv("NAS_KD_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
