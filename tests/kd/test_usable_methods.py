"""Usual methods that networks of a run cannot learn by: a perceptron has no feature maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes
from torch import nn

import nas_kd
from nas_kd.commands.load_run import read_run
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError

X, Y = load_diabetes(return_X_y=True)
DATA = ((X / X.std(axis=0)).astype(np.float32), ((Y - Y.mean()) / Y.std()).astype(np.float32))
OPTIONS: dict[str, Any] = {
    "space.name": "own",
    "search.trials": 2,
    "search.rungs": 1,
    "distill.epochs": 1,
    "distill.batch_size": 64,
    "chain.max_assistants": 0,
    "finalists.max": 1,
    "finalists.seeds": 1,
    "finalists.controls": False,
    "finalists.baselines": [],
}


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer, (x, y) = torch.optim.Adam(network.parameters(), 0.01), map(torch.from_numpy, DATA)
    for _ in range(50):
        optimizer.zero_grad()
        F.mse_loss(network(x)[:, 0], y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network


class Notes(nas_kd.Callback):
    def __init__(self) -> None:
        self.said = list[str]()

    def on_note(self, text: str) -> None:
        self.said.append(text)


def run(folder: Path, **options: Any) -> list[str]:
    notes = Notes()
    nas_kd.search(
        data=DATA,
        teacher=perceptron(),
        task="regression",
        budget=nas_kd.Budget(max_size_kb=100),
        options=OPTIONS | options,
        run_dir=folder,
        callbacks=[notes],
    )
    return notes.said


def test_usual_methods_that_need_maps_are_left_out(tmp_path: Path) -> None:
    said = [note for note in run(tmp_path / "run") if note.startswith("left out of the methods: ")]
    assert len(said) == 1
    assert "similarity, logits+similarity (" in said[0]
    assert "feature maps" in said[0]
    folder = RunFolder(tmp_path / "run")
    assert {trial.candidate.recipe.method for trial in read_run(folder).trials} == {"logits"}


def test_methods_that_were_chosen_are_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"method 'similarity': .* feature maps"):
        run(tmp_path / "run", **{"distill.methods": ["logits", "similarity"]})
