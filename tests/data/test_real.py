"""The real CIFAR-10 and MNIST files, where NAS_KD_DATA names their folder."""

import os
import time
from pathlib import Path

import pytest

from nas_kd.config.options import DataOptions
from nas_kd.data.prepare import load_dataset

from .conftest import usual_augmentation

FOLDER = os.environ.get("NAS_KD_DATA")
pytestmark = pytest.mark.skipif(
    FOLDER is None or not Path(FOLDER, "cifar10-train.parquet").is_file(),
    reason="NAS_KD_DATA does not name a folder with cifar10-*.parquet and mnist-*.parquet",
)


def options(name: str, rows: int) -> DataOptions:
    folder = Path(FOLDER or "")
    train, test = folder / f"{name}-train.parquet", folder / f"{name}-test.parquet"
    return DataOptions(source="parquet", train=train, test=test, train_rows=rows, test_rows=1000)


def test_cifar10() -> None:
    start = time.perf_counter()
    dataset = load_dataset(options("cifar10", 10_000), 0)
    assert time.perf_counter() - start < 15  # about 1.3 s on one quiet core
    assert (dataset.name, dataset.input_shape, dataset.classes[3]) == ("cifar10", (3, 32, 32), "cat")
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (8500, 1500, 1000)
    assert dataset.mean.tolist() == pytest.approx([125.3, 123.0, 113.9], abs=1.0)  # published: 125.3, 123.0, 113.9
    assert dataset.std.tolist() == pytest.approx([63.0, 62.1, 66.7], abs=1.0)
    augment = usual_augmentation(dataset)
    assert (augment.crop, augment.flip) == (4, True)


def test_mnist() -> None:
    dataset = load_dataset(options("mnist", 3000), 0)
    assert (dataset.name, dataset.input_shape, dataset.classes) == ("mnist", (1, 28, 28), tuple("0123456789"))
    assert dataset.mean.tolist() == pytest.approx([33.3], abs=1.0)  # published: 0.1307 of 255
    augment = usual_augmentation(dataset)
    assert (augment.crop, augment.flip) == (3, False)
