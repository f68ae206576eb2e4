"""A chain policy, a sampler and an executor of one's own, given as `package.module:Name` beside the config."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas_kd.api.functions import read_config
from nas_kd.commands.search import search
from nas_kd.config.loading import dump_config
from nas_kd.errors import InputError
from tests.small_runs import Seed, small_config

MODULE = '''
from optuna.samplers import RandomSampler

from nas_kd.executors.executor import ExecutorPlugin
from nas_kd.executors.in_process import InProcessExecutor
from nas_kd.kd.chain_policies.sequential import Sequential
from nas_kd.nas.samplers.base import SearchSampler

SEEDS, JOBS, CHAINS = [], [], []


class Counting(SearchSampler):
    name = "counting"
    summary = "draws at random, and counts"

    def create(self, inputs):
        SEEDS.append(inputs.seed)
        return RandomSampler(seed=inputs.seed)


class FirstOnly(Sequential):
    """Students learn from the first assistant, whatever follows it."""

    name = "first only"
    summary = "the first assistant teaches"

    def teachers(self, distiller, roots, assistants):
        CHAINS.append(assistants)
        return super().teachers(distiller, roots, assistants[:1])


class Here(InProcessExecutor):
    def submit(self, job):
        JOBS.append(job["kind"])
        super().submit(job)


class HereOnly(ExecutorPlugin):
    name = "here"
    summary = "this process, however many workers are wanted"

    def open(self, spec):
        return Here(spec.in_process)


sampler, policy, executor = Counting(), FirstOnly(), HereOnly()
'''


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Any]:
    """The module, once something has imported it; no other test finds it."""
    before = list(sys.path)
    (tmp_path / "mine_beside_the_config.py").write_text(MODULE)
    yield lambda: sys.modules["mine_beside_the_config"]
    sys.path[:] = before
    sys.modules.pop("mine_beside_the_config", None)


@pytest.mark.usefixtures("brief_measurements")
def test_a_search_with_ones_own_policy_sampler_and_executor(module: Any, with_latencies: Seed, tmp_path: Path) -> None:
    mine = "mine_beside_the_config"
    config = small_config(
        chain={"max_assistants": 2, "policy": f"{mine}:policy"},
        distill={"methods": ["soft_targets"], "epochs": 1},
        search={"sampler": f"{mine}:sampler", "executor": f"{mine}:executor", "trials": 14, "rungs": 1},
        finalists={"max": 1, "seeds": 1, "controls": False},
    )
    (tmp_path / "config.toml").write_text(dump_config(config))
    run = search(read_config(tmp_path / "config.toml"), with_latencies(tmp_path / "run"))
    assert run.state == "finished"
    used = module()
    assert len(used.SEEDS) == len(run.trials)
    assert ["train_trial"] * sum(t.status == "finished" for t in run.trials) == used.JOBS
    chained = [t for t in run.trials if t.candidate.assistants]
    assert {t.candidate.policy for t in chained} == {f"{mine}:policy"}
    assert set(used.CHAINS) >= {t.candidate.assistants for t in chained if t.status == "finished"} != set()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"chain": {"policy": "squential"}}, "unknown policy 'squential'; did you mean 'sequential'?"),
        ({"search": {"sampler": "tpee"}}, "unknown sampler 'tpee'; did you mean 'tpe'?"),
        ({"search": {"executor": "locl"}}, "unknown executor 'locl'; did you mean 'local'?"),
        ({"search": {"sampler": "mine_beside_the_config:samplr"}}, "did you mean 'sampler'?"),
        (
            {"search": {"sampler": "mine_beside_the_config:policy"}},
            "must be an instance of nas_kd.nas.samplers.base.SearchSampler, got FirstOnly",
        ),
        (
            {"search": {"executor": "mine_beside_the_config:SEEDS"}},
            "must be an instance of nas_kd.executors.executor.ExecutorPlugin, got list",
        ),
        ({"chain": {"policy": "mine_beside_the_config:sampler"}}, "chain_policies.base.ChainPolicy, got Counting"),
        ({"search": {"executor": "mine_nowhere:executor"}}, "cannot import 'mine_nowhere'"),
    ],
)
def test_what_is_no_such_plugin_is_refused_before_anything_is_trained(
    sections: dict[str, dict[str, object]], message: str, module: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(dump_config(small_config(**sections)))
    config = read_config(tmp_path / "config.toml")
    with pytest.raises(InputError) as caught:
        search(config, tmp_path / "run")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
