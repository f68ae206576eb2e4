"""The ONNX files of `benchmarks/latency.py`: networks for 3 x 32 x 32 images with initial weights, in fp32 and int8."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from nas_kd.candidate import Architecture
from nas_kd.deploy.export import export_onnx
from nas_kd.engine.numerics import seeded
from nas_kd.files import write_atomic
from nas_kd.models.normalised import Normalised
from nas_kd.plugins import load

SHAPE = (3, 32, 32)
SPACES = ("resnet", "mobilenet")
SIZES = ("small", "middle", "large")
PRECISIONS = ("fp32", "int8")
CALIBRATION_IMAGES = 32


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Random pixels: what values a network is calibrated on changes nothing about its speed."""

    def __init__(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (CALIBRATION_IMAGES, 1, *SHAPE))
        self._left: Iterator[NDArray[np.float32]] = iter(pixels.astype(np.float32))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._left, None)
        return None if image is None else {"input": image}


def fp32(architecture: Architecture) -> bytes:
    """The network as it would be exported."""
    with seeded(0, 0):
        body = load("space", architecture.space).build(architecture, SHAPE, 10)
    return export_onnx(Normalised(body, torch.full((3,), 128.0), torch.full((3,), 60.0)), SHAPE)


def int8(content: bytes) -> bytes:
    """The same with static QDQ quantisation, per channel: unsigned activations, signed weights."""
    with TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "target"))
        source.write_bytes(content)
        quant_pre_process(source, prepared)
        quantize_static(
            prepared,
            target,
            _Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


def write_sizes(folder: Path) -> list[Path]:
    """The smallest, the middle and the largest of each space's ladder, in both precisions; what is there is kept."""
    paths = []
    for space in SPACES:
        for size, architecture in zip(SIZES, load("space", space).ladder(len(SIZES)), strict=True):
            plain, quantised = (folder / f"{space}-{size}-{precision}.onnx" for precision in PRECISIONS)
            if not plain.exists():
                write_atomic(plain, fp32(architecture))
            if not quantised.exists():
                write_atomic(quantised, int8(plain.read_bytes()))
            paths += [plain, quantised]
    return paths


def write_candidates(folder: Path, count: int) -> list[Path]:
    """So many candidates drawn at random, from the spaces by turns."""
    paths = [folder / f"candidate-{number:03d}.onnx" for number in range(count)]
    for path, architecture in zip(paths, drawn(count, seed=1), strict=True):
        if not path.exists():
            write_atomic(path, fp32(architecture))
    return paths


def drawn(count: int, seed: int) -> list[Architecture]:
    """So many different random architectures, from the spaces by turns."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[Architecture, None] = {}
    studies = [
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed + place)) for place in range(len(SPACES))
    ]
    while len(found) < count:
        place = len(found) % len(SPACES)
        found[load("space", SPACES[place]).suggest(studies[place].ask())] = None
    return list(found)
