"""A folder of photographs of odd sizes, formats and modes, of two kinds that even a small network tells apart."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("bars", "dots & [rest]")
SPLITS = {"train": 40, "val": 30, "test": 25}
KINDS = ("RGB.png", "L.png", "RGB.jpg", "P.gif", "RGBA.png", "rotated.jpg", "CMYK.jpg", "1.png")


def picture(kind: int, seed: int) -> Image.Image:
    """A noisy picture of 20 to 90 pixels a side: upright bars, or a bright middle."""
    rng = np.random.default_rng([kind, seed])
    height, width = rng.integers(20, 90, size=2)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    shape = np.sin(x * 25 + rng.uniform(0, 6)) > 0 if kind == 0 else np.hypot(x - 0.5, y - 0.5) < 0.3
    values = shape[..., None] * rng.uniform(60, 200, 3) + rng.normal(30, 25, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def write_picture(folder: Path, name: str, image: Image.Image, kind: str) -> None:
    """Write it as one of `KINDS`."""
    mode, _, suffix = kind.partition(".")
    path = folder / f"{name}.{suffix}"
    if mode == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: turned by a quarter
        image.save(path, exif=exif)
    elif mode == "P" and suffix == "gif":
        image.convert("P").save(path, transparency=3)
    else:
        image.convert(mode).save(path)


def write_photos(root: Path) -> Path:
    """Write train, val and test folders of both classes."""
    for split, number in SPLITS.items():
        for kind, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                write_picture(folder, f"{i:02}", picture(kind, 1000 * len(split) + i), KINDS[i % len(KINDS)])
    return root


def labelled(root: Path, split: str) -> Iterator[tuple[Path, str]]:
    """Every file of a split with its class."""
    for name in CLASSES:
        yield from ((file, name) for file in sorted((root / split / name).iterdir()))
