"""What divides stored samples into 0..1, by their type and the training samples' range."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nas_kd.config.options import DataOptions
from nas_kd.data.pixel_range import PixelRange
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError


@pytest.mark.parametrize(
    ("dtype", "low", "high", "scale"),
    [
        ("uint8", 0, 255, 255),
        ("uint8", 0, 1, 255),  # bytes are pixels, however dark
        ("float32", 0, 1, 1),
        ("float32", -0.0005, 1.0005, 1),  # interpolation overshoots
        ("float64", 0.2, 0.7, 1),
        ("bool", 0, 1, 1),
        ("int64", 0, 1, 1),
        ("float32", 0, 255, 255),
        ("int64", 3, 255, 255),
        ("int32", 0, 128, 255),
        ("uint16", 0, 255, 255),
        ("uint16", 0, 65535, 65535),
        ("uint16", 0, 4095, 65535),
        ("float32", 0, 16, None),
        ("float32", 0, 127, None),
        ("float32", -1, 1, None),
        ("float32", -128, 127, None),
        ("float32", 0, 300, None),
        ("int32", 0, 65535, None),
    ],
)
def test_scale(dtype: str, low: float, high: float, scale: float | None) -> None:
    assert PixelRange(dtype, low, high).scale == scale


def test_other_values_are_refused_with_their_range() -> None:
    with pytest.raises(InputError, match=r"preprocessing takes pixels, but .* int16 from -3 to 16.5: neither 0..1"):
        PixelRange("int16", -3, 16.5).require_scale("preprocessing")


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 255), ("uint16", 65535), ("float64", 255), ("int64", 255)])
def test_the_sources_own_type_counts(dtype: str, scale: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 65536 if dtype == "uint16" else 256, (60, 1, 4, 4)).astype(dtype)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(60) % 3, x_teacher_train=x[..., 1:, 1:])
    data = load_dataset(DataOptions(source="npz", path=tmp_path / "d.npz"), 0)
    assert (data.pixels.dtype, data.pixels.scale) == (dtype, scale)
    assert data.teacher_view is not None
    assert (data.teacher_view.pixels.dtype, data.teacher_view.pixels.scale) == (dtype, scale)


def test_of_tensors() -> None:
    assert PixelRange.of(torch.tensor([[0.25, 0.5]])) == PixelRange("float32", 0.25, 0.5, whole=False)
    assert PixelRange.of(torch.tensor([[3, 7]])) == PixelRange("int64", 3, 7, whole=True)
    assert PixelRange.of(torch.tensor([[3.0], [7.0]])).whole
    assert not PixelRange.of(torch.cat([torch.zeros(5000, 1), torch.full((1, 1), 0.5)])).whole
