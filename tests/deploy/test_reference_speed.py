import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_kd.deploy.reference_speed import CALIBRATE, KEEP, cache_folder, remember, usual_ms


def counting(start: float = 1.0) -> Callable[[], float]:
    values = iter(range(100))
    return lambda: start + next(values)


def unexpected() -> float:
    raise AssertionError("measured again")


def test_first_use_measures_then_remembers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speed.json"
    assert usual_ms(path, counting()) == 3  # the median of 1, 2, 3, 4, 5
    assert len(json.loads(path.read_text())) == CALIBRATE
    assert usual_ms(path, unexpected) == 3


def test_one_odd_time_hardly_matters_and_a_changed_machine_is_learnt(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    usual_ms(path, counting())
    remember(path, 50.0)
    assert usual_ms(path, unexpected) == 3.5
    for _ in range(KEEP):
        remember(path, 9.0)
    assert usual_ms(path, unexpected) == 9
    assert len(json.loads(path.read_text())) == KEEP


@pytest.mark.parametrize("damage", ["", "{", "[1.0, -2.0, 1.0, 1.0, 1.0]", '["a"]', "[NaN,1.0,1.0,1.0,1.0]", "3"])
def test_a_damaged_file_is_measured_afresh(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(damage)
    assert usual_ms(path, counting()) == 3
    assert usual_ms(path, unexpected) == 3


def test_where_nothing_can_be_kept_it_is_said_and_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "speed.json"
    with pytest.warns(UserWarning, match="cannot keep .* set NAS_KD_CACHE"):
        assert usual_ms(path, counting()) == 3
    assert usual_ms(path, unexpected) == 3


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NAS_KD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nas-kd"
    monkeypatch.setenv("NAS_KD_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
