"""What is done with samples in front of teachers that are modules: units, resolution, channels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from nas_kd.config.options import DataOptions, TeacherOptions
from nas_kd.data.dataset import Dataset, Split, as_input
from nas_kd.data.prepare import channel_statistics, load_dataset
from nas_kd.engine.feature_extractor import find_feature_points
from nas_kd.engine.teacher_outputs import TeacherOutputs
from nas_kd.errors import InputError
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.teacher_file import export_teacher
from nas_kd.kd.user_teachers import UserTeacher, from_factory
from nas_kd.plugins import remember
from nas_kd.results.candidate import Candidate, Recipe
from nas_kd.serialization import fingerprint
from tests.small_runs import distiller_of, open_context, small_config


class Spy(nn.Module):
    """Ten logits of any image, which remembers what it was shown; takes `channels` at any resolution."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.early = nn.Conv2d(channels, 4, 3, padding=1)
        self.head = nn.Linear(4, 10)
        self.seen = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return self.head(self.early(x).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Grey, uint8, 8x8."""
    return load_dataset(DataOptions(source="digits"), 0)


@pytest.fixture(scope="module")
def colour(digits: Dataset) -> Dataset:
    """The same as colour images."""

    def coloured(split: Split) -> Split:
        return Split(torch.cat([split.x // 2, split.x, 255 - split.x], dim=1), split.y)

    parts = {name: coloured(getattr(digits, name)) for name in ("train", "val", "test")}
    mean, std = channel_statistics(parts["train"].x.numpy())
    return replace(digits, **parts, mean=mean, std=std)


def made(net: nn.Module, data: Dataset, **options: object) -> UserTeacher:
    name = remember("teacher", fingerprint([str(net), sorted(map(str, options.items()))]), net)
    return from_factory(TeacherOptions(factory=name, **options), data)  # type: ignore[arg-type]


def shown(teacher: UserTeacher, x: Tensor) -> Tensor:
    """What the user's module sees of samples as they are stored."""
    teacher.teacher.model(as_input(x))
    return next(m.seen for m in teacher.teacher.model.modules() if isinstance(m, Spy))


def channels(*values: float) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)


def test_mean_and_std_are_of_pixels_in_0_to_1(colour: Dataset) -> None:
    x, pixels = colour.val.x[:5], colour.val.x[:5].float() / 255
    for options, mean, std in (
        ({"mean": 0.5, "std": 0.25}, channels(0.5), channels(0.25)),
        ({"mean": 0.5}, channels(0.5), channels(1.0)),
        ({"std": [0.1, 0.2, 0.3]}, channels(0.0), channels(0.1, 0.2, 0.3)),
        ({"mean": [0.1, 0.2, 0.3], "std": 0.5}, channels(0.1, 0.2, 0.3), channels(0.5)),
        ({"mean": "imagenet"}, channels(0.485, 0.456, 0.406), channels(0.229, 0.224, 0.225)),
        ({"std": "imagenet"}, channels(0.485, 0.456, 0.406), channels(0.229, 0.224, 0.225)),
        ({"mean": "imagenet", "std": 1}, channels(0.485, 0.456, 0.406), channels(1.0)),
        ({"mean": 0.5, "std": 0.25, "preprocessing": "unit"}, channels(0.5), channels(0.25)),
    ):
        assert torch.allclose(shown(made(Spy(3), colour, **options), x), (pixels - mean) / std, atol=1e-5)


def test_units_follow_from_the_training_samples(colour: Dataset) -> None:
    pixels = colour.val.x[:5].float() / 255
    for factor, stored, dtype in ((255, "float32", ""), (1, "float32", ""), (65535, "float32", "uint16")):
        parts = {n: Split(getattr(colour, n).x.float() / 255 * factor, getattr(colour, n).y) for n in ("train", "val")}
        data = replace(colour, **parts, scale=1.0, stored_dtype=dtype)
        x = data.val.x[:5]
        assert str(x.dtype).endswith(stored)
        for options in ({"preprocessing": "unit"}, {"mean": 0.0}):
            assert torch.allclose(shown(made(Spy(3), data, **options), x), pixels, atol=1e-5)


def test_samples_that_are_no_pixels(colour: Dataset) -> None:
    parts = {n: Split(getattr(colour, n).x.float() / 10 - 3, getattr(colour, n).y) for n in ("train", "val")}
    data = replace(colour, **parts, scale=1.0, stored_dtype="")
    teacher = made(Spy(3), data, mean=2.0, std=4.0)
    assert torch.allclose(shown(teacher, data.val.x[:5]), (data.val.x[:5] - 2) / 4, atol=1e-5)
    assert "mean and std are in the samples' own units (-3 to 22.5), no pixels" in teacher.notes
    with pytest.raises(InputError, match=r"teacher.preprocessing = \"unit\" takes pixels, .* float32 from -3 to 22.5"):
        made(Spy(3), data, preprocessing="unit")


def test_resolution(colour: Dataset) -> None:
    x = colour.val.x[:5]
    for size in (16, [12, 20], [4, 12], 8):
        sides = (size, size) if isinstance(size, int) else tuple(size)
        teacher = made(Spy(3), colour, image_size=size, preprocessing="unit")
        seen = shown(teacher, x)
        assert tuple(seen.shape) == (5, 3, *sides)
        resized = F.interpolate(x.float(), sides, mode="bilinear", align_corners=False, antialias=min(sides) < 8)
        assert torch.allclose(seen, resized / 255, atol=1e-5)
        way = "bilinear, anti-aliased" if min(sides) < 8 else "bilinear"
        assert (f"samples are resized to {sides[0]}x{sides[1]} pixels ({way})" in teacher.notes) == (sides != (8, 8))
        file = export_teacher(teacher.teacher.model, colour)
        found = OnnxClassifier(file.content).predict(x)  # what is measured takes samples as they are
        assert np.allclose(found, teacher.teacher.model(as_input(x)).detach().numpy(), atol=1e-4)


def test_shrinking_agrees_with_pillow(digits: Dataset) -> None:
    large = digits.val.x[:1].repeat_interleave(5, dim=2).repeat_interleave(5, dim=3)
    image = Image.fromarray(large[0, 0].numpy()).resize((16, 16), Image.Resampling.BILINEAR)
    data = replace(digits, **{n: Split(large.repeat(9, 1, 1, 1), torch.arange(9)) for n in ("train", "val", "test")})
    seen = shown(made(Spy(), data, image_size=16), large)
    assert np.abs(seen[0, 0].numpy() - np.asarray(image, dtype=np.float32)).max() <= 1


def test_grey_samples_of_a_colour_teacher(digits: Dataset) -> None:
    x = digits.val.x[:5]
    teacher = made(Spy(3), digits, mean="imagenet", image_size=16)
    seen = shown(teacher, x)
    resized = F.interpolate(x.float() / 255, (16, 16), mode="bilinear", align_corners=False)
    wanted = (resized - channels(0.485, 0.456, 0.406)) / channels(0.229, 0.224, 0.225)
    assert torch.allclose(seen, wanted, atol=1e-5)
    assert {"grey samples are repeated to 3 channels", "samples are resized to 16x16 pixels (bilinear)"} == {
        *teacher.notes
    }
    plain = made(Spy(3), digits)
    assert torch.equal(shown(plain, x), x.float().repeat(1, 3, 1, 1))
    assert shown(made(Spy(1), digits), x).shape[1] == 1


def test_features_are_found_by_the_users_own_paths(digits: Dataset) -> None:
    teacher = made(Spy(3), digits, mean="imagenet", image_size=16, features=("early",))
    (path,) = teacher.teacher.features or ()
    assert path == "body.body.body.early"
    example = as_input(digits.val.x[:2])
    assert find_feature_points(teacher.teacher.model, example, [path]).features == (path,)


@pytest.mark.parametrize("method", ["soft_targets", "fitnet"])
def test_students_learn_from_it(method: str, tmp_path: Path) -> None:
    """Outputs from the cache, and features of the running teacher, are of the same samples at its own resolution."""
    context = open_context(small_config(distill={"methods": [method]}), tmp_path / "run")
    own = made(Spy(3), context.data, mean="imagenet", image_size=12, features=("early",)).teacher
    outputs = TeacherOutputs(own, context.augmenter, 64, context.numerics, None)
    cached = outputs.cached(0, torch.arange(5)).logits
    assert torch.allclose(cached, own.model(context.augmenter.batch(0, torch.arange(5))), atol=1e-4)
    candidate = Candidate(context.space.size_ladder(6)[1], (), Recipe(method, {"strength": 1.0}))
    trained = distiller_of(context, [own]).distill(candidate, 0, 4, until=1)
    assert 0 <= trained.val_accuracy <= 1


def test_keys(digits: Dataset) -> None:
    net = Spy()
    plain = made(net, digits, preprocessing="unit")
    options = (
        {"mean": 0.5},
        {"mean": 0.25},
        {"std": 0.5},
        {"image_size": 16},
        {"image_size": 8},
        {"mean": 0.5, "std": 0.5},
    )
    keys = [plain.teacher.key, *(made(net, digits, **o).teacher.key for o in options)]
    assert len(set(keys)) == len(keys)
    name = remember("teacher", "0" * 16, net)
    old = from_factory(TeacherOptions(factory=name, preprocessing="unit"), digits).teacher.key
    assert old == fingerprint([name, "unit", digits.input_shape])  # as before there were these options


def refusal(data: Dataset, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        made(Spy(data.input_shape[0]), data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals(colour: Dataset) -> None:
    said = refusal(colour, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    assert "teacher.mean is of pixels in 0..1, got 123.675: divide mean and std by 255" in said
    assert "teacher.mean has 2 values, samples have shape (3, 8, 8); give one number, or one for each of 3" in refusal(
        colour, mean=[0.5, 0.5]
    )
    flat = {n: Split(getattr(colour, n).x.flatten(1), getattr(colour, n).y) for n in ("train", "val", "test")}
    rows = replace(colour, **flat, mean=colour.mean[:1], std=colour.std[:1])
    assert "teacher.image_size needs images (C, H, W), samples have shape (192,)" in refusal(rows, image_size=8)
    assert "teacher.mean has 3 values, samples have shape (192,); give one number" in refusal(rows, mean="imagenet")
