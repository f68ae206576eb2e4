"""A user's own teacher: taken as it is, or refused with the reason."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nas_kd.config.options import SearchConfig
from nas_kd.context.run_context import RunContext, dataset_record
from nas_kd.data.prepare import load_dataset
from nas_kd.deployment.metadata import metadata_size
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Candidate, Recipe
from tests.small_runs import (
    SMALL_TEACHER,
    Seed,
    distiller_of,
    open_context,
    small_config,
)


class Mine(nn.Module):
    """A plain stack, as a user may have it; it wants pixels / 255."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.early = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        )
        self.late = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(32 * 16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.late(self.early(x)).flatten(1))
        return out


def mine() -> nn.Module:
    return Mine()


def eleven_classes() -> nn.Module:
    return Mine(11)


def broken() -> nn.Module:
    raise RuntimeError("no licence")


def no_module() -> dict[str, int]:
    return {}


HERE = f"{__name__}:"
pytestmark = pytest.mark.usefixtures("brief_measurements")


@pytest.fixture(scope="session")
def trained() -> Mine:
    """`Mine`, trained on the digits for a moment."""
    data = load_dataset(small_config().data, 0)
    torch.manual_seed(0)
    model = Mine()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(8):
        for part in torch.randperm(len(data.train)).split(64):
            loss = nn.functional.cross_entropy(model(data.train.x[part].float() / 255), data.train.y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@pytest.fixture
def weights(trained: Mine, tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_file(trained.state_dict(), path)
    return path


def config_with(methods: tuple[str, ...] = ("soft_targets",), **teacher: object) -> SearchConfig:
    config = small_config(distill={"methods": methods}).model_dump()
    config["teacher"] = [teacher]
    return SearchConfig.model_validate(config)


def prepare(config: SearchConfig, folder: Path) -> tuple[RunContext, ReadyTeacher]:
    context = open_context(config, folder / "run")
    gate = Gate(context, NetworkBuilder(context.data, context.space))
    return context, prepare_teachers(context, gate.of_file)[0]


def test_factory_and_weights(weights: Path, tmp_path: Path) -> None:
    config = config_with(factory=HERE + "mine", weights=weights, preprocessing="unit")
    context, ready = prepare(config, tmp_path)
    assert ready.record.origin == "factory"
    assert ready.record.val.mean > 0.9
    assert ready.record.costs.parameters == sum(p.numel() for p in Mine().parameters())
    assert ready.file is not None
    assert ready.record.costs.size_bytes == len(ready.file.content) + metadata_size(dataset_record(context.data))
    assert accuracy_of(ready.teacher.model, context.data.val, context.numerics) == ready.record.val.mean


@pytest.mark.parametrize("method", ["fitnet", "attention_transfer", "similarity", "soft_targets+similarity"])
def test_a_users_teacher_teaches_features(method: str, weights: Path, tmp_path: Path) -> None:
    config = config_with(
        (method,), factory=HERE + "mine", weights=weights, preprocessing="unit", features=("early", "late")
    )
    context, ready = prepare(config, tmp_path)
    candidate = Candidate(context.space.size_ladder(6)[1], (), Recipe(method, {"strength": 1.0}))
    trained = distiller_of(context, [ready.teacher]).distill(candidate, 0, 4, until=1)
    assert 0 <= trained.val_accuracy <= 1


def test_onnx(trained: Mine, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(export_onnx(trained, (1, 8, 8)))
    context, ready = prepare(config_with(onnx=path, preprocessing="unit"), tmp_path)
    assert ready.record.origin == "onnx"
    assert ready.file is not None
    assert ready.record.costs.size_bytes == len(ready.file.content)
    assert ready.record.val.mean > 0.9
    assert ready.record.costs.macs > 0
    candidate = Candidate(context.space.size_ladder(6)[1], (), Recipe("soft_targets", {"strength": 1.0}))
    trained = distiller_of(context, [ready.teacher]).distill(candidate, 0, 4, until=1)
    assert 0 <= trained.val_accuracy <= 1
    with pytest.raises(InputError, match="'similarity' needs the teacher's features; an ONNX teacher provides"):
        prepare(config_with(("similarity",), onnx=path), tmp_path)


def refusal(folder: Path, **teacher: object) -> str:
    with pytest.raises(InputError) as caught:
        prepare(config_with(**teacher), folder)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals(weights: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "mine.pt"
    torch.save(Mine().state_dict(), pickled)
    said = refusal(tmp_path, factory=HERE + "mine", weights=pickled)
    assert "Pickled checkpoints (.pt, .pth) are refused because loading one can run any code" in said
    assert "no such file" in refusal(tmp_path, factory=HERE + "mine", weights=tmp_path / "no.safetensors")
    assert "does not fit the network" in refusal(tmp_path, factory=HERE + "eleven_classes", weights=weights)
    assert "no licence" in refusal(tmp_path, factory=HERE + "broken", weights=weights)
    assert "must return a torch.nn.Module, got dict" in refusal(tmp_path, factory=HERE + "no_module", weights=weights)
    assert "unknown name" in refusal(tmp_path, factory=HERE + "mien", weights=weights)
    assert "did you mean 'mine'?" in refusal(tmp_path, factory=HERE + "mien", weights=weights)
    assert "gives no feature map" in refusal(
        tmp_path,
        methods=("fitnet",),
        factory=HERE + "mine",
        weights=weights,
        preprocessing="unit",
        features=("nowhere",),
    )


def test_a_teacher_no_better_than_chance(tmp_path: Path) -> None:
    untrained = tmp_path / "untrained.safetensors"
    torch.manual_seed(0)
    save_file(Mine().state_dict(), untrained)
    assert "no better than chance" in refusal(tmp_path, factory=HERE + "mine", weights=untrained)


def test_a_teacher_of_the_wrong_classes_or_shape(tmp_path: Path) -> None:
    eleven = tmp_path / "eleven.safetensors"
    save_file(Mine(11).state_dict(), eleven)
    said = refusal(tmp_path, factory=HERE + "eleven_classes", weights=eleven, fine_tune="never")
    assert "must give logits of shape (2, 10) for 2 samples, got (2, 11)" in said
    path = tmp_path / "other.onnx"
    path.write_bytes(export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(2 * 64, 10)), (2, 8, 8)))
    assert "takes samples of shape (2, 8, 8), the data's are (1, 8, 8)" in refusal(tmp_path, onnx=path)


def test_the_same_teacher_twice_is_refused(with_teachers: Seed, tmp_path: Path) -> None:
    twice = small_config(teacher=[SMALL_TEACHER, SMALL_TEACHER | {"seed": 0}])
    context = open_context(twice, with_teachers(tmp_path))
    with pytest.raises(InputError, match="two of the teachers are the same network"):
        prepare_teachers(context, Gate(context, NetworkBuilder(context.data, context.space)).of_file)
