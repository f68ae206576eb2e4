"""Teachers of masks and boxes that are ONNX files, or networks that students are cut out of."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_kd
from nas_kd.api.functions import read_config
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.heads.headed_space import with_head
from nas_kd.models.search_space import load_space

TASKS = ("segmentation", "detection")
EPOCHS = {"segmentation": 15, "detection": 6}
OPTIONS: dict[str, Any] = {
    "distill.epochs": 2,
    "distill.batch_size": 16,
    "distill.learning_rate": 0.05,
    "distill.optimizer": "sgd",
    "chain.max_assistants": 0,
    "search.rungs": 1,
    "finalists.max": 1,
    "finalists.seeds": 1,
    "finalists.controls": False,
    "finalists.baselines": [],
    "engine.threads": 1,
}


class Normalised(nn.Module):
    """A network of the user's own, whose numbers of its input's sides are Python's."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net((x - 100.0) / 60.0)
        return result


@pytest.fixture(scope="module", params=TASKS)
def scenes(request: pytest.FixtureRequest) -> tuple[Dataset, nn.Module]:
    """Scenes of digits, and a network that knows a little of them."""
    data = load_dataset(read_config(None, {"data.train_rows": 160, "data.test_rows": 40}, task=request.param).data, 0)
    space = with_head(load_space("resnet"), data.task)
    torch.manual_seed(0)
    small = space.size_ladder(4)[1]
    net = Normalised(space.build(small, data.input_shape, data.n_classes))
    optimizer, x = torch.optim.Adam(net.parameters(), 1e-2), data.train.x[:].float()
    for _ in range(EPOCHS[request.param]):
        for rows in torch.split(torch.randperm(len(x)), 16):
            loss = data.task.label_loss(data.task.decide(net(x[rows])), data.train.y[rows], None, None)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return data, net.eval()


def arrays(data: Dataset) -> dict[str, Any]:
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {name: (split.x[:].numpy(), split.y.numpy()) for name, split in splits.items()}


def as_file(data: Dataset, net: nn.Module, axes: int, path: Path) -> str:
    path.write_bytes(export_onnx(net, data.input_shape, "out", axes))
    return str(path)


def test_an_onnx_teacher_returns_what_the_task_asks_for(scenes: tuple[Dataset, nn.Module], tmp_path: Path) -> None:
    data, net = scenes
    axes = 1 + len(data.task.raw_shape(data.n_classes))
    file = as_file(data, net, axes, tmp_path / "teacher.onnx")
    common = {"data": arrays(data), "task": data.task.name, "trials": 1, "options": OPTIONS}
    run = nas_kd.search(teacher=file, budget={"max_size_kb": 60}, run_dir=tmp_path / "run", **common)
    assert run.winner is not None
    other = as_file(data, nn.Sequential(net, nn.Flatten(1)), 2, tmp_path / "flat.onnx")
    with pytest.raises(InputError, match=f"must have {axes} axes"):
        nas_kd.search(teacher=other, run_dir=tmp_path / "other", **common)
    more = with_head(load_space("resnet"), data.task)
    wider = Normalised(more.build(more.size_ladder(4)[0], data.input_shape, data.n_classes + 1).eval())
    with pytest.raises(InputError, match=r"gives outputs of shape \(.*\) a sample, the task wants \("):
        nas_kd.search(teacher=as_file(data, wider, axes, tmp_path / "wider.onnx"), run_dir=tmp_path / "more", **common)


@pytest.mark.parametrize("precision", ["fp32", "int8-qat"])
def test_students_are_cut_out_of_the_teacher(scenes: tuple[Dataset, nn.Module], tmp_path: Path, precision: str) -> None:
    data, net = scenes
    run = nas_kd.search(
        teacher=net,
        data=arrays(data),
        task=data.task.name,
        space="own",
        trials=1,
        budget={"max_size_kb": 1000},
        options=OPTIONS | {"search.precisions": [precision]},
        run_dir=tmp_path / "run",
    )
    assert run.winner is not None
