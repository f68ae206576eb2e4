"""The examples of CONTRIBUTING.md: each, added to its folder, is found, works, and passes the check that follows it."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import optuna
import pytest
import torch

import nas_kd.testing
from nas_kd.config.options import DataOptions, SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.latency.device_profile import load_device
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.nas.samplers.base import make_sampler
from nas_kd.plugins import available, load
from nas_kd.scores.base import load_score
from nas_kd.scores.class_score import Decisions
from nas_kd.tasks.base import load_task

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL))
CHECKS = {
    check: text
    for text, check in re.findall(r"```python\n(from (?:(?!```).)*?\n(check_\w+)\(.*?)```", GUIDE, re.DOTALL)
}


def run_check(name: str) -> None:
    """Run the call of `nas_kd.testing` that follows an example, as it stands there."""
    exec(compile(CHECKS[name], "CONTRIBUTING.md", "exec"), {})


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Adds an example by its file's name to what its package holds, for one test."""

    def added(ending: str) -> None:
        (path,) = [p for p in EXAMPLES if p.endswith(ending)]
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_text(EXAMPLES[path], encoding="utf-8")
        package = importlib.import_module(".".join(Path(path).parent.parts))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
        available.cache_clear()

    yield added
    available.cache_clear()
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_there_is_an_example_and_a_check_of_each_kind() -> None:
    assert len(EXAMPLES) == 8
    assert CHECKS.keys() == {name for name in nas_kd.testing.__all__ if name.startswith("check_")}


def test_the_table_names_every_room_and_tests_that_exist() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \|.*\| (.*) \|$", GUIDE, re.MULTILINE)
    packages = {p.parent.name for p in (ROOT / "nas_kd").glob("*/__init__.py")}
    assert {f"nas_kd/{name}" for name in packages} <= {room.rstrip("/") for room, _ in rows}
    assert [room for room, _ in rows if not list(ROOT.glob(f"{room.rstrip('/')}*"))] == []
    named = [path for _, tests in rows for path in re.findall(r"`(tests/[\w/.]+)`", tests)]
    assert len(named) >= len(rows)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_a_method(add: Any) -> None:
    add("logit_matching.py")
    method = load("method", "logit_matching")()
    student, teacher = (Outputs(torch.tensor([row]), (), torch.zeros(1, 2)) for row in ([1.0, 2.0], [3.0, 2.0]))
    batch = Batch(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 0.0)
    assert method(student, [teacher], batch)["logit_matching"].item() == 2.0
    run_check("check_method")


def test_a_space(add: Any) -> None:
    add("plain.py")
    space = load("space", "plain")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    architecture = space.suggest(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask(), "student.")
    assert space.build(architecture, (3, 9, 7), 5)(torch.randn(2, 3, 9, 7)).shape == (2, 5)
    assert space.cardinality() == 24
    assert space.describe(space.size_ladder(3)[-1]) == "3 stages, 64 wide"
    run_check("check_space")


def test_a_data_source(add: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    add("csv_table.py")
    rows = [[i, i % 7, i % 2] for i in range(100)]
    np.savetxt(tmp_path / "table.csv", np.array(rows), delimiter=",")
    data = load_dataset(DataOptions(source="csv_table", path=tmp_path / "table.csv"), seed=0)
    assert (data.name, data.input_shape, data.classes) == ("table", (2,), ("0", "1"))
    assert len(data.train) + len(data.val) + len(data.test) == 100
    run_check("check_source")


def test_a_device(add: Any) -> None:
    add("cpu_1t_basic.py")
    device = load_device("cpu-1t-basic")
    assert (device.threads, device.optimisation) == (1, "basic")
    assert device.provider in onnxruntime.get_available_providers()
    run_check("check_device")


def test_a_chain_policy(add: Any, tmp_path: Path) -> None:
    add("skip.py")
    sections = {"distill": {"epochs": 1, "methods": ["soft_targets"]}, "data": {"train_rows": 300}}
    context = RunContext.prepare(SearchConfig(**sections), RunFolder(tmp_path / "run"), Callback())
    builder = NetworkBuilder(context.data, context.space)
    student, assistant, *_, large = context.space.size_ladder(12)
    roots = [Teacher(builder.build(large, seed).eval(), f"{seed:064d}", "", 1, 1) for seed in (0, 1)]
    distiller, policy = Distiller.for_run(context, builder, roots), load_policy("skip")
    several, one = make_method("average_teachers"), make_method("soft_targets")
    assert policy.usable_assistants([assistant], student, several, builder.parameters) == (assistant,)
    assert policy.usable_assistants([student], assistant, several, builder.parameters) == ()
    assert policy.usable_assistants([assistant], student, one, builder.parameters) == ()
    teachers = distiller.teachers_for(several, policy, (assistant,))
    assert [t.key for t in teachers[:2]] == [t.key for t in roots]
    assert teachers[2].parameters == builder.parameters(assistant)


def test_a_sampler(add: Any) -> None:
    add("qmc.py")

    def drawn(number: int) -> dict[str, Any]:
        sampler = make_sampler("qmc", 3, number, space={}, best_trials=lambda _: [], tried_enough=lambda _: False)
        study = optuna.create_study(sampler=sampler)
        trial = study.ask()
        return {"x": trial.suggest_float("x", 0, 1), "n": trial.suggest_int("n", 1, 100)}

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_a_score(add: Any) -> None:
    add("worst_recall.py")
    score = load_score("worst_recall")
    found = score.of(Decisions(np.repeat([0, 1], [8, 2]), np.repeat([0, 1], [9, 1]), 2))
    assert found.mean == 0.5
    assert 0 < found.low < 0.5 < found.high < 1
    assert score.guessing(np.repeat([0, 1], [90, 10]), np.repeat([0, 1], [8, 2]), 2) == 0.5


def test_a_task(add: Any) -> None:
    add("counting.py")
    run_check("check_task")
    with pytest.raises(InputError, match="values that are no counts"):
        load_task("counting").read_targets({"train": np.array([0.5, 1.0])}, None)
