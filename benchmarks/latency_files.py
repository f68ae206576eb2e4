"""The ONNX files of `benchmarks/latency.py`: networks for 3 x 32 x 32 images with initial weights, in fp32 and int8."""

from pathlib import Path

import numpy as np
import optuna
import torch

from nas_kd.engine.numerics import seeded
from nas_kd.export.onnx_export import export_onnx
from nas_kd.latency.device_profile import native_integer_scheme
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import load
from nas_kd.quantization.static_quantization import quantize
from nas_kd.results.candidate import Architecture
from nas_kd.serialization import write_atomic

SHAPE = (3, 32, 32)
SPACES = ("resnet", "mobilenet")
SIZES = ("small", "middle", "large")
PRECISIONS = ("fp32", "int8")
CALIBRATION_IMAGES = 32


def fp32(architecture: Architecture) -> bytes:
    """The network as it would be exported."""
    with seeded(0, 0):
        body = load("space", architecture.space).build(architecture, SHAPE, 10)
    return export_onnx(Normalized(body, torch.full((3,), 128.0), torch.full((3,), 60.0)), SHAPE)


def int8(content: bytes) -> bytes:
    """The same quantised after training; what values it is calibrated on changes nothing about its speed."""
    pixels = np.random.default_rng(0).integers(0, 256, (CALIBRATION_IMAGES, *SHAPE), dtype=np.uint8)
    return quantize(content, torch.from_numpy(pixels), "minmax", native_integer_scheme())[0]


def write_sizes(folder: Path) -> list[Path]:
    """The smallest, the middle and the largest of each space's ladder, in both precisions; what is there is kept."""
    paths = []
    for space in SPACES:
        for size, architecture in zip(SIZES, load("space", space).size_ladder(len(SIZES)), strict=True):
            plain, quantized = (folder / f"{space}-{size}-{precision}.onnx" for precision in PRECISIONS)
            if not plain.exists():
                write_atomic(plain, fp32(architecture))
            if not quantized.exists():
                write_atomic(quantized, int8(plain.read_bytes()))
            paths += [plain, quantized]
    return paths


def write_candidates(folder: Path, count: int) -> list[Path]:
    """Write `count` ONNX files of candidates drawn at random, from the spaces by turns."""
    paths = [folder / f"candidate-{number:03d}.onnx" for number in range(count)]
    for path, architecture in zip(paths, drawn(count, seed=1), strict=True):
        if not path.exists():
            write_atomic(path, fp32(architecture))
    return paths


def drawn(count: int, seed: int) -> list[Architecture]:
    """Draw `count` different random architectures, from the spaces by turns."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[Architecture, None] = {}
    studies = [
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed + place)) for place in range(len(SPACES))
    ]
    while len(found) < count:
        place = len(found) % len(SPACES)
        found[load("space", SPACES[place]).suggest(studies[place].ask())] = None
    return list(found)
