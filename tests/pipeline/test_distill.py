"""One student without a search; and what the other commands say of its space and its file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas_kd.api import distill
from nas_kd.cli import app
from nas_kd.config import SearchConfig
from nas_kd.config_file import dump_config
from nas_kd.errors import InputError
from nas_kd.files import sha256
from nas_kd.models.search_space import SearchSpace
from nas_kd.pipeline.networks import load_space
from nas_kd.pipeline.run import search

from .conftest import small_config


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("resnet")


def with_student(space: SearchSpace, rung: int) -> SearchConfig:
    return small_config().model_copy(update={"student": space.ladder(6)[rung].to_json()})


def test_distill_then_measure_its_file(space: SearchSpace, tmp_path: Path) -> None:
    done = distill(with_student(space, 1), run_dir=tmp_path / "run")
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert done.method == "soft_targets"
    assert done.test.low <= done.test.mean <= done.test.high
    assert done.path.stat().st_size == done.size_bytes
    assert card["sha256"] == sha256(done.path.read_bytes())
    assert card["candidate"]["student"] == space.ladder(6)[1].to_json()
    said = CliRunner().invoke(app, ["measure", str(done.path)])
    assert said.exit_code == 0, said.output
    assert f"{done.size_bytes / 1000:.1f} kB" in said.output
    assert "samples/s" in said.output


def test_a_student_of_another_space_or_out_of_range_is_refused(space: SearchSpace, tmp_path: Path) -> None:
    config = small_config().model_copy(update={"student": {"space": "mobilenet"}})
    with pytest.raises(InputError, match=r"student.space is 'mobilenet', but space.name is 'resnet'"):
        distill(config, run_dir=tmp_path / "a")
    config = small_config().model_copy(update={"student": {**space.ladder(2)[0].choices, "width_1": 5}})
    with pytest.raises(InputError, match="width_1 must be one of"):
        distill(config, run_dir=tmp_path / "b")


def test_profile(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(dump_config(small_config()))
    said = CliRunner().invoke(app, ["profile", str(path), "--sample", "4"])
    assert said.exit_code == 0, said.output
    assert "176,640 students; 4 of them measured" in said.output
    assert "reachable" in said.output


def test_a_search_out_of_time_still_has_a_result(tmp_path: Path) -> None:
    config = small_config(search={"max_minutes": 1e-6, "trials": 50}, finalists={"seeds": 1, "controls": False})
    run = search(config, tmp_path / "run")
    assert [t.fate for t in run.trials] == ["finished"]
    assert len(run.finalists) == 1


def test_a_teacher_whose_training_diverges_is_said(tmp_path: Path) -> None:
    config = small_config(distill={"learning_rate": 1e30, "clip_norm": 1e30})
    with pytest.raises(InputError, match="teacher: its training failed: the loss became"):
        search(config, tmp_path / "run")
