"""What lies beside the winner's file for the person who deploys it: a README, and a program that classifies with it."""

from nas_kd.results.finalist_record import FinalistRecord
from nas_kd.results.run_record import DatasetRecord

PREDICT = '''"""Classify images or arrays with student.onnx; needs onnxruntime and numpy, and pillow for image files.

    python predict.py photo.png            an image file, resized to the network's input
    python predict.py samples.npy          an array (N, *input shape), in the units of the training data
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

FOLDER = Path(__file__).parent
CARD = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
SHAPE, CLASSES = tuple(CARD["input_shape"]), CARD["nas_kd.classes"]


def load(path):
    """(N, *SHAPE) float32 from an image file or an array."""
    if path.suffix == ".npy":
        samples = np.load(path, allow_pickle=False).astype(np.float32)
        return samples.reshape(-1, *SHAPE)
    if len(SHAPE) != 3 or not CARD["pixels"]:
        sys.exit(f"{path}: this network takes arrays {SHAPE}, in the units of its training data; give a .npy file")
    from PIL import Image

    channels, height, width = SHAPE
    image = Image.open(path).convert("L" if channels == 1 else "RGB").resize((width, height), Image.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1)[None]


def classify(samples):
    """Class probabilities (N, classes)."""
    session = onnxruntime.InferenceSession(str(FOLDER / "student.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": samples})
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        for row, probabilities in enumerate(classify(load(Path(name)))):
            best = int(probabilities.argmax())
            print(f"{name}[{row}]: {CLASSES[best]} ({probabilities[best]:.1%})")
'''


def winner_readme(finalist: FinalistRecord, data: DatasetRecord, preprocessing: str) -> str:
    """Write the README that lies beside the winner's file.

    Args:
        finalist: whose file it is.
        data: what it was trained on.
        preprocessing: what a caller has to do with a sample.
    """
    costs, test = finalist.costs, finalist.test
    latency = f"{costs.latency_ms.p50:.4g} ms a call" if costs.latency_ms else "not measured"
    size = "not measured" if costs.size_bytes is None else f"{costs.size_bytes / 1000:.4g} kB"
    shape = ", ".join(map(str, data.input_shape))
    return f"""# {data.name}: candidate {finalist.id}

| file | what it is |
|---|---|
| `student.onnx` | the network: input `input` float32 (batch, {shape}), output `logits` (batch, {len(data.classes)}) |
| `student.safetensors` | the same weights for PyTorch: `nas_kd.load_run(RUN_DIR).winner.load_model()` |
| `card.json` | architecture, classes, accuracy, parity with PyTorch, versions, sha256 |
| `predict.py` | classifies image files or arrays with `onnxruntime` and `numpy` alone: `python predict.py FILE` |

- Student: {finalist.description}
- Test accuracy: {test.mean:.1%} (95 % interval {test.low:.1%} to {test.high:.1%}, {test.seeds} trainings)
- Size: {size}; latency on the device of the search: {latency}
- Preprocessing: {preprocessing}
"""
