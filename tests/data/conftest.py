"""Writers of small real files: Parquet, image folders, npz."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas_kd.config.options import Augmentation
from nas_kd.data.dataset import Dataset

WriteParquet = Callable[..., Path]
WriteNpz = Callable[..., Path]


def png(pixels: NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file with these pixels, (H, W) or (H, W, C)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fill(
    folder: Path,
    classes: tuple[str, ...] = ("ant", "bee"),
    n: int = 10,
    side: int | tuple[int, int] = 8,
    first: int = 0,
) -> Path:
    """Write `n` different colour pictures of each class into folders of that name; `first`: their first seed."""
    height, width = side if isinstance(side, tuple) else (side, side)
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            (folder / name / f"{i:02}.png").write_bytes(png(noise(first + 100 * c + i, height, width, 3)))
    return folder


def usual_augmentation(dataset: Dataset) -> Augmentation:
    """The augmentation that the data get unless short trainings show better."""
    return dataset.augmentation.at(dataset.augmentation.usual_strength)


@pytest.fixture
def write_parquet(tmp_path: Path) -> WriteParquet:
    """Write a file in the Hugging Face image layout; an image is its bytes, or None."""

    def write(
        images: list[bytes | None],
        labels: list[Any],
        *,
        names: tuple[str, ...] | None = ("ant", "bee"),
        file: str = "bugs-train.parquet",
        columns: tuple[str, str] = ("image", "label"),
        row_group_size: int = 1000,
        plain: bool = False,
    ) -> Path:
        cells = images if plain else [{"bytes": image, "path": "x.png"} for image in images]
        kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({columns[0]: pa.array(cells, type=kind), columns[1]: pa.array(labels)})
        if names is not None:
            features = {columns[1]: {"names": list(names), "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, tmp_path / file, row_group_size=row_group_size)
        return tmp_path / file

    return write


@pytest.fixture
def write_npz(tmp_path: Path) -> WriteNpz:
    """Write arrays to `data.npz`; without arrays, ten samples of each of two classes."""

    def write(**arrays: Any) -> Path:
        default = {"x_train": noise(0, 20, 1, 8, 8), "y_train": np.arange(20) % 2}
        every: dict[str, Any] = default | arrays
        np.savez(tmp_path / "data.npz", **every)
        return tmp_path / "data.npz"

    return write
