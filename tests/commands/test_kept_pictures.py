"""A student distilled from pictures in the cache is that of pictures in memory, to the last bit."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sklearn.datasets import load_digits

import nas_kd
from nas_kd.commands.distill import distill_one
from nas_kd.config.options import SearchConfig, SearchSection
from nas_kd.context.callbacks import Callback

from ..small_runs import small_config

N = 600


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of digits by class."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    for i, (image, label) in enumerate(zip(images[:N] * 15, labels[:N], strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image.reshape(8, 8).astype("uint8")).save(folder / str(label) / f"{i:04}.png")
    return folder


def config(digits: Path, cache: Any) -> SearchConfig:
    data = {"source": "image_folder", "path": digits, "cache": cache, "train_rows": None}
    small = small_config(data=data, teacher={"epochs": 2}, distill={"methods": ["soft_targets"], "epochs": 2})
    return small.model_copy(update={"search": SearchSection(precisions=("int8",))})


def test_the_same_student_from_pictures_in_the_cache(digits: Path, tmp_path: Path) -> None:
    files, cache = [], tmp_path / "cache"
    for name, where in (("memory", False), ("kept", cache)):
        distill_one(config(digits, where), tmp_path / name, Callback())
        files.append(tmp_path / name / "student.onnx")
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1
    (entry,) = cache.glob("pictures-*/*/entry.json")
    made = entry.with_name("pictures.bin").stat().st_mtime_ns
    scores = [nas_kd.evaluate(files[1], config(digits, where)).correct for where in (False, cache)]
    assert scores[0] == scores[1]
    assert entry.with_name("pictures.bin").stat().st_mtime_ns == made
