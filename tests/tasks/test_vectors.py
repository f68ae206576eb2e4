"""Vectors of another network as targets: the score, what is refused, and a search without any labels."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

import nas_kd
from nas_kd.commands.load_run import read_run
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError
from nas_kd.results.finalist_record import Accuracy
from nas_kd.scores.base import load_score
from nas_kd.tasks.base import MixedLabels, load_task
from nas_kd.tasks.vectors import Vectors

GENERATOR = np.random.default_rng(0)
WIDTH = 6


def scored(outputs: NDArray[Any], targets: NDArray[Any]) -> Accuracy:
    task = load_task("vectors").read_targets({"train": targets}, None)
    return load_score("spearman").of(task.task.evidence(outputs.astype(np.float32), task.values["train"]))


def unit(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_the_score_is_scipy_s(noise: float) -> None:
    targets = GENERATOR.normal(size=(40, WIDTH))
    outputs = (targets + noise * GENERATOR.normal(size=targets.shape)).astype(np.float32)
    upper = np.triu_indices(40, 1)
    cosines = [(unit(v.astype(np.float64)) @ unit(v.astype(np.float64)).T)[upper] for v in (outputs, targets)]
    expected = max(0.0, float(spearmanr(*cosines).statistic))
    assert scored(outputs, targets).mean == pytest.approx(expected, abs=2e-4)  # float32 orders near ties otherwise


def test_ties_share_their_rank() -> None:
    targets = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 1]])
    outputs = np.array([[1.0, 0], [0, 1], [1, 0], [1, 1], [1, 2]])
    upper = np.triu_indices(5, 1)
    expected = spearmanr(*((unit(v) @ unit(v).T).round(6)[upper] for v in (outputs, targets))).statistic
    assert scored(outputs, targets).mean == pytest.approx(max(0.0, float(expected)), abs=1e-6)


def test_intervals_cover_what_many_samples_have() -> None:
    """The score of all is within the interval of most small splits."""
    targets = GENERATOR.normal(size=(800, WIDTH))
    outputs = targets + GENERATOR.normal(size=targets.shape)
    whole = scored(outputs, targets).mean
    splits = [GENERATOR.choice(800, 60, replace=False) for _ in range(60)]
    found = [scored(outputs[rows], targets[rows]) for rows in splits]
    assert sum(one.low <= whole <= one.high for one in found) >= 52


def test_of_many_samples_some_are_compared() -> None:
    targets = GENERATOR.normal(size=(1500, WIDTH))
    assert scored(targets * 3, targets).mean == pytest.approx(1)
    assert scored(GENERATOR.normal(size=targets.shape), targets).mean < 0.1


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(4), r"y of train has shape \(4,\) and type int64; want a vector a sample"),
        (np.ones((4, 1)), r"\(N, d\) numbers with d >= 2"),
        (np.array([["a", "b"]] * 4), "want a vector a sample"),
        (np.array([[1.0, 2], [0, 0], [np.nan, 1]]), r"2 vectors of train have no direction, .* \(rows 1, 2\)"),
        (np.ones((5, 3)), "all vectors of train are the same"),
    ],
)
def test_targets_that_make_no_sense_are_refused(y: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_task("vectors").read_targets({"train": y}, None)


def test_splits_have_vectors_of_one_width() -> None:
    with pytest.raises(InputError, match="vectors of test have 3 numbers, those of train 2"):
        load_task("vectors").read_targets({"train": np.eye(2), "test": np.eye(3)}, None)


def test_the_label_loss_is_one_minus_cosine() -> None:
    outputs = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    y = F.normalize(torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1)), dim=1)
    task = Vectors(width=WIDTH)
    decided = task.decide(outputs)
    assert float(task.label_loss(decided, y, None, None)) == pytest.approx(float((1 - (decided * y).sum(1)).mean()))
    assert float(task.label_loss(outputs / outputs.norm(dim=1, keepdim=True), decided, None, None)) == pytest.approx(
        0, abs=1e-6
    )
    mixed = MixedLabels(y.flip(0), torch.full((5,), 0.75))
    by_hand = 0.75 * (1 - (decided * y).sum(1)) + 0.25 * (1 - (decided * y.flip(0)).sum(1))
    assert float(task.label_loss(decided, y, None, mixed)) == pytest.approx(float(by_hand.mean()))


def test_a_search_needs_no_labels(tmp_path: Path) -> None:
    """A student of a network's vectors, on samples without labels."""
    x = (load_digits().images[:600, None] * 15).astype(np.uint8)
    torch.manual_seed(0)
    teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 8))
    with torch.no_grad():
        y = teacher.eval()(torch.from_numpy(x).float() / 16).numpy()
    nas_kd.search(
        teacher=torch.nn.Sequential(Sixteenth(), teacher),
        data={"train": (x[:500], y[:500]), "test": (x[500:], y[500:])},
        task="vectors",
        trials=2,
        budget={"max_size_kb": 60},
        options={
            "distill.epochs": 8,
            "distill.batch_size": 32,
            "distill.learning_rate": 0.05,
            "distill.optimizer": "sgd",
            "chain.max_assistants": 0,
            "finalists.baselines": [],
            "search.rungs": 1,
            "finalists.max": 1,
            "finalists.seeds": 1,
            "finalists.controls": False,
        },
        run_dir=tmp_path / "run",
    )
    run = read_run(RunFolder(tmp_path / "run"))
    (best,) = run.finalists
    assert run.teacher is not None
    assert run.teacher.test is not None
    assert run.teacher.test.mean == pytest.approx(1, abs=1e-4)
    session = onnxruntime.InferenceSession(tmp_path / "run" / "winner" / "student.onnx")
    found = session.run(None, {session.get_inputs()[0].name: x[500:].astype(np.float32)})[0]
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(100), abs=1e-5)
    assert best.deployed_test is not None
    assert best.deployed_test.mean == pytest.approx(scored(found, y[500:]).mean, abs=1e-4)
    assert (found * unit(y[500:])).sum(axis=1).mean() > 0.5  # a gallery of the network's vectors may be searched by it


class Sixteenth(torch.nn.Module):
    """Divides by 16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 16
