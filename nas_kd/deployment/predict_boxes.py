"""What is added to `predict.py` for networks that find boxes; everything below the line goes into it."""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas_kd.deployment.predict import ARRAYS, Inputs, Predictor, arguments, find_files, run, unused
from nas_kd.results.boxes import FLOOR, anchor_points, find_boxes

# --- below this line ---


@dataclass(frozen=True)
class FoundBox:
    """A box: its class and probability, and x1, y1, x2, y2 in pixels of the picture as it is shown, or of the array."""

    label: str
    index: int
    probability: float
    box: tuple[float, float, float, float]


class BoxPredictor(Predictor):
    """A network that finds boxes: `predict` returns a list of `FoundBox` for each sample, the most probable first."""

    def predict(self, x: Any, array: str | None = None, floor: float | None = None) -> list[Any]:
        """Run the network on pictures or arrays, in order; `floor`: least probability. See `Predictor.predict`.

        By default the floor is the card's, which had the largest F1 on validation.
        """
        floor = self._output.get("floor", 0.5) if floor is None else floor
        if isinstance(x, (list, tuple)):
            return [found for one in x for found in self.predict(one, array, floor)]
        if isinstance(x, (str, os.PathLike)) and Path(x).is_dir():
            return self.predict(find_files(Path(x)), array, floor)
        samples = self.read(x, array)
        is_picture = hasattr(x, "getbands") or (
            isinstance(x, (str, os.PathLike)) and Path(x).suffix.lower() not in ARRAYS
        )
        scale, start = self._placed(x) if is_picture else ((1.0, 1.0), (0, 0))
        return [self._boxes(raw, scale, start, floor) for raw in self.logits(samples)]

    def _boxes(
        self, raw: np.ndarray, scale: tuple[float, float], start: tuple[int, int], floor: float
    ) -> list[FoundBox]:
        height, width = self.shape[1:]
        points = anchor_points(height, width, self._output["strides"])
        found = find_boxes(raw, points, height, width, floor=max(floor, FLOOR))
        found[:, 2:] = (found[:, 2:] - np.tile(start, 2)) / np.tile(scale, 2)
        return [FoundBox(self.labels[int(c)], int(c), p, tuple(edges)) for c, p, *edges in found.tolist()]

    def _placed(self, source: Any) -> tuple[tuple[float, float], tuple[int, int]]:
        """Where a picture's pixels lie in its sample: at scale * (column, row) + start."""
        from PIL import Image, ImageOps

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                width, height = ImageOps.exif_transpose(source).size
            else:
                with Image.open(source) as image:
                    width, height = ImageOps.exif_transpose(image).size
        rows, columns = self.shape[1:]
        across, down = columns / width, rows / height
        way = self._input["picture"]["resize"]
        if way == "stretch":
            return (across, down), (0, 0)
        if way == "crop":
            scale = max(across, down)
            return (scale, scale), (round((columns - width * scale) / 2), round((rows - height * scale) / 2))
        inner = (columns, round(height / width * columns)) if across < down else (round(width / height * rows), rows)
        start = round((columns - inner[0]) * 0.5), round((rows - inner[1]) * 0.5)
        return (inner[0] / width, inner[1] / height), start


def main() -> int:
    """Print the boxes of every sample, and draw them where asked; returns the exit code."""
    parser = arguments("Find boxes in pictures and arrays (N, ...).")
    parser.add_argument("--floor", type=float, metavar="P", help="least probability of a box [the card's, else 0.5]")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="write each picture with its boxes: a PNG file")
    asked = parser.parse_intermixed_args()
    predictor, rows, written = BoxPredictor(asked.card, asked.threads), list[dict[str, Any]](), set[Path]()
    inputs = Inputs(asked.inputs, lambda file: predictor.predict(file, asked.array, asked.floor))
    for file, found in inputs:
        rows += [{"input": where, "boxes": [vars(box) for box in boxes]} for where, boxes in found]
        if asked.draw is not None and file.suffix.lower() not in ARRAYS:
            asked.draw.mkdir(parents=True, exist_ok=True)
            draw_boxes(file, found[0][1], unused(asked.draw / f"{file.stem}.png", written))
    print(json.dumps(rows, indent=1) if asked.json else "\n".join(map(_line, rows)))
    return inputs.code


def draw_boxes(picture: Path, boxes: list[FoundBox], path: Path) -> None:
    """Write a picture with frames around its boxes."""
    from PIL import Image, ImageDraw, ImageOps

    with Image.open(picture) as image:
        shown = ImageOps.exif_transpose(image).convert("RGB")
    draw = ImageDraw.Draw(shown)
    for one in boxes:
        draw.rectangle(one.box, outline=(213, 94, 0), width=max(1, min(shown.size) // 200))
        draw.text(one.box[:2], f"{one.label} {one.probability:.2f}", fill=(213, 94, 0))
    shown.save(path)


def _line(row: dict[str, Any]) -> str:
    shown = [
        f"{b['label']} {b['probability']:.1%} at {' '.join(f'{edge:.4g}' for edge in b['box'])}" for b in row["boxes"]
    ]
    return f"{row['input']}: " + ("; ".join(shown) or "nothing")


if __name__ == "__main__":
    run(main)
