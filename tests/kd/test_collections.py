"""Teachers by name from packages of pretrained networks: from look-alikes always, from real ones where installed."""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nas_kd.config.options import SearchConfig
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.kd.config_checks import checked_config
from nas_kd.kd.user_teachers import UserTeacher, from_factory
from nas_kd.models.collections.base import collection_of, is_in_collection
from nas_kd.plugins import available
from tests.small_runs import small_config

NETS = """
from torch import nn

def tiny(classes):
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(trunk, nn.Linear(8, classes))
"""
TIMM = """
from types import SimpleNamespace
from tiny_nets import tiny

def list_models():
    return ["tiny", "small"]

def create_model(name, pretrained, num_classes=7):
    assert not pretrained
    net = tiny(num_classes)
    net.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "input_size": (3, 12, 12)}
    return net

def get_pretrained_cfg(name):
    return SimpleNamespace(hf_hub_id=None, url="https://there/tiny-1234.pth")
"""
TRANSFORMERS = """
import json
from pathlib import Path
from types import SimpleNamespace
from tiny_nets import tiny

class AutoConfig:
    @staticmethod
    def from_pretrained(folder, local_files_only, num_labels=None):
        assert local_files_only
        said = json.loads((Path(folder) / "config.json").read_text())
        return SimpleNamespace(num_labels=num_labels or said["num_labels"])

class AutoModelForImageClassification:
    @staticmethod
    def from_config(config):
        return tiny(config.num_labels)
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that look like real ones, before all others; and an empty cache of torch.hub."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name, text in (("tiny_nets", NETS), ("timm", TIMM), ("transformers", TRANSFORMERS)):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    names = ("tiny_nets", "timm", "transformers")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield folder
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def weights_of(folder: Path, classes: int, name: str = "given.safetensors") -> Path:
    torch.manual_seed(0)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(import_module("tiny_nets").tiny(classes).state_dict(), path)
    return path


def config_with(**teacher: object) -> SearchConfig:
    return SearchConfig.model_validate({**small_config().model_dump(), "teacher": [teacher]})


def opened(**teacher: object) -> UserTeacher:
    config = config_with(**teacher)
    checked_config(config)
    return from_factory(config.teacher[0], load_dataset(config.data, 0))


def refusal(**teacher: object) -> str:
    with pytest.raises(InputError) as caught:
        opened(**teacher)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names() -> None:
    assert set(available("collection")) == {"hf", "timm", "torchvision"}
    assert is_in_collection("timm:resnet18.a1_in1k")
    assert not is_in_collection("my_package.timm:resnet18")
    assert collection_of("hf:google/vit-base-patch16-224")[1] == "google/vit-base-patch16-224"
    with pytest.raises(InputError, match=r"names no network: timm:NAME"):
        collection_of("timm:")


def test_what_the_package_says_of_samples_is_used(packages: Path, tmp_path: Path) -> None:
    path = weights_of(tmp_path, 7)
    teacher = opened(factory="timm:tiny", weights=path)
    assert teacher.head is not None
    assert (teacher.head.n_classes, teacher.head.is_new) == (7, True)
    assert teacher.options.image_size == (12, 12)
    assert teacher.options.mean == (0.1, 0.2, 0.3)
    assert any("by the configuration of timm: mean [0.1, 0.2, 0.3]" in note for note in teacher.notes)
    assert "samples are resized to 12x12 pixels (bilinear)" in teacher.notes
    assert teacher.teacher.description.startswith("timm:tiny, ")


def test_what_the_user_sets_wins(packages: Path, tmp_path: Path) -> None:
    path = weights_of(tmp_path, 7)
    teacher = opened(factory="timm:tiny", weights=path, preprocessing="unit", image_size=10)
    assert (teacher.options.mean, teacher.options.image_size) == (None, (10,))
    assert teacher.teacher.key != opened(factory="timm:tiny", weights=path).teacher.key


def test_a_file_of_the_data_s_classes_needs_no_new_head(packages: Path, tmp_path: Path) -> None:
    teacher = opened(factory="timm:tiny", weights=weights_of(tmp_path, 10))
    assert teacher.head is None


def test_weights_that_the_package_has_fetched(packages: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "hub" / "checkpoints"
    said = refusal(factory="timm:tiny")
    assert "timm:tiny: its weights are not here: give a file as teacher.weights, or let the package fetch them" in said
    assert str(cache / "tiny-1234.pth") in said
    assert "timm.create_model('tiny', pretrained=True)" in said
    cache.mkdir(parents=True)
    torch.save(import_module("tiny_nets").tiny(7).state_dict(), cache / "tiny-1234.pth")
    said = refusal(factory="timm:tiny")
    assert "convert it once, without running any: nas-kd convert" in said
    weights_of(cache, 7, "tiny-1234.safetensors")  # what that command writes
    assert opened(factory="timm:tiny").head is not None


def test_a_folder_of_hugging_face(packages: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert "no such folder" in refusal(factory=f"hf:{folder}")
    weights_of(folder, 7, "model.safetensors")
    (folder / "config.json").write_text('{"num_labels": 7}')
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 9, "width": 11}}'
    )
    teacher = opened(factory=f"hf:{folder}")
    assert teacher.head is not None
    assert (teacher.options.mean, teacher.options.image_size) == ((0.5, 0.5, 0.5), (9, 11))


def test_mistakes(packages: Path, tmp_path: Path) -> None:
    path = weights_of(tmp_path, 7)
    assert "unknown timm network 'tinny'; did you mean 'tiny'?" in refusal(factory="timm:tinny", weights=path)
    assert "timm has no network 'zzzz'" in refusal(factory="timm:zzzz", weights=path)
    other = tmp_path / "other.safetensors"
    save_file({"encoder.weight": torch.ones(2)}, other)
    assert "does not fit timm:tiny: " in refusal(factory="timm:tiny", weights=other)
    (packages / "timm.py").write_text("import no_such_package\n")
    sys.modules.pop("timm", None)
    said = refusal(factory="timm:tiny", weights=path)
    assert said.startswith("teacher.factory = 'timm:...' needs the package timm: pip install timm (ModuleNotFoundError")
    with pytest.raises(InputError, match="factory and weights go together"):
        SearchConfig(teacher={"factory": "my_nets:tiny"})


REAL = [
    ("timm", "timm:mobilenetv3_small_050", 1000),
    ("timm", "timm:deit_tiny_distilled_patch16_224", 1000),
    ("torchvision", "torchvision:mobilenet_v3_small", 1000),
    ("torchvision", "torchvision:squeezenet1_1", 1000),
]


@pytest.mark.parametrize(("package", "factory", "classes"), REAL)
def test_real_packages(package: str, factory: str, classes: int, tmp_path: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    collection, network = collection_of(factory)
    torch.manual_seed(0)
    path = tmp_path / "random.safetensors"
    module = collection.build(network, None).module
    save_file({name: t.clone() for name, t in module.state_dict().items()}, path)
    teacher = opened(factory=factory, weights=path, image_size=64 if "deit" not in factory else None)
    assert teacher.head is not None
    assert (teacher.head.n_classes, teacher.head.is_new) == (classes, True)
    assert teacher.options.std is not None


def test_real_transformers(tmp_path: Path) -> None:
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    transformers = import_module("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=7
    )
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 32}}')
    teacher = opened(factory=f"hf:{tmp_path}", preprocessing="unit")
    assert teacher.head is not None
    assert (teacher.head.n_classes, teacher.head.is_new, teacher.head.gives_logits) == (7, True, True)
    assert teacher.options.image_size == (32, 32)
