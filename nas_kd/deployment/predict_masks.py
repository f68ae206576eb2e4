"""What is added to `predict.py` for networks that find classes of pixels; everything below the line goes into it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas_kd.deployment.predict import ARRAYS, Inputs, Predictor, arguments, find_files, run, unused

# --- below this line ---


@dataclass(frozen=True)
class Mask:
    """What the network says of the pixels of one sample.

    `mask` (H, W) has a class number for each pixel, `shares` the share of the pixels of each class that is there, by
    name, and `logits` (classes, h, w) what the network returned for cells of pixels.
    """

    mask: np.ndarray
    shares: dict[str, float]
    logits: np.ndarray


class MaskPredictor(Predictor):
    """A network that finds classes of pixels: `predict` returns a `Mask` for each sample."""

    def predict(self, x: Any, array: str | None = None) -> list[Any]:
        """Run the network on pictures or arrays; returns one `Mask` a sample, in order. See `Predictor.predict`."""
        if isinstance(x, (list, tuple)):
            return [found for one in x for found in self.predict(one, array)]
        if isinstance(x, (str, os.PathLike)) and Path(x).is_dir():
            return self.predict(find_files(Path(x)), array)
        return [self._mask(z) for z in self.logits(self.read(x, array))]

    def _mask(self, logits: np.ndarray) -> Mask:
        """The class of each pixel: that of the largest of its logits, interpolated to the picture's size."""
        rows, columns = (interpolation(n, side) for n, side in zip(logits.shape[1:], self.shape[1:], strict=True))
        mask = (rows @ logits.astype(np.float64) @ columns.T).argmax(axis=0).astype(np.uint8)
        counts = np.bincount(mask.ravel(), minlength=len(self.labels))
        return Mask(mask, {n: float(c / mask.size) for n, c in zip(self.labels, counts, strict=True) if c}, logits)


def interpolation(given: int, wanted: int) -> np.ndarray:
    """The matrix (wanted, given) that interpolates a row of cells linearly, each between the centres of two."""
    places = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
    low = np.floor(places).astype(int)
    matrix, at = np.zeros((wanted, given)), np.arange(wanted)
    np.add.at(matrix, (at, low), 1 - (places - low))
    np.add.at(matrix, (at, np.minimum(low + 1, given - 1)), places - low)
    return matrix


def save_mask(mask: np.ndarray, path: Path) -> None:
    """Write a mask (H, W) as a palette PNG, whose values are the class numbers."""
    from PIL import Image

    image = Image.fromarray(mask)
    image.putpalette([value for number in range(256) for value in _colour(number)])
    image.save(path)


def _colour(number: int) -> tuple[int, int, int]:
    """A colour for each class, as PASCAL VOC has them: bits of the number, spread over red, green and blue."""
    bits = [number >> shift & 1 for shift in range(8)]
    return tuple(sum(bits[channel + 3 * i] << (7 - i) for i in range(3) if channel + 3 * i < 8) for channel in range(3))  # type: ignore[return-value]


def main() -> int:
    """Print which classes every sample has, and write masks where asked; returns the exit code."""
    parser = arguments("Find classes of pixels in pictures and arrays (N, ...).")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="write a mask of each sample: a palette PNG")
    parser.add_argument("--npy", type=Path, metavar="FILE", help="write all masks (N, H, W) as one array")
    asked = parser.parse_intermixed_args()
    predictor = MaskPredictor(asked.card, asked.threads)
    rows, masks, written = list[dict[str, Any]](), list[np.ndarray](), set[Path]()
    inputs = Inputs(asked.inputs, lambda file: predictor.predict(file, asked.array))
    for file, found in inputs:
        for number, (where, one) in enumerate(found):
            rows.append({"input": where, "shares": one.shares})
            masks.append(one.mask)
            if asked.masks is not None:
                asked.masks.mkdir(parents=True, exist_ok=True)
                name = f"{file.stem}_{number}.png" if file.suffix.lower() in ARRAYS else f"{file.stem}.png"
                save_mask(one.mask, unused(asked.masks / name, written))
    if asked.npy is not None and masks:
        np.save(asked.npy, np.stack(masks))
    shown = [f"{row['input']}: " + ", ".join(f"{n} {share:.1%}" for n, share in row["shares"].items()) for row in rows]
    print(json.dumps(rows, indent=1) if asked.json else "\n".join(shown))
    return inputs.code


if __name__ == "__main__":
    run(main)
