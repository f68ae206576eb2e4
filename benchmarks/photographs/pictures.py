"""Flowers in folders of splits, the same for all contestants: 128 pixels, 1,000 to test on, 400 to validate on."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE, CLASSES = 128, 5
TEST, VAL = 1000, 400
SEED = 20_240  # of the splits
Sizes = tuple[int | None, int, int]  # of train (None: all others), val and test


@dataclass(frozen=True)
class Pictures:
    """A split in memory.

    Attributes:
        x: (N, 3, SIDE, SIDE), uint8.
        y: (N,), int64: numbers of the classes by name.
    """

    x: Tensor
    y: Tensor


def split_folders(flowers: Path, out: Path, sizes: Sizes = (None, VAL, TEST)) -> Path:
    """Copy pictures to `out`/{train,val,test}/CLASS, unless they are there.

    Args:
        flowers: holds a folder of pictures for each class.
        out: folder to make.
        sizes: numbers of pictures; of those in a random order, test pictures come first, then val, then train.

    Returns:
        The folder of the splits.
    """
    if out.is_dir():
        return out
    files = sorted(flowers.glob("*/*.jpg"))
    order = [files[i] for i in np.random.default_rng(SEED).permutation(len(files))]
    train, val, test = sizes
    parts = {"test": order[:test], "val": order[test : test + val], "train": order[test + val :][:train]}
    unfinished = out.with_name(f"{out.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for split, chosen in parts.items():
        for path in chosen:
            place = unfinished / split / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    unfinished.rename(out)
    return out


def load_pictures(folder: Path) -> Pictures:
    """Read one split: pictures of classes in the order of their names, cut to the centre square and resized.

    Args:
        folder: holds a folder for each class.
    """
    x, y = [], []
    for number, of_class in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for path in sorted(of_class.iterdir()):
            with Image.open(path) as picture:
                x.append(np.asarray(_square(picture.convert("RGB"))).transpose(2, 0, 1))
                y.append(number)
    return Pictures(torch.from_numpy(np.stack(x)), torch.tensor(y))


def _square(picture: Image.Image) -> Image.Image:
    side, (width, height) = min(picture.size), picture.size
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
