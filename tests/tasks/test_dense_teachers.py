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
HALVES = (slice(0, 2), slice(1, 3))
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


def small_network(data: Dataset, seed: int) -> nn.Module:
    space = with_head(load_space("resnet"), data.task)
    torch.manual_seed(seed)
    return Normalised(space.build(space.size_ladder(4)[1], data.input_shape, data.n_classes))


class Scores(nas_kd.Callback):
    def __init__(self) -> None:
        self.last = 0.0

    def on_epoch_end(self, event: Any) -> None:
        self.last = event.val_score


@pytest.fixture(scope="module", params=TASKS)
def scenes(request: pytest.FixtureRequest) -> tuple[Dataset, nn.Module]:
    """Scenes of digits, and a network that knows a little of them."""
    data = load_dataset(read_config(None, {"data.train_rows": 160, "data.test_rows": 40}, task=request.param).data, 0)
    net = small_network(data, 0)
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


@pytest.mark.parametrize("method", ["soft_targets", "fitnet"])
def test_modules_are_distilled(scenes: tuple[Dataset, nn.Module], method: str, tmp_path: Path) -> None:
    """From arrays that are mirrored with their targets; by an ONNX teacher the same, where it has enough to show."""
    data, net = scenes
    splits = arrays(data)
    options: dict[str, Any] = {
        "train": splits["train"],
        "val": splits["val"],
        "task": data.task.name,
        "method": method,
        "epochs": EPOCHS[data.task.name],
        "batch_size": 16,
        "augment": {"flip": True},
        "threads": 1,
    }
    scores, again = Scores(), Scores()
    student = nas_kd.distill(small_network(data, 1), net, callbacks=scores, **options)
    x, y = (torch.from_numpy(part) for part in splits["val"])
    with torch.no_grad():
        given = student(x.float()).numpy()
    assert scores.last == pytest.approx(data.task.first_score(data.task.evidence(given, y.numpy())), abs=1e-6)
    chance = data.task.headline_score.guessing(splits["train"][1], splits["val"][1], data.n_classes)
    assert scores.last > chance + 0.05
    if method == "soft_targets":
        file = as_file(data, net, 1 + len(data.task.raw_shape(data.n_classes)), tmp_path / "teacher.onnx")
        nas_kd.distill(small_network(data, 1), file, callbacks=again, **options)
        assert again.last > chance + 0.05


def test_modules_and_targets_that_do_not_fit(scenes: tuple[Dataset, nn.Module]) -> None:
    data, net = scenes
    x, y = arrays(data)["train"]
    options: dict[str, Any] = {"task": data.task.name, "epochs": 1, "method": "soft_targets"}
    with pytest.raises(InputError, match=r"student must give an output of shape \("):
        nas_kd.distill(nn.Sequential(nn.Flatten(), nn.Linear(x[0].size, 4)), net, train=(x, y), **options)
    with pytest.raises(InputError, match="a target that has a place in the picture cannot follow it"):
        nas_kd.distill(small_network(data, 1), net, train=(x, y), mix="mixup", **options)
    pairs = torch.utils.data.StackDataset(torch.from_numpy(x).float(), torch.from_numpy(y))
    with pytest.raises(InputError, match="targets that have places in pictures want train as arrays"):
        nas_kd.distill(small_network(data, 1), net, train=pairs, mix="cutmix", **options)
    if data.task.name == "detection":
        beyond = y.copy()
        beyond[0, 0] = (0, 20, 20, 50, 50)
        nas_kd.distill(small_network(data, 1), net, train=(x, beyond), **options)
        pairs = torch.utils.data.StackDataset(torch.from_numpy(x).float(), torch.from_numpy(beyond))
        with pytest.raises(
            InputError, match=r"1 boxes were clipped to their pictures\), and a Dataset is used as it is"
        ):
            nas_kd.distill(small_network(data, 1), net, train=pairs, **options)
        with pytest.raises(InputError, match=r"teacher: its outputs are all in 0\.\.1, as probabilities are"):
            nas_kd.distill(small_network(data, 1), nn.Sequential(net, nn.Sigmoid()), train=(x, y), **options)


def test_data_that_are_read_batch_by_batch(scenes: tuple[Dataset, nn.Module]) -> None:
    """Targets with axes of length 1, and validation boxes that are filled up to another number."""
    data, net = scenes
    x, y = arrays(data)["train"]
    val_x, val_y = arrays(data)["val"]
    options: dict[str, Any] = {"task": data.task.name, "epochs": 1, "method": "soft_targets"}
    fewer = val_y[:, :-1] if data.task.name == "detection" else val_y[:, None]
    nas_kd.distill(small_network(data, 1), net, train=(x, y), val=(val_x, fewer), **options)
    pairs = torch.utils.data.StackDataset(torch.from_numpy(x).float(), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(pairs, batch_size=16, shuffle=True)
    for given in (pairs, loader):
        nas_kd.distill(small_network(data, 1), net, train=given, val=(val_x, val_y), **options)
    uneven = [(torch.from_numpy(x[rows]).float(), torch.from_numpy(y[rows, : 2 + rows.start])) for rows in HALVES]
    with pytest.raises(InputError, match="y of train has targets of shapes"):
        nas_kd.distill(small_network(data, 1), net, train=uneven, **options)
