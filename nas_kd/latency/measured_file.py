"""Costs of any ONNX classifier, ours or not: what `nas-kd measure MODEL.onnx` prints. Imports no torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas_kd.errors import InputError, TrialError
from nas_kd.export.onnx_costs import count_onnx_macs
from nas_kd.export.onnx_file import OnnxFile, read_onnx
from nas_kd.export.onnx_sizes import FileSizes, sizes_of
from nas_kd.latency.device import Device
from nas_kd.latency.measure import Measurement
from nas_kd.latency.measurement_job import OperatorTime, SessionMemory
from nas_kd.results.records import DeviceRecord, Latency


@dataclass(frozen=True)
class MeasuredFile:
    """A file's signature and costs. `input_shape`: of one sample; `macs`: multiply-adds of one sample."""

    file: str
    device: DeviceRecord
    input_shape: tuple[int, ...]
    n_classes: int | None
    batch_size: int
    sizes: FileSizes
    parameters: int
    macs: int
    memory: SessionMemory
    operators: tuple[OperatorTime, ...]
    measurement: Measurement

    @property
    def latency(self) -> Latency:
        """Milliseconds a call of `batch_size` samples."""
        return self.measurement.latency

    @property
    def samples_per_s(self) -> float:
        """Throughput of one session, by the median."""
        return self.batch_size / self.latency.p50 * 1000

    def to_json(self) -> dict[str, Any]:
        """All of it; `environment` is the device's settings, the machine and what it was like while measuring."""
        measurement = {k: v for k, v in vars(self.measurement).items() if k not in ("latency", "environment")}
        return {
            "file": self.file,
            "device": self.device.name,
            "batch_size": self.batch_size,
            "input_shape": list(self.input_shape),
            "n_classes": self.n_classes,
            "latency_ms": self.latency.model_dump(mode="json"),
            "samples_per_s": self.samples_per_s,
            "size_bytes": asdict(self.sizes),
            "parameters": self.parameters,
            "macs": self.macs,
            "memory_bytes": {"session": self.memory.session_bytes, "runtime": self.memory.runtime_bytes},
            "operators": [asdict(operator) for operator in self.operators],
            "measurement": measurement,
            "environment": {**self.device.environment, **self.measurement.environment},
        }


def measure_file(
    path: Path, device: Device, batch_size: int | None = None, input_shape: tuple[int, ...] | None = None
) -> MeasuredFile:
    """Size, weights, multiply-adds, memory, latency and operators of the file.

    Args:
        path: the file.
        device: where.
        batch_size: samples a call; None: the device's.
        input_shape: one sample's, for a file whose input leaves more than the batch open.

    Raises:
        InputError: see `read_onnx`; the shape or the batch is not the file's; the device is not there; or the file does
            not run, or not with finite outputs.
    """
    file = read_onnx(path)
    shape = sample_shape(file, input_shape)
    size = batch_size or device.batch_size
    if file.batch not in (None, size):
        raise InputError(
            f"{path} takes exactly {file.batch} samples a call, not {size}; pass --batch-size {file.batch}"
        )
    try:
        memory = device.memory(file.content, size, shape)  # the first to run it: it may well crash
        macs = count_onnx_macs(file, shape)
        measurement = device.measure(file.content, size, shape)
        operators = device.operators(file.content, size, shape)
    except TrialError as error:
        raise InputError(f"{path}: {error}") from error
    return MeasuredFile(
        file=str(path),
        device=device.describe(size),
        input_shape=shape,
        n_classes=file.n_classes,
        batch_size=size,
        sizes=sizes_of(file.content),
        parameters=file.parameters,
        macs=macs,
        memory=memory,
        operators=operators,
        measurement=measurement,
    )


def sample_shape(file: OnnxFile, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """One sample's shape: the file's, with the sides that it leaves open from `given`.

    Raises:
        InputError: sides are open and nothing is given, or what is given is not what the file takes.
    """
    sides = ", ".join("?" if side is None else str(side) for side in file.input_shape)
    takes = f"{file.source} takes input (batch, {sides})"
    if given is None:
        if None in file.input_shape:
            example = ",".join("224" if side is None else str(side) for side in file.input_shape)
            raise InputError(f"{takes}; pass one sample's shape, such as --input-shape {example}")
        return tuple(side for side in file.input_shape if side is not None)
    fits = len(given) == len(file.input_shape) and all(
        side in (None, wanted) for side, wanted in zip(file.input_shape, given, strict=True)
    )
    if not fits:
        raise InputError(f"{takes}; --input-shape {','.join(map(str, given))} is no sample of it")
    return given


def parse_shape(text: str) -> tuple[int, ...]:
    """`3,224,224` -> (3, 224, 224).

    Raises:
        InputError: anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(f"--input-shape must be one sample's sides without the batch, such as 3,224,224, got {text!r}")
    return tuple(int(part) for part in parts)
