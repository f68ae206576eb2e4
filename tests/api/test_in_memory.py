"""Objects under names: the same content has the same name in every process, and any change gives another one."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import nas_kd
from nas_kd.api.content_identity import module_identity, object_identity
from nas_kd.api.in_memory import data_options, device_name, method_names, space_name, teacher_options
from nas_kd.config.options import DataOptions, TeacherOptions
from nas_kd.data.prepare import find_source
from nas_kd.data.source import Arrays, RawData, TeacherView
from nas_kd.plugins import display_name, load, remembered

from .search_toys import DEVICE, Given, LogitMatching, TinySpace, splits
from .toys import Items, Net, net, samples

X, Y = samples()


def raw(data: Any) -> RawData:
    """What a search reads of what was given."""
    options = DataOptions(**data_options(data))
    return find_source(options).load(options)


class Buffered(nn.Module):
    """A network with a buffer that is no part of its state dict."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(shift), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) + self.shift


def changed(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-6
    return network


class Files:
    """A data source with attributes of many kinds."""

    name, summary = "files", "files"
    uses = frozenset[str]()

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def load(self, options: DataOptions) -> RawData:
        return RawData("files", Arrays(X, Y))


def test_names_are_the_same_in_another_process(teacher_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.api.test_in_memory import *\n"
        "from tests.api.search_toys import saved_teacher; print(names(saved_teacher(Path(sys.argv[1]))))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(teacher_file)]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    teacher = net(12)
    teacher.load_state_dict(torch.load(teacher_file, weights_only=True))
    assert done.stdout == f"{names(teacher)}\n"


def names(teacher: Net) -> list[Any]:
    files = Files(paths=[Path("a"), Path("b")], table={"x": np.arange(5), "of": TinySpace}, seen={"b", "a"}, me=None)
    files.me = files  # type: ignore[attr-defined]
    return [
        teacher_options(teacher),
        data_options(splits()),
        data_options(files),
        space_name(TinySpace()),
        method_names(LogitMatching),
        device_name(DEVICE),
    ]


@pytest.mark.parametrize(
    "others",
    [
        [lambda: net(8), lambda: net(9), lambda: net(8, seed=1), lambda: changed(net(8))],
        [lambda: Buffered(0.0), lambda: Buffered(1.0)],
        [lambda: nn.Linear(2, 2, bias=False), lambda: nn.Sequential(nn.Linear(2, 2, bias=False))],
    ],
    ids=["weights", "buffers", "layers"],
)
def test_another_network_has_another_identity(others: list[Callable[[], nn.Module]]) -> None:
    torch.manual_seed(0)
    assert len({module_identity(make()) for make in others}) == len(others)
    networks = [make() for make in others[:1] for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    assert module_identity(networks[0]) == module_identity(networks[1])


def test_the_code_of_a_network_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for folder, code in (("a", "return x"), ("b", "return x + 1"), ("c", "return x")):
        path = tmp_path / folder / "own.py"
        path.parent.mkdir()
        path.write_text(f"from torch import nn\nclass Own(nn.Module):\n    def forward(self, x):\n        {code}\n")
        spec = importlib.util.spec_from_file_location("own", path)
        assert spec is not None
        module: Any = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "own", module)
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        found.append(module_identity(module.Own()))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize(
    "other",
    [
        (X, Y.flip(0)),
        (X.double(), Y),
        (X[:-1], Y[:-1]),
        {"train": (X, Y), "val": (X, Y)},
        {"train": (X, Y), "classes": ["a", "b", "c"]},
        RawData("raw", Arrays(X, Y), teacher_view=TeacherView({"train": X})),
        RawData("raw", Arrays(X, Y), teacher_view=TeacherView({"train": X + 1})),
        RawData("raw", Arrays(X, Y), flip_safe=True),
    ],
)
def test_other_data_have_another_name(other: Any) -> None:
    assert data_options(other) != data_options((X, Y))
    assert data_options(other) == data_options(other)


def test_views_of_the_teacher_differ() -> None:
    views = [RawData("raw", Arrays(X, Y), teacher_view=TeacherView({"train": X + i})) for i in range(2)]
    assert data_options(views[0]) != data_options(views[1])


@pytest.mark.parametrize(
    "attributes",
    [{"rows": 5}, {"rows": "5"}, {"rows": [5]}, {"rows": np.arange(5)}, {"rows": Files(of=5)}, {"rows": 5.0}],
)
def test_sources_differ_by_their_attributes(attributes: dict[str, Any]) -> None:
    others = [
        Files(),
        Files(rows=6),
        Files(rows=[6]),
        Files(rows=np.arange(2000)),
        Files(rows=Files(of=6)),
        Files(row=5),
    ]
    long = Files(rows=np.append(np.arange(1999), 0))
    identities = {object_identity(source) for source in (*others, long, Files(**attributes))}
    assert len(identities) == len(others) + 2
    assert object_identity(Files(**attributes)) == object_identity(Files(**attributes))


def test_spaces_differ_by_their_dimensions() -> None:
    assert space_name(TinySpace) == space_name(TinySpace()) != space_name(TinySpace(12))
    assert space_name("resnet") == "resnet"


def test_names_for_people() -> None:
    (name,) = method_names(LogitMatching)
    assert display_name(f"{name}+dkd") == "logit_matching+dkd"
    assert display_name(space_name(TinySpace())) == "tiny"
    assert display_name(data_options((X, Y))["source"]) == "given in Python"
    assert display_name("package.module:Name") == "package.module:Name"


def test_workers_get_what_the_config_names_and_nothing_else() -> None:
    (method,), source = method_names([LogitMatching]), data_options((X, Y))["source"]
    teacher = teacher_options(net(8))
    space_name(TinySpace())
    config = {"teacher": tuple(teacher), "data": {"source": source}, "distill": {"methods": (f"dkd+{method}",)}}
    found = remembered(config)
    assert set(found) == {teacher[0]["factory"], source, method}
    assert found[method] is LogitMatching
    assert load("method", method) is LogitMatching


def test_kinds_of_data() -> None:
    expected = data_options((X, Y))
    assert data_options((X.numpy(), Y.numpy())) == expected
    assert data_options({"train": (X, Y), "val": None}) == expected
    assert data_options(TensorDataset(X, Y)) == expected
    assert data_options(Items(X, Y)) == expected
    assert data_options({"train": Items(X, Y)}) == expected
    assert data_options(lambda: {"x_train": X, "y_train": Y}) == expected
    assert data_options("digits") == {"source": "digits"}
    assert data_options({"source": "npz", "path": "a.npz"}) == {"source": "npz", "path": "a.npz"}
    assert data_options(DataOptions(source="npz")) == {"source": "npz"}
    shards = {"source": "parquet", "train": ["a.parquet", Path("b.parquet")]}
    assert data_options(shards) == shards
    assert raw(Files).train == (X, Y)
    given = raw({"train": (X, Y), "test": (X[:9], Y[:9]), "classes": ["cat", "dog", "cow"]})
    assert (given.classes, given.flip_safe) == (("cat", "dog", "cow"), True)
    assert given.test is not None
    assert len(given.test.x) == 9


@pytest.mark.parametrize(("mode", "shape"), [("L", (1, 4, 6)), ("RGB", (3, 4, 6))])
def test_items_may_be_images_and_labels_names(mode: str, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 4, 6, 3), dtype=np.uint8)
    images = [Image.fromarray(p).convert(mode) for p in pixels]
    found = raw(Given(lambda i: (images[i], "ab"[i % 2]), length=20)).train
    assert found.x.shape == (20, *shape)
    assert found.y[:3].tolist() == ["a", "b", "a"]
    if mode == "RGB":
        assert np.array_equal(found.x, pixels.transpose(0, 3, 1, 2))


def test_names_kept_as_objects_become_text() -> None:
    labels = raw((X, np.array(["a", "b", "c"] * 32, dtype=object))).train.y
    assert labels.dtype.kind == "U"


def test_kinds_of_teachers() -> None:
    teacher = net(8)
    (alone,) = teacher_options(teacher)
    assert load("teacher", alone["factory"]) is teacher
    assert teacher_options({"module": teacher, "preprocessing": "unit"}) == [alone | {"preprocessing": "unit"}]
    assert teacher_options([teacher, "t.onnx"]) == [alone, {"onnx": str(Path.cwd() / "t.onnx")}]
    assert teacher_options(TeacherOptions(space="resnet", epochs=3)) == [{"space": "resnet", "epochs": 3}]
    assert teacher_options({"space": "resnet"}) == [{"space": "resnet"}]
    assert teacher_options({"space": TinySpace, "epochs": 3}) == [{"space": space_name(TinySpace()), "epochs": 3}]


def test_methods_may_be_mixed() -> None:
    names = method_names(("dkd", LogitMatching))
    assert names[0] == "dkd"
    assert method_names("dkd") == ["dkd"]
    assert method_names(LogitMatching) == names[1:]
    assert nas_kd.SearchConfig(distill={"methods": names}).distill.methods == tuple(names)
