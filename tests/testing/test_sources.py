"""Sources: the built-in ones hold their contract on real files, those with one fault each are refused for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nas_kd.config.options import DataOptions
from nas_kd.data.user_source import load_user_source
from nas_kd.plugins import available
from nas_kd.testing import BrokenRule, check_source
from nas_kd.testing.rules import rule_text
from nas_kd.testing.sources import RULES
from tests.data.test_box_sources import write_coco, write_voc, write_yolo

from .wrong_sources import WRONG, Right

LABELS = np.arange(20) % 2


def images() -> Any:
    return np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)


def npz(folder: Path) -> DataOptions:
    x = images().transpose(0, 3, 1, 2)
    np.savez(folder / "data.npz", x_train=x, y_train=LABELS, x_teacher_train=255 - x)
    return DataOptions(source="npz", path=folder / "data.npz")


def image_folder(folder: Path) -> DataOptions:
    for i, (pixels, label) in enumerate(zip(images(), LABELS, strict=True)):
        file = folder / "pictures" / ("ant", "bee")[label] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return DataOptions(source="image_folder", path=folder / "pictures", image_size=6)


def parquet(folder: Path) -> DataOptions:
    image_folder(folder)
    files = sorted((folder / "pictures").rglob("*.png"))
    table = pa.table(
        {
            "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
            "label": [int(file.parent.name == "bee") for file in files],
        }
    )
    features = {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (folder / "tables").mkdir()
    paths = {split: folder / "tables" / f"bugs-{split}.parquet" for split in ("train", "test")}
    for path in paths.values():
        pq.write_table(table, path)
    return DataOptions(source="parquet", **paths)  # type: ignore[arg-type]


def mask_folder(folder: Path) -> DataOptions:
    for i, pixels in enumerate(images()[:6]):
        for kind, content in (("images", pixels), ("masks", (pixels[..., 0] > 127).astype(np.uint8))):
            file = folder / "scans" / kind / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(file)
    return DataOptions(source="mask_folder", path=folder / "scans", image_size=6, task="segmentation")


def parquet_masks(folder: Path) -> DataOptions:
    mask_folder(folder)
    images, masks = (sorted((folder / "scans" / kind).iterdir()) for kind in ("images", "masks"))
    columns = {"image": images, "mask": masks}
    pq.write_table(pa.table({n: [f.read_bytes() for f in files] for n, files in columns.items()}), folder / "a.parquet")
    return DataOptions(source="parquet_masks", train=folder / "a.parquet", image_size=6, task="segmentation")


def picture_table(folder: Path) -> DataOptions:
    options = image_folder(folder)
    files = sorted(options.path.rglob("*.png"))  # type: ignore[union-attr]
    rows = [f"{file.relative_to(folder)},{file.parent.name}" for file in files]
    (folder / "table.csv").write_text("\n".join(["file,label", *rows]))
    return DataOptions(source="picture_table", train=folder / "table.csv", image_size=6)


OPTIONS: dict[str, Callable[[Path], DataOptions]] = {
    "digits": lambda _: DataOptions(),
    "digit_numbers": lambda _: DataOptions(),
    "npz": npz,
    "image_folder": image_folder,
    "identity_folder": image_folder,
    "parquet": parquet,
    "picture_table": picture_table,
    "mask_folder": mask_folder,
    "parquet_masks": parquet_masks,
    "digit_masks": lambda _: DataOptions(task="segmentation"),
    "digit_boxes": lambda _: DataOptions(task="detection"),
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
}


@pytest.mark.parametrize("name", available("dataset"))
def test_built_in_sources_hold_their_contract(name: str, tmp_path: Path) -> None:
    source = available("dataset")[name]
    assert source.name == name
    check_source(source, OPTIONS[name](tmp_path))


def test_a_function_of_a_user_holds_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    lines = ["import numpy as np", "def arrays():", "    return {'x_train': np.eye(6), 'y_train': np.arange(6) % 2}"]
    (tmp_path / "arrays_of_a_user.py").write_text("\n".join(lines))
    check_source(load_user_source("arrays_of_a_user:arrays"))


@pytest.fixture
def table(tmp_path: Path) -> DataOptions:
    rows = np.stack([np.arange(20), np.arange(20) % 7, LABELS], axis=1)
    np.savetxt(tmp_path / "table.txt", rows)
    return DataOptions(path=tmp_path / "table.txt")


def test_the_right_one_passes(table: DataOptions) -> None:
    check_source(Right(), table)


@pytest.mark.parametrize(("source", "rule", "seen"), WRONG, ids=[wrong[0].__name__ for wrong in WRONG])
def test_wrong_ones_are_refused_for_their_fault(source: type[Any], rule: str, seen: str, table: DataOptions) -> None:
    with pytest.raises(BrokenRule) as caught:
        check_source(source(), table)
    assert caught.value.rule.startswith(rule)
    assert seen in caught.value.seen
    assert str(caught.value).isprintable()


def test_every_rule_refuses_something() -> None:
    assert [text for text in map(rule_text, RULES) if not any(text.startswith(rule) for _, rule, _ in WRONG)] == []
