"""A look before a search: what is measured is real, what is estimated follows the plan, and nothing is left behind."""

import json
import tempfile
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas_kd.cli.app import app
from nas_kd.cli.profile_table import print_profile, profile_json
from nas_kd.commands import profile
from nas_kd.commands.profile import CostRange, FeasibleShare, PrecisionProfile, SpaceProfile, profile_space
from nas_kd.commands.step_timing import StepTimes
from nas_kd.config.loading import dump_config
from nas_kd.config.options import Budget
from nas_kd.context.callbacks import Callback
from nas_kd.errors import InputError
from nas_kd.results.intervals import wilson_interval
from nas_kd.results.trial_record import Costs
from tests.small_runs import measured_briefly, small_config

SAMPLE, N_SIZES = 6, 4


@pytest.fixture(scope="module", autouse=True)
def _brief() -> Iterator[None]:
    """Shorter measurements of fewer networks."""
    with pytest.MonkeyPatch.context() as patch, measured_briefly():
        patch.setattr(profile, "N_SIZES", N_SIZES)
        yield


class Heard(Callback):
    """What was said."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.stages: list[str] = []
        self.counts: list[tuple[int, int]] = []

    def on_stage(self, text: str) -> None:
        self.stages.append(text)

    def on_costs(self, description: str, precision: str, costs: Costs, within_budget: bool) -> None:
        self.rows.append((precision, costs.require_size()))

    def on_measured(self, done: int, total: int) -> None:
        self.counts.append((done, total))


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SpaceProfile, Heard, Path]]:
    """A profile, what was said meanwhile, and the folder of temporary files afterwards."""
    place, heard = tmp_path_factory.mktemp("temporary"), Heard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))
        found = profile_space(small_config(budget={"max_macs": 100_000}), SAMPLE, heard, on_costs=heard.on_costs)
        yield found, heard, place


def test_it_measures_a_ladder_and_a_random_sample_and_leaves_nothing(looked: tuple[SpaceProfile, Heard, Path]) -> None:
    found, heard, place = looked
    (of,) = found.precisions
    assert of.precision == "fp32"
    assert SAMPLE < of.measured <= SAMPLE + N_SIZES
    assert heard.counts == [(n, of.measured) for n in range(1, of.measured + 1)]
    assert [precision for precision, _ in heard.rows] == ["fp32"] * of.measured
    assert min(size for _, size in heard.rows) == of.size_bytes.smallest
    assert heard.stages[-2:] == ["measuring networks, fp32", "timing training steps"]
    assert 0 < of.size_bytes.smallest < of.size_bytes.median < of.size_bytes.largest
    assert 0 < of.latency_ms.smallest <= of.latency_ms.median <= of.latency_ms.largest
    assert found.macs.largest > 1_000_000
    assert not [p for p in place.iterdir() if p.name.startswith("nas-kd-profile")]


def test_the_share_is_of_the_random_ones_alone_with_its_interval(looked: tuple[SpaceProfile, Heard, Path]) -> None:
    found = looked[0]
    (of,) = found.precisions
    share = of.share
    assert share.drawn == SAMPLE
    assert (share.low, share.high) == wilson_interval(share.within / SAMPLE, SAMPLE)
    assert found.reachable
    assert of.nearest <= 1
    assert set(of.missed) <= {"macs", "size", "latency"}
    if of.missed:
        assert of.missed[of.binding or "latency"] == max(of.missed.values()) <= SAMPLE - share.within


def test_the_time_has_all_parts_and_a_range(looked: tuple[SpaceProfile, Heard, Path]) -> None:
    time = looked[0].time
    assert time is not None
    assert set(time.parts) == {"teacher", "recipe", "outputs", "gate", "assistants", "candidates", "finalists"}
    assert all(0 <= low <= high for low, high in time.parts.values())
    assert all(time.parts[name][0] > 0 for name in ("teacher", "outputs", "gate", "candidates", "finalists"))
    assert 0 < time.low_s < time.high_s
    assert time.rungs == (2, 4)


def test_the_time_knows_when_nothing_more_is_proposed() -> None:
    """Judging all of these sub-networks would take hours."""
    elastic = {"strategy": "once-for-all", "once_for_all": {"epochs": 1, "evaluations": 10_000_000}}
    time = profile_space(small_config(search={**elastic, "max_minutes": 0.2}), SAMPLE).time
    assert time is not None
    assert 0 < time.parts["once_for_all"][0] <= time.parts["once_for_all"][1] < 300
    before = [sum(time.parts[name][end] for name in ("teacher", "outputs", "once_for_all")) for end in (0, 1)]
    assert all(before[end] + time.parts["candidates"][end] <= max(before[end], 12) + 1e-6 for end in (0, 1))


def test_the_command_prints_the_same_as_text_and_as_json(
    looked: tuple[SpaceProfile, Heard, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads(profile_json(looked[0]))
    assert value["precisions"][0]["share"]["drawn"] == SAMPLE
    assert value["budget"] == {"max_latency_ms": 5.0, "max_size_kb": 60.0, "max_macs": 100_000.0}
    print_profile(looked[0])
    text = capsys.readouterr().out
    assert "budget: at most 100,000 multiply-adds, 60 kB, 5 ms: reachable" in text
    assert "95 % interval" in text
    assert "a rough range" in text


def test_a_step_lies_on_the_line_through_two_networks_and_methods_add_to_it() -> None:
    speed = StepTimes(((100, 1.0), (300, 2.0)), {"none": 0.0, "dml": 0.5}, 0.0, 0.0, 0.0)
    assert speed.step(200, "none") == 1.5
    assert speed.step(200, "dml") == 2.0
    assert speed.step(-10_000, "none") == 0.1
    noisy = StepTimes(((100, 1.0), (300, 0.9)), {}, 0.0, 0.0, 0.0)
    assert noisy.step(300, "none") == 1.0


def test_out_of_reach_is_said_with_the_nearest_and_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    of = PrecisionProfile(
        precision="fp32",
        measured=8,
        failed=1,
        size_bytes=CostRange(1e4, 2e4, 3e4),
        latency_ms=CostRange(1, 2, 3),
        memory_bytes=CostRange(1e6, 2e6, 3e6),
        share=FeasibleShare(0, 4, *wilson_interval(0, 4)),
        missed={"size": 4, "latency": 2},
        binding="size",
        nearest=2.0,
        reachable=False,
    )
    budget = Budget(max_size_kb=5, max_latency_ms=2, min_accuracy=0.9)
    print_profile(SpaceProfile("resnet", "cpu-1t", 100, CostRange(1, 2, 3), (of,), budget, False, 1.0, None))
    text = " ".join(capsys.readouterr().out.split())
    assert "OUT OF REACH" in text
    assert (
        "size 4, latency 2 (size is the tightest limit); the closest is at 2 times a limit; 1 could not be measured"
        in text
    )
    assert "0 of 4 random networks are within the budget: 0% of the space (95 % interval 0% to 49%)" in text
    assert "peak memory, fp32" in text
    assert "known only after training" in text
    assert "the time of a search is unknown" in text
    infinite = PrecisionProfile(**{**vars(of), "nearest": inf})
    whole = SpaceProfile("resnet", "cpu-1t", 100, CostRange(1, 2, 3), (infinite,), budget, False, 1.0, None)
    assert json.loads(profile_json(whole))["precisions"][0]["nearest"] is None


def test_a_teacher_that_cannot_be_loaded_is_one_line_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = small_config(budget={"max_latency_ms": None})
    config = config.model_copy(update={"teacher": (config.teacher[0].model_copy(update={"space": "resnets"}),)})
    with pytest.raises(InputError, match="did you mean 'resnet'"):
        profile_space(config, 2)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("nas-kd-profile")]


def test_the_command_keeps_json_apart_from_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(dump_config(small_config(budget={"max_size_kb": 1})))
    done = CliRunner().invoke(app, ["profile", "c.toml", "--sample", "2", "--json"])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["reachable"] is False
    assert value["time"] is None
    assert value["precisions"][0]["binding"] == "size"
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]


@pytest.mark.usefixtures("looked")  # which has imported all that takes long
def test_it_stops_in_time_with_what_it_has() -> None:
    heard, started = Heard(), time.monotonic()
    found = profile_space(small_config(), 200, heard, max_minutes=0.3, on_costs=heard.on_costs)
    assert time.monotonic() - started < 30
    assert found.stopped
    assert found.time is None
    (of,) = found.precisions
    assert of.measured == len(heard.rows) < found.planned
    assert 0 < of.share.drawn <= of.measured


@pytest.mark.usefixtures("looked")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a file whose reading was stopped
def test_the_command_prints_rows_as_they_come_and_says_that_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(dump_config(small_config()))
    asked = ["profile", str(tmp_path / "c.toml"), "--sample", "200", "--max-minutes", "0.3"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("fp32  ")]
    assert rows
    assert all("kB, " in row and " multiply-adds: " in row for row in rows)
    assert f"stopped as time was over: {len(rows)} of " in result.output
    asked[-1] = "0.00001"
    result = CliRunner().invoke(app, asked)
    assert (result.exit_code, "before a network was measured" in result.output) == (0, True)
    asked[-1] = "-1"
    result = CliRunner().invoke(app, asked)
    assert (result.exit_code, "--max-minutes must be > 0, got -1" in result.output) == (2, True)
