"""The examples of CONTRIBUTING.md: each, added to its folder as said there, is found and does what it says."""

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

from nas_kd.config.options import DataOptions
from nas_kd.data.prepare import load_dataset
from nas_kd.latency.device_profile import load_device
from nas_kd.methods.base import Batch, Outputs
from nas_kd.plugins import load

GUIDE = Path(__file__).parent.parent / "CONTRIBUTING.md"
EXAMPLES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL))


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
        found.cache_clear()

    yield added
    found.cache_clear()
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_there_is_an_example_of_each_kind() -> None:
    assert len(EXAMPLES) == 4


def test_a_method(add: Any) -> None:
    add("logit_matching.py")
    method = load("method", "logit_matching")()
    student, teacher = (Outputs(torch.tensor([row]), (), torch.zeros(1, 2)) for row in ([1.0, 2.0], [3.0, 2.0]))
    batch = Batch(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 0.0)
    assert method(student, [teacher], batch)["logit_matching"].item() == 2.0


def test_a_space(add: Any) -> None:
    add("plain.py")
    space = load("space", "plain")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    architecture = space.suggest(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask(), "student.")
    assert space.build(architecture, (3, 9, 7), 5)(torch.randn(2, 3, 9, 7)).shape == (2, 5)
    assert space.cardinality() == 24
    assert space.describe(space.size_ladder(3)[-1]) == "3 stages, 64 wide"


def test_a_data_source(add: Any, tmp_path: Path) -> None:
    add("csv_table.py")
    rows = [[i, i % 7, i % 2] for i in range(100)]
    np.savetxt(tmp_path / "table.csv", np.array(rows), delimiter=",")
    data = load_dataset(DataOptions(source="csv_table", path=tmp_path / "table.csv"), seed=0)
    assert (data.name, data.input_shape, data.classes) == ("table", (2,), ("0", "1"))
    assert len(data.train) + len(data.val) + len(data.test) == 100


def test_a_device(add: Any) -> None:
    add("cpu_1t_basic.py")
    device = load_device("cpu-1t-basic")
    assert (device.threads, device.optimisation) == (1, "basic")
    assert device.provider in onnxruntime.get_available_providers()
