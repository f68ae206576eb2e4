"""Classify images with a winner on a device that has ONNX Runtime, NumPy and Pillow, and nothing of nas-kd.

Shows: what the exported file and its card say: input, classes, temperature. Preprocessing is in the graph.
Run:   python deploy.py RUN_DIR/winner IMAGE [IMAGE ...]
Takes: less than a second.

`predict.py`, which lies beside the winner, does more: letterboxed pictures, arrays, folders.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def open_session(file: Path) -> Any:
    """Open the file with the settings that its latency was measured with: one thread, which does not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def read_image(path: str, card: dict[str, Any]) -> Any:
    """An image as float32 (1, C, H, W) with pixels 0..255, its centre cut out and resized as in training."""
    channels, height, width = card["input_shape"]
    image = ImageOps.exif_transpose(Image.open(path)).convert("L" if channels == 1 else "RGB")
    centre = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(centre, dtype=np.float32).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1)[None]


def main() -> None:
    """Print the class of each image, and how long a call took."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    picture, temperature = card["nas_kd.input"]["picture"], card["nas_kd.output"]["temperature"]
    if picture is None or picture["resize"] != "crop":
        sys.exit("this network does not take pictures whose centre is cut out; see nas_kd.input in its card")
    session = open_session(folder / "student.onnx")
    for path in sys.argv[2:]:
        x = read_image(path, card)
        started = time.perf_counter()
        (logits,) = session.run(["logits"], {"input": x})
        ms = (time.perf_counter() - started) * 1000
        probabilities = np.exp((logits[0] - logits[0].max()) / temperature)
        probabilities /= probabilities.sum()
        best = int(probabilities.argmax())
        print(f"{path}: {card['nas_kd.classes'][best]} ({probabilities[best]:.0%}, {ms:.3f} ms)")


if __name__ == "__main__":
    main()
