"""Searches whose latencies are measured by an agent in another process."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.agent_process import TOKEN, AgentProcess
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError
from nas_kd.latency import remote_device
from nas_kd.latency.agent_protocol import TOKEN_VARIABLE
from nas_kd.results.trial_record import TrialRecord
from tests.small_runs import Seed, small_config

OWN = """
from nas_kd.latency.device_profile import DeviceProfile
MINE = DeviceProfile("mine", "my own", optimisation="{}")
"""


pytestmark = pytest.mark.usefixtures("brief_measurements")


@pytest.fixture(autouse=True)
def _token_and_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    monkeypatch.setattr(remote_device, "FIRST_PAUSE_S", 0.1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the agents keep the usual speed of their machine."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def agent(cache: Path, tmp_path: Path) -> Iterator[AgentProcess]:
    """With a profile that this machine's list does not have."""
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "own.py").write_text(OWN.format("basic"))
    with AgentProcess(folder, ["--profile", "own:MINE"], cache=cache) as running:
        yield running


class Watcher(Callback):
    """Takes an agent away once this many trials have ended; collects the notes about it."""

    def __init__(self, agent: AgentProcess, after: int) -> None:
        self._agent, self._after, self._ended = agent, after, 0
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_trial_end(self, record: TrialRecord, trials: Sequence[TrialRecord], hypervolume: float) -> None:
        self._ended += 1
        if self._ended == self._after:
            self._agent.kill()


class Restarting(Watcher):
    """Starts it again as soon as it is missed."""

    def on_note(self, text: str) -> None:
        super().on_note(text)
        if "trying again" in text:
            self._agent.start()


class Late(Watcher):
    """Starts it again when all candidates are judged."""

    def on_stage(self, text: str) -> None:
        if text == "training finalists":
            self._agent.start()


def config(agent: AgentProcess, wait_s: float, **search: object) -> SearchConfig:
    return small_config(
        device={"name": f"{agent.url}/mine", "wait_s": wait_s},
        search={"trials": 4, "rungs": 1, **search},
        distill={"epochs": 2, "methods": ["soft_targets"]},
        chain={"max_assistants": 0},
        finalists={"max": 1, "seeds": 1, "controls": False},
        budget={"max_size_kb": 1000},
    )


def test_a_search_measures_there_and_survives_a_restart(
    agent: AgentProcess, with_teachers: Seed, tmp_path: Path
) -> None:
    watcher = Restarting(agent, after=1)  # a third may have been measured, the fourth has not
    search(config(agent, wait_s=120, workers=2), with_teachers(tmp_path / "run"), watcher)
    run = read_run(RunFolder(tmp_path / "run"))
    assert run.state == "finished"
    judged = [t for t in run.trials if t.status != "duplicate"]
    assert len(judged) == 4
    assert {t.status for t in judged} == {"finished"}
    assert all(t.costs is not None and t.costs.latency_ms is not None for t in judged)
    assert run.device is not None
    assert run.device.name == f"{agent.url}/mine"
    assert run.device.environment["optimisation"] == "basic"
    assert {"cpu", "onnxruntime"} <= run.device.environment.keys()
    notes = [n for n in watcher.notes if "device agent" in n]
    assert [("trying again" in n, "answers again" in n) for n in notes] == [(True, False), (False, True)]
    assert agent.log.read_text().count("measure 200") >= 6  # four candidates, the teacher, the finalist


def test_a_device_that_changed_between_two_sittings_is_noted(
    agent: AgentProcess, with_teachers: Seed, tmp_path: Path
) -> None:
    watcher, once = Watcher(agent, after=0), config(agent, wait_s=120, trials=1)
    search(once, with_teachers(tmp_path / "run"), watcher)
    assert not [n for n in watcher.notes if "worked on last" in n]
    agent.kill()
    (tmp_path / "board" / "own.py").write_text(OWN.format("extended"))
    agent.start()
    search(once, tmp_path / "run", watcher)
    changes = [n for n in watcher.notes if "worked on last" in n]
    assert changes == [
        "the device is not what it was when this run was worked on last: optimisation was basic, is extended"
    ]


def test_an_agent_that_stays_away_fails_trials_with_the_reason(
    agent: AgentProcess, with_teachers: Seed, tmp_path: Path
) -> None:
    search(config(agent, wait_s=0.5), with_teachers(tmp_path / "run"), Late(agent, after=2))
    run = read_run(RunFolder(tmp_path / "run"))
    assert run.state == "finished"
    failed = [t for t in run.trials if t.status == "failed"]
    assert failed, "all candidates after the agent had gone were measured before"
    assert [t for t in run.trials if t.number > failed[0].number], "the search ended with the first that failed"
    assert all("has not answered for 0.5 s: connection refused" in (t.reason or "") for t in failed)
    assert all(t.costs is None for t in failed), "nothing stands in for a measurement"
    assert len(run.finalists) == 1


def test_a_device_that_refuses_access_ends_a_run_before_it_begins(
    agent: AgentProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "this-is-not-the-token")
    with pytest.raises(InputError, match="does not accept the token"):
        search(config(agent, wait_s=120), tmp_path / "run")
    assert not (tmp_path / "run" / "study.db").exists()
