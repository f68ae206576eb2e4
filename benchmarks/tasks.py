"""Searches of other tasks than one class a sample, on real pictures: numbers, labels and boxes.

    OMP_NUM_THREADS=1 python -m benchmarks.tasks --data-dir DATA [--cases nuclei_count] [--minutes 10]

DATA holds nuclei/{train,val,test}/{images,masks}/*.png and bccd/ (COCO JSON files beside images/). `nuclei_count`: how
many nuclei a picture shows, by the connected parts of its mask. `blood_cells`: whether a picture shows platelets, and
whether it shows more than 15 red cells. `blood_boxes`: a box around each red cell, white cell and platelet, read from
the COCO files themselves; the aim is a teacher with mAP50 of 0.80 and more. Each is one search with `--max-minutes`,
whose run lies in OUT/work and whose report is copied to OUT/CASE; a run that is there goes on, or is read.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

import nas_kd

OUT = Path("reports/tasks")
SPLITS = ("train", "val", "test")
SIDE = 64  # pixels
CROWDED = 15  # red cells
MAX_SIZE_KB = 100
TEACHER_EPOCHS = 20  # some hundreds of pictures: a minute or two of two cores
BOX_SIZE = [144, 192]  # height and width in pixels: a platelet is about 12 pixels wide
BOX_OPTIONS: dict[str, Any] = {
    "teacher.epochs": 60,
    "space.name": "mobilenet_photo",
    "distill.methods": ["soft_targets", "soft_targets+fitnet"],
    "distill.batch_size": 16,
}
Arrays = dict[str, NDArray[Any]]


def picture(path: Path) -> NDArray[np.uint8]:
    """(3, 64, 64) pixels of the whole picture, squeezed to a square."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small).transpose(2, 0, 1)


def nuclei_count(folder: Path) -> Arrays:
    """Pictures of cells, and how many nuclei each shows."""
    arrays: Arrays = {"classes": np.array(["nuclei"])}
    for split in SPLITS:
        names = sorted(path.name for path in (folder / "nuclei" / split / "images").glob("*.png"))
        masks = (np.asarray(Image.open(folder / "nuclei" / split / "masks" / name)) for name in names)
        arrays[f"y_{split}"] = np.array([label(mask > 0)[1] for mask in masks], dtype=np.float32)
        arrays[f"x_{split}"] = np.stack([picture(folder / "nuclei" / split / "images" / name) for name in names])
    return arrays


def blood_cells(folder: Path) -> Arrays:
    """Pictures of blood, and which of two things each shows."""
    arrays: Arrays = {"classes": np.array(["platelets", "crowded"])}
    for split in SPLITS:
        found = json.loads((folder / "bccd" / f"{split}.json").read_text())
        kinds = {kind["id"]: kind["name"] for kind in found["categories"]}
        counts = Counter((box["image_id"], kinds[box["category_id"]]) for box in found["annotations"])
        images = found["images"]
        shown = [[counts[i["id"], "Platelets"] > 0, counts[i["id"], "RBC"] > CROWDED] for i in images]
        arrays[f"y_{split}"] = np.array(shown, dtype=np.int64)
        arrays[f"x_{split}"] = np.stack([picture(folder / "bccd" / "images" / i["file_name"]) for i in images])
    return arrays


def blood_boxes(folder: Path) -> dict[str, Any]:
    """Where pictures of blood and their boxes are; `data.score` decides, mAP50 as published for these data."""
    files = {split: str((folder / "bccd" / f"{split}.json").resolve()) for split in SPLITS}
    images = str((folder / "bccd" / "images").resolve())
    return {"source": "coco", "images": images, "image_size": BOX_SIZE, "on_error": "skip", "score": "map50"} | files


CASES: dict[str, tuple[str, Callable[[Path], Arrays]]] = {
    "nuclei_count": ("regression", nuclei_count),
    "blood_cells": ("multi_label", blood_cells),
}
FILES: dict[str, tuple[str, Callable[[Path], dict[str, Any]], dict[str, Any]]] = {  # data that are read as they are
    "blood_boxes": ("detection", blood_boxes, BOX_OPTIONS),
}


def run(case: str, folder: Path, out: Path, minutes: float) -> nas_kd.Run:
    """Search, or go on; the report is copied where it is kept."""
    task, data, options = described(case, folder, out)
    work = out / "work" / case
    found = nas_kd.search(
        data=data,
        task=task,
        budget=nas_kd.Budget(max_size_kb=MAX_SIZE_KB),
        max_minutes=minutes,
        options=options,
        run_dir=work,
    )
    shutil.copytree(work / "report", out / case, dirs_exist_ok=True)
    for page in (out / case / "index.html", out / case / "report.md"):  # where it was made says nothing elsewhere
        page.write_text(page.read_text(encoding="utf-8").replace(f"{Path.cwd()}/", ""), encoding="utf-8")
    shutil.copy(work / "front.json", out / case / "front.json")
    return found


def described(case: str, folder: Path, out: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Task, `[data]` and further options of a case; arrays are written where they are not there."""
    if case in FILES:
        task, found, options = FILES[case]
        return task, found(folder), options
    task, prepare = CASES[case]
    path = out / "work" / f"{case}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = prepare(folder)
        np.savez(path, **arrays)
    return task, {"source": "npz", "path": str(path.resolve())}, {"teacher.epochs": TEACHER_EPOCHS}


def main() -> int:
    """Run the cases and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--cases", default=",".join((*CASES, *FILES)))
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    for case in given.cases.split(","):
        print(case, run(case, given.data_dir, given.out, given.minutes), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
