"""Scenes composed of scikit-learn's handwritten digits: which ones are there, and how many and how large."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SIDE, SHARE = 2, 0.5  # cells of a scene along each side, and how many of them hold a digit
DIGITS = 4  # of the ten
LABELS = tuple(f"a {digit}" for digit in range(DIGITS))


def scenes(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw (N, 1, 16, 16) scenes, and (N, 2, 2) the digit in each cell; -1: none."""
    digits, generator = load_digits(), np.random.default_rng(seed)
    pool = np.flatnonzero(digits.target < DIGITS)
    chosen = generator.choice(pool, size=(n, SIDE, SIDE))
    there = generator.random(chosen.shape) < SHARE
    pictures = digits.images[chosen] * 15 * there[..., None, None]
    x = pictures.transpose(0, 1, 3, 2, 4).reshape(n, 1, 8 * SIDE, 8 * SIDE)
    return x.astype(np.uint8), np.where(there, digits.target[chosen], -1)


def labels_of(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 4): 1 for the digits that are there."""
    return np.stack([(cells == digit).any(axis=(1, 2)) for digit in range(DIGITS)], axis=1).astype(np.int64)


def numbers_of(cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, 2): how many digits there are, and a thousand times their sum."""
    return np.stack([(cells >= 0).sum(axis=(1, 2)), 1000 * cells.clip(0).sum(axis=(1, 2))], axis=1).astype(np.float64)


TARGETS = {"multi_label": labels_of, "regression": numbers_of}
NAMES = {"multi_label": LABELS, "regression": ("count", "sum")}


def write_scenes(path: Path, task: str, n: int = 500) -> Path:
    """Write training and test scenes with the targets of a task."""
    arrays = {}
    for seed, (split, size) in enumerate((("train", n), ("test", n // 2))):
        x, cells = scenes(size, seed)
        arrays |= {f"x_{split}": x, f"y_{split}": TARGETS[task](cells)}
    np.savez(path, **arrays, classes=np.array(NAMES[task]))
    return path
