"""A teacher of the user's own that is trained on the data first: a new head, then all layers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.evaluation import evidence_of
from nas_kd.errors import InputError
from nas_kd.kd import training_job
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.kd.teachers import load_teachers, prepare_teachers
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Candidate, Recipe
from nas_kd.results.fine_tuning_record import FineTuningRecord
from tests.small_runs import distiller_of, small_config

HERE = f"{__name__}:"
pytestmark = pytest.mark.usefixtures("brief_measurements")


class Trunk(nn.Module):
    """Pictures (B, 1, 8, 8) in 0..1 -> features (B, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(self.layers(x).relu(), 2).flatten(1)


def five_classes() -> nn.Module:
    return nn.Sequential(Trunk(), nn.Linear(128, 5))


def behind_the_head() -> nn.Module:
    return nn.Sequential(five_classes(), nn.LeakyReLU())


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `five_classes`, trained for a moment to tell digits modulo 5."""
    data = load_dataset(small_config().data, 0)
    torch.manual_seed(0)
    model = five_classes()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(8):
        for part in torch.randperm(len(data.train)).split(64):
            loss = nn.functional.cross_entropy(model(data.train.x[part].float() / 255), data.train.y[part] % 5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    path = tmp_path_factory.mktemp("weights") / "five.safetensors"
    save_file(model.state_dict(), path)
    return path


class Heard(Callback):
    """Keeps notes and epochs, and stops a run at a given one."""

    def __init__(self, stop_at: tuple[str, int] | None = None) -> None:
        self.notes: list[str] = []
        self.epochs: list[tuple[str, int]] = []
        self._stop_at = stop_at

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_progress(self, what: str, done: int, total: int) -> None:
        if what.startswith("training the teacher"):
            self.epochs.append((what, done))
            if self._stop_at is not None and what.startswith(self._stop_at[0]) and done == self._stop_at[1]:
                raise KeyboardInterrupt


def config_with(**teacher: object) -> SearchConfig:
    config = small_config(distill={"methods": ("soft_targets",)}).model_dump()
    config["teacher"] = [{"preprocessing": "unit", **teacher}]
    return SearchConfig.model_validate(config)


def prepare(config: SearchConfig, folder: Path, heard: Callback | None = None) -> tuple[RunContext, ReadyTeacher]:
    context = RunContext.prepare(config, RunFolder(folder / "run"), heard or Callback())
    gate = Gate(context, NetworkBuilder(context.data, context.space))
    return context, prepare_teachers(context, gate.of_file)[0]


def tuning(ready: ReadyTeacher) -> FineTuningRecord:
    assert ready.record.fine_tuning is not None
    return ready.record.fine_tuning


def weights_of(ready: ReadyTeacher) -> dict[str, Tensor]:
    return {name.removeprefix("body."): t for name, t in ready.teacher.model.state_dict().items()}


def test_a_head_of_other_classes_is_replaced(weights: Path, tmp_path: Path) -> None:
    heard = Heard()
    context, ready = prepare(config_with(factory=HERE + "five_classes", weights=weights), tmp_path, heard)
    record = tuning(ready)
    assert (record.published_classes, record.layers, record.val_before) == (5, "all", None)
    assert record.head_epochs > 0
    assert record.val_head is not None
    assert ready.record.val is not None
    assert 0.85 < record.val_head <= record.val_score == ready.record.val.mean
    assert ready.record.training_s == record.seconds > 0
    (said,) = [note for note in heard.notes if "fine-tuned" in note]
    assert "with a new head for 10 classes (it had 5); accuracy on validation: " in said
    candidate = Candidate(context.space.size_ladder(6)[1], (), Recipe("soft_targets", {"strength": 1.0}))
    assert distiller_of(context, [ready.teacher]).distill(candidate, 0, 4, until=1).val_accuracy >= 0
    again = Heard()  # a worker, or the same run later
    context = RunContext.prepare(context.config, context.folder, again)
    (found,) = load_teachers(context)
    assert found.key == ready.teacher.key
    assert not again.epochs
    assert all(torch.equal(t, found.model.state_dict()[n]) for n, t in ready.teacher.model.state_dict().items())


def test_a_killed_fine_tuning_goes_on(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_job, "CHECKPOINT_EVERY_S", 0.0)
    config = config_with(factory=HERE + "five_classes", weights=weights, fine_tune="all", epochs=4, seed=3)
    _, whole = prepare(config, tmp_path / "whole")
    for stop_at in (("training the teacher's head", 2), ("training the teacher:", 2)):
        with pytest.raises(KeyboardInterrupt):
            prepare(config, tmp_path / "killed", Heard(stop_at))
    heard = Heard()
    _, resumed = prepare(config, tmp_path / "killed", heard)
    assert heard.epochs[0] == ("training the teacher: epoch", 2)
    assert resumed.teacher.key == whole.teacher.key
    assert tuning(resumed).model_copy(update={"seconds": 0.0}) == tuning(whole).model_copy(update={"seconds": 0.0})
    assert all(torch.equal(t, weights_of(resumed)[name]) for name, t in weights_of(whole).items())
    assert not list((tmp_path / "killed" / "run" / "store").glob("checkpoint/*/*"))


def test_the_head_alone(weights: Path, tmp_path: Path) -> None:
    config = config_with(factory=HERE + "five_classes", weights=weights, fine_tune="head", epochs=6)
    _, ready = prepare(config, tmp_path)
    record = tuning(ready)
    assert (record.layers, record.epochs, record.trained_epochs) == ("head", 0, 0)
    assert record.val_score > 0.8
    given = load_file(weights)
    trunk = [name for name in given if name.startswith("0.")]
    assert all(torch.equal(given[name], weights_of(ready)[name]) for name in trunk)


def test_a_head_that_fits_is_trained_when_asked(weights: Path, tmp_path: Path) -> None:
    _, first = prepare(config_with(factory=HERE + "five_classes", weights=weights, fine_tune="head"), tmp_path)
    path = tmp_path / "ten.safetensors"
    save_file({n: t.contiguous() for n, t in weights_of(first).items() if n[0] in "01"}, path)
    asked = config_with(factory=HERE + "ten_classes", weights=path, fine_tune="all", epochs=2)
    record = tuning(prepare(asked, tmp_path / "asked")[1])
    assert record.published_classes is None
    assert record.val_before == tuning(first).val_score <= record.val_score
    plain = prepare(config_with(factory=HERE + "ten_classes", weights=path), tmp_path / "plain")[1]
    assert plain.record.fine_tuning is None


def ten_classes() -> nn.Module:
    return nn.Sequential(Trunk(), nn.Linear(128, 10))


def test_what_stands_behind_a_head_is_trained_with_all_layers(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "behind.safetensors"
    save_file({f"0.{name}": t for name, t in load_file(weights).items()}, path)
    wanted = {"factory": HERE + "behind_the_head", "weights": path}
    record = tuning(prepare(config_with(**wanted, fine_tune="all", epochs=4), tmp_path)[1])
    assert (record.published_classes, record.head_epochs, record.val_head) == (5, 0, None)
    assert record.epochs > 0
    with pytest.raises(InputError, match=r'fine_tune = "head": what its last layer gives are not yet its logits'):
        prepare(config_with(**wanted, fine_tune="head"), tmp_path)


def test_never(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must give logits of shape \(2, 10\) for 2 samples, got \(2, 5\)"):
        prepare(config_with(factory=HERE + "five_classes", weights=weights, fine_tune="never"), tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"space": "resnet", "fine_tune": "all"}, "fine_tune is for a module of your own"),
        ({"onnx": "a.onnx", "fine_tune": "never"}, "fine_tune is for a module of your own"),
        ({"factory": "a:b", "weights": "w", "epochs": 3}, "epochs mean nothing to a teacher that is given"),
        ({"factory": "a:b", "weights": "w", "fine_tune": "all", "label_set": "other"}, "label_set"),
        ({"factory": "a:b", "weights": "w", "fine_tune": "all", "checkpoints": ["c"]}, "earlier states"),
        ({"factory": "a:b", "weights": "w", "fine_tune": "some"}, "teacher.fine_tune"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        SearchConfig(teacher=options)
    assert "\n" not in str(caught.value)


def test_a_new_head_for_numbers_learns_them_in_any_unit(weights: Path, tmp_path: Path) -> None:
    digits = load_dataset(small_config().data, 0)
    for name, unit, offset in (("small", 1.0, 0.0), ("large", 1e5, 3e6)):
        values = {split: (getattr(digits, split).y * unit + offset).numpy() for split in ("train", "val", "test")}
        arrays = {f"x_{split}": getattr(digits, split).x.numpy() for split in values}
        np.savez(tmp_path / f"{name}.npz", **arrays, **{f"y_{split}": y for split, y in values.items()})
    scores = []
    for name in ("small", "large"):
        data = {"source": "npz", "path": str(tmp_path / f"{name}.npz"), "task": "regression", "layout": "chw"}
        given = {"factory": f"{HERE}five_classes", "weights": str(weights), "fine_tune": "head", "epochs": 20}
        config = config_with(**given).model_dump() | {
            "data": data,
            "distill": {"methods": ["logits"]},
            "chain": {"method": "logits"},
        }
        context = RunContext.prepare(SearchConfig.model_validate(config), RunFolder(tmp_path / name), Callback())
        (teacher,) = load_teachers(context)
        evidence = evidence_of(teacher.model, context.data.val, context.data.task, context.numerics)
        scores.append(context.score.value(evidence))
    assert scores[0] > 0.5
    assert scores[1] == pytest.approx(scores[0], abs=0.02)
