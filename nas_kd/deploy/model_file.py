"""Costs of any ONNX classifier, ours or not: what `nas-kd measure MODEL.onnx` prints. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from nas_kd.deploy.measure import Measurement
from nas_kd.deploy.onnx_costs import count_onnx_macs
from nas_kd.deploy.onnx_file import read_onnx
from nas_kd.deploy.target import Device
from nas_kd.errors import InputError, TrialError
from nas_kd.record import Latency


@dataclass(frozen=True)
class MeasuredFile:
    """A file's signature and costs. `input_shape`: of one sample; `macs`: multiply-adds of one sample."""

    input_shape: tuple[int, ...]
    n_classes: int | None
    batch_size: int
    size_bytes: int
    parameters: int
    macs: int
    measurement: Measurement

    @property
    def latency(self) -> Latency:
        """Milliseconds a call of `batch_size` samples."""
        return self.measurement.latency


def measure_file(path: Path, device: Device, batch_size: int = 1) -> MeasuredFile:
    """Size, weights, multiply-adds and latency of the file.

    Raises:
        InputError: see `read_onnx`; the input has dynamic sides besides the batch; the file's batch is another fixed
            one; the device is not there; or the file does not run.
    """
    file = read_onnx(path)
    shape = tuple(side for side in file.input_shape if side is not None)
    if len(shape) != len(file.input_shape):
        sides = ", ".join("?" if side is None else str(side) for side in file.input_shape)
        raise InputError(f"{path}: only the batch may be dynamic, its input is (batch, {sides}); export it with a size")
    if file.batch not in (None, batch_size):
        raise InputError(f"{path} takes exactly {file.batch} samples a call, not {batch_size}; set the batch size")
    macs = count_onnx_macs(file, shape)
    try:
        measurement = device.measure(file.content, batch_size)
    except TrialError as error:
        raise InputError(f"{path}: {error}") from error
    return MeasuredFile(
        input_shape=shape,
        n_classes=file.n_classes,
        batch_size=batch_size,
        size_bytes=len(file.content),
        parameters=file.parameters,
        macs=macs,
        measurement=measurement,
    )
