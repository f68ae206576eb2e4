"""Searches of other tasks than one class a sample, on real data: numbers, labels, masks, boxes and faces.

    OMP_NUM_THREADS=1 python -m benchmarks.tasks --data-dir DATA [--cases nuclei_count] [--minutes 10]

DATA holds nuclei/{train,val,test}/{images,masks}/*.png, bccd/ (COCO JSON files beside images/) and orl_faces/sN/*.png.
`nuclei_count`: how many nuclei a picture shows, by the connected parts of its mask. `nuclei`: which pixels are theirs.
`blood_cells`: whether a picture shows platelets, and whether it shows more than 15 red cells. `blood_boxes`: a box
around each red cell, white cell and platelet; the aim is a teacher with mAP50 of 0.80 and more. `faces`: vectors of
people (AT&T Laboratories Cambridge), of whom 30 are for training and validation, and 10 others for test. `diabetes`:
how far the disease is a year later (scikit-learn's ten measurements of 442 patients); students are cut out of a
network of the user's own. `scenes`: which of the digits 0, 1 and 7 a scene composed of scikit-learn's shows.
Each is a search with `--max-minutes`, whose run lies in OUT/work and whose report is copied to OUT/CASE; a run that is
there goes on, or is read.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

import nas_kd
from nas_kd.data.digit_scenes import DIGITS, SCENES, compose

OUT = Path("reports/tasks")
SPLITS = ("train", "val", "test")
SIDE = 64  # pixels
CROWDED = 15  # red cells
TEACHER_EPOCHS = 20  # some hundreds of pictures: a minute or two of two cores
FACE = (48, 40)  # height and width, pixels
PEOPLE = 30  # for training and validation
MASK_SIZE = 80  # pixels: theirs are of 128; nuclei of ten pixels want finer maps than those of spaces for photographs
BOX_SIZE = [144, 192]  # the same: a platelet is about 12 pixels wide
MASK_SPACE = "resnet+pyramid"
MASK_TEACHER = {  # 400,000 weights; the largest of its space takes two and a half times as long
    **{"stem_stride": 1, "width_1": 16, "width_2": 48, "width_3": 96, "kernel_1": 3, "kernel_2": 3, "kernel_3": 3},
    **{"depth_1": 2, "depth_2": 2, "depth_3": 2, "head_width": 32, "head_depth": 2, "head_finest": 1},
}
Arrays = dict[str, NDArray[Any]]


class Case(NamedTuple):
    """A search.

    Attributes:
        task: by name.
        arrays: makes them of the folder of data; they are written to an .npz.
        files: says how a source reads the folder as it is: `[data]`.
        options: beside these.
        max_size_kb: of the student: about a tenth of the teacher.
        own: trains the teacher on the arrays; None: the search does.
    """

    task: str
    arrays: Callable[[Path], Arrays] | None = None
    files: Callable[[Path], dict[str, Any]] | None = None
    options: Mapping[str, Any] = {"teacher.epochs": TEACHER_EPOCHS}
    max_size_kb: float = 100
    own: Callable[[Arrays], nn.Module] | None = None

    def data(self, folder: Path, path: Path) -> dict[str, Any]:
        """The section `[data]`; arrays are written to `path` if they are not there."""
        if self.files is not None:
            return self.files(folder)
        assert self.arrays is not None
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays: dict[str, Any] = self.arrays(folder)
            np.savez(path, **arrays)
        return {"source": "npz", "path": str(path.resolve())}


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


def faces(folder: Path) -> Arrays:
    """Grey pictures (N, 1, 48, 40) of faces, and whose they are."""
    people = sorted((folder / "orl_faces").iterdir(), key=lambda path: int(path.name[1:]))
    arrays: Arrays = {}
    for split, of_split in (("train", people[:PEOPLE]), ("test", people[PEOPLE:])):
        files = [file for person in of_split for file in sorted(person.glob("*.png"))]
        shown = (Image.open(file).convert("L").resize(FACE[::-1], Image.Resampling.BOX) for file in files)
        arrays[f"x_{split}"] = np.stack([np.asarray(one)[None] for one in shown])
        arrays[f"y_{split}"] = np.array([file.parent.name for file in files])
    return arrays


def diabetes(_folder: Path) -> Arrays:
    """Ten measurements (N, 10) of patients, standardised, and how far the disease is a year later."""
    found = load_diabetes(scaled=False)
    order = np.random.default_rng(0).permutation(len(found.data))
    parts = dict(zip(SPLITS, np.split(order, [264, 353]), strict=True))  # 60, 20 and 20 %
    of_train = found.data[parts["train"]]
    x = ((found.data - of_train.mean(axis=0)) / of_train.std(axis=0)).astype(np.float32)
    y = found.target.astype(np.float32)
    return {f"{what}_{split}": of[rows] for what, of in (("x", x), ("y", y)) for split, rows in parts.items()}


class Perceptron(nn.Module):
    """Two hidden layers; returns numbers (B, 1) in units of the targets."""

    def __init__(self, mean: float, std: float) -> None:
        """Targets have this mean and standard deviation."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Predict from x (B, 10)."""
        result: Tensor = self.layers(x) * self.std + self.mean
        return result


def perceptron(arrays: Arrays) -> nn.Module:
    """Train one, as long as it gets better on validation."""
    x, y = torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"])[:, None]
    x_val, y_val = torch.from_numpy(arrays["x_val"]), torch.from_numpy(arrays["y_val"])[:, None]
    torch.manual_seed(0)
    net = Perceptron(float(y.mean()), float(y.std()))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.1)
    least, best = float("inf"), net.state_dict()
    for _ in range(100):
        for rows in torch.split(torch.randperm(len(x)), 32):
            optimizer.zero_grad()
            F.huber_loss(net(x[rows]) / net.std, y[rows] / net.std).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            error = float(F.mse_loss(net(x_val), y_val))
        if error < least:
            least, best = error, {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(best)
    return net.eval()


def scenes(_folder: Path) -> Arrays:
    """Grey scenes (N, 1, 32, 32) of handwritten digits, and which of them each shows."""
    arrays: Arrays = {"classes": np.array([f"digit {digit}" for digit in DIGITS])}
    for seed, (split, n) in enumerate(SCENES.items()):
        found = compose(2 * n, seed, test=split == "test")
        arrays[f"x_{split}"] = np.stack([scene.picture for scene in found])[:, None]
        shown = [{digit.number for digit in scene.digits} for scene in found]
        arrays[f"y_{split}"] = np.array([[i in there for i in range(len(DIGITS))] for there in shown], dtype=np.int64)
    return arrays


def nuclei(folder: Path) -> dict[str, Any]:
    """Where pictures of cells and masks of their nuclei are."""
    return {"source": "mask_folder", "path": str((folder / "nuclei").resolve()), "image_size": MASK_SIZE}


def blood_boxes(folder: Path) -> dict[str, Any]:
    """Where pictures of blood and their boxes are; `data.score` decides, mAP50 as published for these data."""
    files = {split: str((folder / "bccd" / f"{split}.json").resolve()) for split in SPLITS}
    images = str((folder / "bccd" / "images").resolve())
    return {"source": "coco", "images": images, "image_size": BOX_SIZE, "on_error": "skip", "score": "map50"} | files


CASES: dict[str, Case] = {
    "nuclei_count": Case("regression", nuclei_count),
    "nuclei": Case(
        "segmentation",
        files=nuclei,
        options={
            "teacher.epochs": 60,
            "space.name": MASK_SPACE,
            "teacher.space": MASK_SPACE,
            "teacher.architecture": MASK_TEACHER,
        },
        max_size_kb=160,
    ),
    "blood_cells": Case("multi_label", blood_cells),
    "scenes": Case("multi_label", scenes),
    "diabetes": Case(
        "regression",
        diabetes,
        options={"space.name": "own", "search.trials": 12},
        own=perceptron,
    ),
    "blood_boxes": Case(
        "detection",
        files=blood_boxes,
        options={
            "teacher.epochs": 60,
            "space.name": "mobilenet_photo",
            "distill.methods": ["soft_targets", "soft_targets+fitnet"],
            "distill.batch_size": 16,
        },
        max_size_kb=800,
    ),
    "faces": Case(
        "embedding",
        faces,
        # Most candidates find all pictures of the four people for validation, so that false alarms decide.
        options={
            "teacher.epochs": 80,
            "distill.batch_size": 32,  # 8 steps an epoch or so
            "data.score": "tar_at_far",
            "data.augment.strength": "standard",  # ten pictures a person; after a few epochs none looks better
        },
        max_size_kb=150,
    ),
}


def run(case: str, folder: Path, out: Path, minutes: float) -> nas_kd.Run:
    """Search, or go on; the report is copied where it is kept."""
    chosen, work, arrays = CASES[case], out / "work" / case, out / "work" / f"{case}.npz"
    data = chosen.data(folder, arrays)
    found = nas_kd.search(
        data=data,
        teacher=None if chosen.own is None else chosen.own(dict(np.load(arrays))),
        task=chosen.task,
        budget=nas_kd.Budget(max_size_kb=chosen.max_size_kb),
        max_minutes=minutes,
        options=dict(chosen.options),
        run_dir=work,
    )
    shutil.copytree(work / "report", out / case, dirs_exist_ok=True)
    here = str(work.resolve())
    for page in (out / case / "index.html", out / case / "report.md"):  # where it was made says nothing elsewhere
        page.write_text(page.read_text("utf-8").replace(f"{here}/", "").replace(here, "RUN"), "utf-8")
    shutil.copy(work / "front.json", out / case / "front.json")
    return found


def main() -> int:
    """Run the cases and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    for case in given.cases.split(","):
        print(case, run(case, given.data_dir, given.out, given.minutes), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
