"""Costs of any ONNX classifier, exported by nas-kd or not, as `nas-kd measure` prints them. Imports no torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas_kd.errors import InputError, TrialError
from nas_kd.export.onnx_costs import count_onnx_macs
from nas_kd.export.onnx_file import OnnxFile, read_onnx
from nas_kd.export.onnx_sizes import FileSizes, sizes_of
from nas_kd.latency.device import Device
from nas_kd.latency.environment import Fact
from nas_kd.latency.measurement_job import OperatorTime, SessionMemory
from nas_kd.results.latency import Latency
from nas_kd.results.run_record import DeviceRecord


@dataclass(frozen=True)
class MeasuredFile:
    """An ONNX file's signature and costs.

    Attributes:
        file: Path of the file as the user gave it.
        device: Where it was measured.
        input_shape: Shape of one sample.
        n_classes: Number of logits; None if the file does not state it.
        batch_size: Samples a call.
        sizes: Size of the file and of its parts, in bytes.
        parameters: Number of weights.
        macs: Multiply-adds of one sample.
        memory: Peak memory of a session.
        operators: Operators with their times, the slowest first.
        latency: Milliseconds a call of `batch_size` samples.
    """

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
    latency: Latency

    @property
    def samples_per_s(self) -> float:
        """Throughput of one session by the median latency, samples a second."""
        return self.batch_size / self.latency.p50 * 1000

    @property
    def environment(self) -> dict[str, Fact]:
        """The device's settings, its machine, and the state of the machine during the measurement."""
        latency = self.latency
        state = {"load_1m": latency.load_1m, "pinned_to": latency.pinned_to, "steal": latency.steal}
        return {**self.device.environment, **state}

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured as plain values, as `nas-kd measure --json` prints it."""
        in_environment = ("load_1m", "pinned_to", "steal")
        return {
            "file": self.file,
            "device": self.device.name,
            "batch_size": self.batch_size,
            "input_shape": list(self.input_shape),
            "n_classes": self.n_classes,
            "latency_ms": self.latency.figures(),
            "samples_per_s": self.samples_per_s,
            "size_bytes": asdict(self.sizes),
            "parameters": self.parameters,
            "macs": self.macs,
            "memory_bytes": {"session": self.memory.session_bytes, "runtime": self.memory.runtime_bytes},
            "operators": [asdict(operator) for operator in self.operators],
            "measurement": {k: v for k, v in self.latency.basis().items() if k not in in_environment},
            "environment": self.environment,
        }


def measure_file(
    path: Path, device: Device, batch_size: int | None = None, input_shape: tuple[int, ...] | None = None
) -> MeasuredFile:
    """Measure sizes, multiply-adds, memory, latency and operators of an ONNX file.

    Args:
        path: The file.
        device: Where to measure.
        batch_size: Samples a call; None: the device's number.
        input_shape: Shape of one sample; needed only for a file that leaves more dimensions than the batch open.

    Raises:
        InputError: See `read_onnx`; the file does not take this shape or batch; the device is not available; or the
            file cannot be run, or its outputs are not finite.
    """
    file = read_onnx(path, axes=None)
    shape = sample_shape(file, input_shape)
    size = batch_size or device.batch_size
    if file.batch not in (None, size):
        raise InputError(
            f"{path} takes exactly {file.batch} samples a call, not {size}; pass --batch-size {file.batch}"
        )
    try:
        memory = device.memory(file.content, size, shape)  # the first to run the file, which may crash
        macs = count_onnx_macs(file, shape)
        latency = device.measure(file.content, size, shape)
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
        latency=latency,
    )


def sample_shape(file: OnnxFile, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """Determine the shape of one sample from the file, with the dimensions that it leaves open taken from `given`.

    Raises:
        InputError: Dimensions are open and nothing is given, or `given` does not fit the file.
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
        raise InputError(f"{takes}; --input-shape {','.join(map(str, given))} does not fit it")
    return given


def parse_shape(text: str) -> tuple[int, ...]:
    """Parse the value of `--input-shape`: `3,224,224` -> (3, 224, 224).

    Raises:
        InputError: The text has another form.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(f"--input-shape must be one sample's sides without the batch, such as 3,224,224, got {text!r}")
    return tuple(int(part) for part in parts)
