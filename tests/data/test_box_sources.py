"""Pictures with boxes from COCO, VOC and YOLO: what is read, what is left out and counted, and what is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas_kd.config.options import DataOptions
from nas_kd.data.coco import PLUGIN as COCO
from nas_kd.data.picture_steps import letterboxed
from nas_kd.data.source import RawData
from nas_kd.data.voc import PLUGIN as VOC
from nas_kd.data.voc import read_annotation
from nas_kd.data.yolo import PLUGIN as YOLO
from nas_kd.errors import InputError

CLASSES = ("cell", "plate")
Boxes = list[tuple[int, float, float, float, float]]
# By picture: width and height, and class, x1, y1, x2, y2 in pixels.
SCENES: dict[str, dict[str, tuple[tuple[int, int], Boxes]]] = {
    "train": {
        "a.png": ((40, 40), [(0, 4, 8, 20, 24), (1, 20, 20, 36, 40)]),
        "b.png": ((40, 20), [(0, 0, 0, 10, 20)]),
        "c.png": ((20, 40), [(1, 5, 5, 15, 15)]),
        "d.png": ((40, 40), []),
    },
    "val": {"e.png": ((40, 40), [(0, 10, 10, 30, 30)])},
    "test": {"f.png": ((40, 40), [(1, 10, 10, 30, 30)])},
}
EXPECTED = {
    "train": [
        [[0, 4, 8, 20, 24], [1, 20, 20, 36, 40]],
        [[0, 0, 10, 10, 30], [-1] * 5],
        [[1, 15, 5, 25, 15], [-1] * 5],
        [[-1] * 5] * 2,
    ],
    "val": [[[0, 10, 10, 30, 30]]],
    "test": [[[1, 10, 10, 30, 30]]],
}


def paint(file: Path, size: tuple[int, int], boxes: Boxes) -> None:
    """Write a dark picture whose boxes are filled: of class 0 in red, of class 1 in green."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for label, *corners in boxes:
        x1, y1, x2, y2 = map(round, corners)
        pixels[y1:y2, x1:x2, label] = 255
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def write_coco(folder: Path, change: Callable[[dict[str, Any]], None] | None = None, **options: Any) -> DataOptions:
    for split, scene in SCENES.items():
        document: dict[str, Any] = {"images": [], "annotations": []}
        document["categories"] = [{"id": 7 + i, "name": name} for i, name in enumerate((*CLASSES, "unused"))]
        for number, (name, (size, boxes)) in enumerate(scene.items()):
            paint(folder / "images" / name, size, boxes)
            document["images"].append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
            for label, x1, y1, x2, y2 in boxes:
                of = {"id": len(document["annotations"]), "image_id": number, "category_id": 7 + label}
                document["annotations"].append(of | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
        if change is not None and split == "train":
            change(document)
        (folder / f"{split}.json").write_text(json.dumps(document))
    files = {split: folder / f"{split}.json" for split in SCENES}
    return DataOptions(task="detection", images=folder / "images", image_size=40, cache=False, **files, **options)


def write_voc(folder: Path) -> DataOptions:
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    for split, scene in SCENES.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(name[:-4] for name in scene))
        for name, (size, boxes) in scene.items():
            paint(folder / "JPEGImages" / name, size, boxes)
            objects = "".join(
                f"<object><name>{CLASSES[label]}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
                f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
                for label, x1, y1, x2, y2 in boxes
            )
            shape = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
            (folder / "Annotations" / f"{name[:-4]}.xml").write_text(f"<annotation>{shape}{objects}</annotation>")
    return DataOptions(task="detection", path=folder, image_size=40, cache=False)


def write_yolo(folder: Path) -> DataOptions:
    for split, scene in SCENES.items():
        (folder / "labels" / split).mkdir(parents=True)
        for name, ((width, height), boxes) in scene.items():
            paint(folder / "images" / split / name, (width, height), boxes)
            lines = (
                f"{c} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
                for c, x1, y1, x2, y2 in boxes
            )
            if boxes:  # a picture without boxes may have no file
                (folder / "labels" / split / f"{name[:-4]}.txt").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return DataOptions(task="detection", path=folder, image_size=40, cache=False)


SOURCES: dict[str, tuple[Any, Callable[[Path], DataOptions]]] = {
    "coco": (COCO, write_coco),
    "voc": (VOC, write_voc),
    "yolo": (YOLO, write_yolo),
}


@pytest.mark.parametrize("name", SOURCES)
def test_boxes_follow_their_pictures(name: str, tmp_path: Path) -> None:
    """Boxes are where the coloured pixels are, letterboxed pictures included."""
    source, write = SOURCES[name]
    raw: RawData = source.load(write(tmp_path))
    assert raw.classes == CLASSES
    for split, expected in EXPECTED.items():
        arrays: Any = getattr(raw, split)
        assert arrays.y.tolist() == expected
        for pixels, boxes in zip(arrays.x, arrays.y, strict=True):
            check_pixels(pixels, boxes)
    assert any("1 pictures have no box" in note for note in raw.notes)
    assert raw.picture_steps is not None
    assert raw.picture_steps.resize == "letterbox"


def check_pixels(pixels: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
    """A box is full of its class's colour, which is nowhere else."""
    for label in range(2):
        inside = np.zeros(pixels.shape[1:], dtype=bool)
        for _, x1, y1, x2, y2 in boxes[boxes[:, 0] == label].astype(int):
            inside[y1:y2, x1:x2] = True
        assert np.array_equal(pixels[label] > 127, inside)


@pytest.mark.parametrize(("shown", "size"), [((30, 90), (64, 64)), ((90, 30), (64, 64)), ((33, 47), (40, 64))])
def test_letterboxing_is_pillow_s(shown: tuple[int, int], size: tuple[int, int]) -> None:
    white = Image.new("L", shown[::-1], 255)
    found = np.argwhere(np.asarray(ImageOps.pad(white, size[::-1])) > 0)
    scale, start = letterboxed(shown, size)
    ends = [start[1] + scale[1] * shown[0], start[0] + scale[0] * shown[1]]
    assert found.min(axis=0).tolist() == [start[1], start[0]]
    assert (found.max(axis=0) + 1).tolist() == pytest.approx(ends)


def _boxes(*boxes: list[Any], **more: Any) -> Callable[[dict[str, Any]], None]:
    """Add boxes (x, y, width, height) of class `cell` to the first picture."""
    added = [{"id": 90, "image_id": 0, "category_id": 7, "bbox": box} | more for box in boxes]
    return lambda document: document["annotations"].extend(added)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_boxes([50, 0, 5, 5]), "outside of the picture"),
        (_boxes([5, 5, 0, 5]), "without area"),
        (_boxes([5, 5, 5, 5], iscrowd=1), "of a crowd or marked as difficult"),
    ],
)
def test_boxes_that_cannot_be_learned_are_counted(change: Any, reason: str, tmp_path: Path) -> None:
    raw = COCO.load(write_coco(tmp_path, change))
    assert raw.skipped == {reason: 1}
    assert raw.train.y.tolist() == EXPECTED["train"]
    assert any(f"{reason}: 1 (a.png)" in note for note in raw.notes)


def test_boxes_that_reach_beyond_the_picture_are_clipped(tmp_path: Path) -> None:
    raw = COCO.load(write_coco(tmp_path, _boxes([30, 30, 20, 20])))
    assert raw.train.y[0, 2].tolist() == [0, 30, 30, 40, 40]
    assert any(note.startswith("1 boxes that reached beyond") for note in raw.notes)


def _missing(document: dict[str, Any]) -> None:
    document["images"].append({"id": 50, "file_name": "nothing.png"})


def _outside(document: dict[str, Any]) -> None:
    document["images"].append({"id": 50, "file_name": "../train.json"})


def _another_size(document: dict[str, Any]) -> None:
    document["images"][3]["width"] = 50


@pytest.mark.parametrize(
    ("change", "message", "reason"),
    [
        (_boxes([5, 5, -3, 5]), "is broken: upside down", "upside down"),
        (_boxes([5, float("nan"), 3, 5]), "its numbers are not finite", "its numbers are not finite"),
        (_missing, "names 'nothing.png', which is not in", "picture that is not there"),
        (_outside, r"names '\.\./train.json', which is not in", "picture that is not there"),
        (_boxes([1, 1, 2, 2], image_id=80), "is of an image or category that is not in the file", "of no picture"),
        (_boxes([1, 1, 2, 2], category_id=80), "is of an image or category", "of no picture or class of the file"),
        (_another_size, "its boxes are for a picture of 50x40, it has 40x40", "of another size"),
    ],
)
def test_what_is_broken_is_refused_or_skipped(change: Any, message: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        COCO.load(write_coco(tmp_path, change))
    raw = COCO.load(write_coco(tmp_path, change, on_error="skip"))
    assert [count for name, count in raw.skipped.items() if name.startswith(reason)] == [1]
    assert raw.train.y.tolist() == EXPECTED["train"]


def test_a_class_that_train_has_not_is_refused_or_skipped(tmp_path: Path) -> None:
    options = write_coco(tmp_path)
    (tmp_path / "val.json").write_text(
        (tmp_path / "val.json").read_text().replace('"category_id": 7', '"category_id": 9')
    )
    with pytest.raises(InputError, match="val has boxes of class 'unused', train has none"):
        COCO.load(options)
    raw = COCO.load(options.model_copy(update={"on_error": "skip"}))
    assert raw.classes == CLASSES
    assert raw.skipped == {"of a class that train has not": 1}
    assert raw.val is not None
    assert (raw.val.y == -1).all()


def test_broken_pictures_go_with_their_boxes(tmp_path: Path) -> None:
    options = write_coco(tmp_path)
    (tmp_path / "images" / "a.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable image"):
        COCO.load(options)
    raw = COCO.load(options.model_copy(update={"on_error": "skip"}))
    assert raw.train.y[:, 0].tolist() == [rows[0] for rows in EXPECTED["train"][1:]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON file"),
        ("[]", "is not COCO's"),
        ('{"images": [], "annotations": [], "categories": []}', "names no images"),
        ('{"images": [{}], "annotations": [], "categories": []}', "images want id and file_name"),
        ('{"images": [{}], "annotations": [], "categories": [1]}', "a category lacks id or name"),
    ],
)
def test_other_json_is_refused(content: str, message: str, tmp_path: Path) -> None:
    options = write_coco(tmp_path)
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(InputError, match=message):
        COCO.load(options)


def test_entities_in_xml_are_refused() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "1"><!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'
    for content in (bomb, bomb.decode().encode("utf-16")):
        with pytest.raises(ValueError, match="document type"):
            read_annotation(content)


def test_broken_xml_is_refused_or_skipped(tmp_path: Path) -> None:
    options = write_voc(tmp_path)
    (tmp_path / "Annotations" / "d.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(InputError, match="an object has no name or no bndbox"):
        VOC.load(options)
    raw = VOC.load(options.model_copy(update={"on_error": "skip"}))
    assert raw.skipped == {"annotation that cannot be read": 1}
    assert len(raw.train.y) == 3


def test_broken_lines_are_refused_or_skipped(tmp_path: Path) -> None:
    options = write_yolo(tmp_path)
    (tmp_path / "labels" / "train" / "d.txt").write_text("0 0.5 0.5 0.1\n2 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=r"line 1: '0 0.5 0.5 0.1'; want class column row width height"):
        YOLO.load(options)
    raw = YOLO.load(options.model_copy(update={"on_error": "skip"}))
    assert raw.skipped == {"line that cannot be read": 2}
    assert raw.train.y.tolist() == EXPECTED["train"]


def test_names_of_yolo_classes_are_found(tmp_path: Path) -> None:
    options = write_yolo(tmp_path)
    (tmp_path / "classes.txt").unlink()
    assert YOLO.load(options).classes == ("0", "1")
    pytest.importorskip("yaml")
    for names in ("[cell, plate]", "{0: cell, 1: plate}"):
        (tmp_path / "data.yaml").write_text(f"path: .\nnames: {names}\n")
        assert YOLO.load(options).classes == CLASSES
    (tmp_path / "data.yaml").write_text("names: 3\n")
    with pytest.raises(InputError, match="want names, a list of the classes"):
        YOLO.load(options)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    for source, message in ((VOC, "a folder with Annotations/"), (YOLO, "has neither images/train nor train/images")):
        with pytest.raises(InputError, match=message):
            source.load(DataOptions(path=tmp_path))
    with pytest.raises(InputError, match=r"needs data\.train"):
        COCO.load(DataOptions())


BCCD = Path(os.environ.get("NAS_KD_DATA", "nowhere")) / "bccd"


@pytest.mark.skipif(not BCCD.is_dir(), reason="NAS_KD_DATA has no bccd")
def test_real_pictures_of_blood_cells() -> None:
    files: Any = {split: BCCD / f"{split}.json" for split in ("train", "val", "test")}
    raw = COCO.load(DataOptions(images=BCCD / "images", image_size=(96, 128), cache=False, **files))
    assert raw.classes == ("RBC", "WBC", "Platelets")
    assert raw.skipped == {"without area": 2}
    assert raw.train.x.shape == (205, 3, 96, 128)
    assert sum(int((getattr(raw, split).y[:, :, 0] >= 0).sum()) for split in files) == 4886
