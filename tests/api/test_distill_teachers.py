"""Teachers of `nas_kd.distill` with inputs of their own: modules and ONNX files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import nas_kd
from nas_kd.errors import InputError
from tests.onnx_files import linear_classifier

N = 96
X = torch.randint(0, 256, (N, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0, :2].float().mean((1, 2)) > X[:, 0, 2:].float().mean((1, 2))).long()


class Spy(nn.Module):
    """Two logits of any image, which remembers the first batch that it was trained on."""

    def __init__(self, channels: int = 1, gain: float = 10.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[-gain], [gain]]))
        self.channels, self.shapes, self.largest = channels, set[tuple[int, ...]](), 0.0

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.channels:
            raise ValueError(f"{self.channels} channels wanted")
        self.shapes.add(tuple(x.shape[1:]))
        self.largest = max(self.largest, float(x.max()))
        half = x.shape[2] // 2
        return torch.tanh(x[:, :, :half].mean((1, 2, 3)) - x[:, :, half:].mean((1, 2, 3)))[:, None] @ self.weight.T


class Notes(nas_kd.Callback):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def distilled(teacher: Any, train: Any = (X, Y), **options: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of a student, and what was said."""
    torch.manual_seed(0)
    callback = Notes()
    student = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    given = {"epochs": 1, "batch_size": 32} | options
    return nas_kd.distill(student, teacher, train=train, callbacks=callback, **given).state_dict(), callback.notes


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("stored", "factor"), [(X, 255.0), (X.float(), 255.0), (X.float() / 255, 1.0)], ids=["uint8", "0..255", "0..1"]
)
def test_units_of_arrays(stored: Tensor, factor: float) -> None:
    spy = Spy()
    distilled({"module": spy, "preprocessing": "unit"}, (stored, Y))
    assert spy.largest == pytest.approx(float(X.max()) / 255)
    spy = Spy()
    distilled({"module": spy, "mean": 0.5, "std": 0.25}, (stored, Y))
    assert spy.largest == pytest.approx((float(X.max()) / 255 - 0.5) / 0.25)
    assert float(stored.max()) == pytest.approx(factor * float(X.max()) / 255)


@pytest.mark.parametrize("kind", ["dataset", "loader"])
def test_units_of_data_sets_and_loaders(kind: str) -> None:
    data = TensorDataset(X.float(), Y)
    items = [(x, int(y)) for x, y in data]
    train = DataLoader(data, batch_size=32) if kind == "loader" else Items(items)
    spy = Spy()
    distilled({"module": spy, "preprocessing": "unit"}, train)
    assert 0.9 < spy.largest <= 1


class Items(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A map-style data set."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_resolution_and_channels() -> None:
    spy = Spy(3)
    _, notes = distilled({"module": spy, "mean": "imagenet", "image_size": np.int64(8)})
    assert spy.shapes == {(3, 8, 8)}
    assert "teacher: grey samples are repeated to 3 channels" in notes
    assert "teacher: samples are resized to 8x8 pixels (bilinear)" in notes


def test_several_teachers_each_with_its_own() -> None:
    first, second = Spy(), Spy(3)
    given = [{"module": first, "preprocessing": "unit"}, {"module": second, "image_size": [8, 12], "mean": 0.5}]
    distilled(given, method="average_teachers")
    assert first.shapes == {(1, 4, 4)}
    assert second.shapes == {(3, 8, 12)}


def test_an_onnx_file_teaches_like_the_module(tmp_path: Path) -> None:
    weight, bias = torch.randn(16, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5, -0.5])
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        net[1].weight.copy_(weight.T)  # type: ignore[operator, union-attr]
        net[1].bias.copy_(bias)  # type: ignore[operator, union-attr]
    path = tmp_path / "t.onnx"
    path.write_bytes(linear_classifier(weight.numpy(), bias.numpy(), shape=(1, 4, 4)).SerializeToString())
    module, _ = distilled({"module": net, "preprocessing": "unit"})
    file, _ = distilled({"onnx": path, "preprocessing": "unit"})
    assert all(torch.allclose(module[k], file[k], atol=1e-5) for k in module)
    plain, _ = distilled(str(path))
    assert same(plain, distilled({"onnx": str(path)})[0])
    softmax = linear_classifier(weight.numpy(), bias.numpy(), shape=(4, 4, 1), channels_last=True, last="Softmax")
    path.write_bytes(softmax.SerializeToString())
    file, notes = distilled({"onnx": path, "preprocessing": "unit"})
    assert all(torch.allclose(module[k], file[k], atol=1e-4) for k in module)
    assert any("probabilities" in note for note in notes)


def test_a_module_alone_is_as_it_was() -> None:
    assert same(distilled(Spy())[0], distilled({"module": Spy()})[0])


def test_a_warning_where_other_units_fit_better() -> None:
    small = {"module": Spy(), "mean": [0.5], "std": 100}
    _, notes = distilled(small, val=(X, Y))
    assert notes == []  # it is right all the same
    x = torch.where(X > 127, X, X // 2)

    class Wrapped(Spy):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.sin(x * torch.pi / 2))

    _, notes = distilled(Wrapped(), (x, Y), val=(x, Y))
    (note,) = notes
    assert note.startswith("teacher: the preprocessing is probably wrong: accuracy ")
    assert note.endswith('% with teacher.preprocessing = "unit"')


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        ({"preprocessing": "unit"}, 'teacher: a mapping needs either "module", a torch.nn.Module, or "onnx"'),
        ({"module": Spy(), "onnx": "t.onnx"}, 'teacher: a mapping needs either "module"'),
        ({"module": Spy(), "epochs": 3}, "teacher.epochs is not used here; allowed: module, onnx, preprocessing, mean"),
        ({"module": Spy(), "mean": "imagenett"}, "teacher.mean: must be a number, a list with one for each channel"),
        ({"module": Spy(), "std": 0}, "teacher.std: must be > 0, got 0"),
        ({"module": Spy(), "output": "y"}, "output is for an ONNX teacher"),
        ({"module": 3}, "teacher is of type int; want a torch.nn.Module"),
        ({"onnx": "missing.onnx"}, "cannot read the ONNX file missing.onnx"),
        ({"module": Spy(2)}, "teacher cannot take samples of train, .* 2 channels wanted"),
    ],
)
def test_refusals(teacher: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        distilled(teacher)
