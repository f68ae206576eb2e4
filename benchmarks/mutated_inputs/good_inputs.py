"""Small good inputs that are changed: arrays, pictures, tables, weights and an ONNX file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from nas_kd.export.onnx_export import export_onnx

CLASSES, SIDE = 3, 8
ARRAYS = 'source = "npz"\npath = "data.npz"'
PICTURES = 'source = "image_folder"\npath = "pictures"'
PARQUET = 'source = "parquet"\ntrain = "train.parquet"\ntest = "test.parquet"'
OWN_TEACHER = '[teacher]\nspace = "resnet"\nepochs = 2\n'
MODULE = '[teacher]\nfactory = "nets:make"\nweights = "teacher.safetensors"\npreprocessing = "unit"\n'
ONNX = '[teacher]\nonnx = "teacher.onnx"\npreprocessing = "unit"\n'
CONFIG = """[data]
{data}
{teacher}
[space]
name = "resnet"
[distill]
methods = ["soft_targets"]
epochs = 1
batch_size = 32
optimizer = "sgd"
learning_rate = 0.1
weight_decay = 0.0005
"""
NETS = """from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
"""
BASES = {
    "config": (ARRAYS, MODULE),
    "npz": (ARRAYS, MODULE),
    "pictures": (PICTURES, MODULE),
    "parquet": (PARQUET, MODULE),
    "safetensors": (ARRAYS, MODULE),
    "onnx": (ARRAYS, ONNX),
}


def write_base(folder: Path) -> None:
    """Write all files that any of the good inputs has."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % CLASSES
    x = rng.integers(0, 90, (90, 3, SIDE, SIDE), dtype=np.uint8)
    x[np.arange(90), y] += 120
    np.savez(folder / "data.npz", allow_pickle=False, x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    (folder / "nets.py").write_text(NETS)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
    )
    optimizer, samples, labels = torch.optim.Adam(net.parameters(), 0.01), torch.tensor(x) / 255, torch.tensor(y)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(samples), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    save_file(net.state_dict(), folder / "teacher.safetensors")
    content = export_onnx(net.eval(), (3, SIDE, SIDE))
    (folder / "teacher.onnx").write_bytes(content)
    for i, (picture, label) in enumerate(zip(x, y, strict=True)):
        place = folder / "pictures" / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.transpose(1, 2, 0)).save(place / f"{i}.{('png', 'jpg', 'bmp')[i % 3]}")
    for split, rows in (("train", slice(None)), ("test", slice(30))):
        images = [{"bytes": _png(p), "path": None} for p in x[rows]]
        pq.write_table(pa.table({"image": images, "label": y[rows]}), folder / f"{split}.parquet")


def _png(picture: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(content, "PNG")
    return content.getvalue()
