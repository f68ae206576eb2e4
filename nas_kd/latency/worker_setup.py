"""What all measuring processes need: ONNX Runtime sessions, random inputs, and pinning to idle cores.

Needs NumPy and ONNX Runtime only, as the processes load it by path.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

CpuTicks = dict[int, tuple[int, int, int]]  # (busy, steal, total) ticks since boot, by core

IDLE_SHARE = 0.5  # a core counts as idle if it was busy for less than this share of the time
PIN_SAMPLE_S = 0.05  # how long cores are watched before the idlest ones are chosen
# Settings of the reference network: always one thread, as a second spinning pool would take the candidate's cores.
REFERENCE_SETTINGS: Mapping[str, Any] = {
    "threads": 1,
    "spinning": False,
    "optimisation": "all",
    "provider": "CPUExecutionProvider",
    "provider_options": (),
}
# ONNX Runtime's names of number types -> NumPy's.
INPUT_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
OPTIMISATION_LEVELS = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC"}


def open_session(content: bytes, settings: Mapping[str, Any], profile_prefix: str | None = None) -> Any:
    """Create an ONNX Runtime session of a file.

    Args:
        content: Content of the ONNX file.
        settings: Settings of the device profile, see `DeviceProfile.settings`.
        profile_prefix: Turns ONNX Runtime's profiler on; the path that its output file's name begins with.

    Raises:
        RuntimeError: ONNX Runtime would use another execution provider than the one in the settings.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    level = OPTIMISATION_LEVELS.get(settings["optimisation"], "ORT_DISABLE_ALL")
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings["spinning"])))
    provider = (settings["provider"], dict(settings["provider_options"]))
    if profile_prefix is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    session = onnxruntime.InferenceSession(content, options, providers=[provider], enable_fallback=0)
    if session.get_providers()[0] != settings["provider"]:
        raise RuntimeError(f"ONNX Runtime did not take {settings['provider']}, it would fall back to another")
    return session


def random_inputs(session: Any, batch_size: int, input_shape: Sequence[int] | None) -> dict[str, NDArray[Any]]:
    """Make fixed random samples for a session, by input name.

    Args:
        session: An ONNX Runtime session with one input.
        batch_size: Number of samples, where the file leaves the batch open.
        input_shape: Shape of one sample; needed only where the file leaves more dimensions than the batch open.
    """
    source = session.get_inputs()[0]
    given = [batch_size, *(input_shape or source.shape[1:])]
    shape = [side if isinstance(side, int) else wanted for side, wanted in zip(source.shape, given, strict=True)]
    kind, generator = np.dtype(INPUT_TYPES.get(source.type, "float32")), np.random.default_rng(0)
    if kind.kind == "f":
        return {source.name: generator.normal(size=shape).astype(kind)}
    largest = 255 if kind.itemsize == 1 else 1  # pixels; wider whole numbers may be places in a table
    return {source.name: generator.integers(0, largest + 1, shape).astype(kind)}


def cpu_ticks() -> CpuTicks:
    """Ticks of each core since boot as (busy, steal, total); empty where the system does not report them."""
    try:
        with open("/proc/stat") as file:
            rows = [line.split() for line in file if line.startswith("cpu") and line[3].isdigit()]
    except OSError:
        return {}
    ticks = {int(row[0][3:]): [int(v) for v in row[1:9]] for row in rows}  # user nice system idle iowait irq soft steal
    return {core: (sum(t) - t[3] - t[4], t[7], sum(t)) for core, t in ticks.items()}


class CorePinning:
    """Binds this process to a number of cores, and can move it to others; does nothing where the system cannot bind."""

    def __init__(self, order: Sequence[int], threads: int) -> None:
        """Bind to the first `threads` cores of `order`; an empty order binds to none."""
        self._order, self._threads = list(order), threads
        self.used: list[int] = []  # in the order in which they were first used
        self._bind()

    def move(self) -> None:
        """Bind to other cores, if enough of them were idle since this process was bound to its present ones."""
        current, others = self._order[: self._threads], self._order[self._threads :]
        busy = busy_shares(self._since, cpu_ticks())
        idle = [core for core in others if busy.get(core, 1.0) < IDLE_SHARE]
        if len(idle) >= self._threads:
            self._order = [*idle, *current, *(core for core in others if core not in idle)]
            self._bind()

    def _bind(self) -> None:
        cores = sorted(self._order[: self._threads])
        if cores:
            os.sched_setaffinity(0, cores)
        self.used += [core for core in cores if core not in self.used]
        self._since = cpu_ticks()


def busy_shares(before: CpuTicks, after: CpuTicks) -> dict[int, float]:
    """Share (0..1) of the time between two readings in which each core was busy."""
    spans = {core: (after[core][0] - ticks[0], after[core][2] - ticks[2]) for core, ticks in before.items()}
    return {core: busy / total if total else 0.0 for core, (busy, total) in spans.items()}


def pin_to_idle_cores(threads: int) -> CorePinning:
    """Bind this process to the least busy cores, the last ones among equals, as the first core serves interrupts."""
    if not hasattr(os, "sched_setaffinity"):
        return CorePinning([], threads)
    before = cpu_ticks()
    time.sleep(PIN_SAMPLE_S)
    busy = busy_shares(before, cpu_ticks())
    return CorePinning(sorted(os.sched_getaffinity(0), key=lambda core: (busy.get(core, 0.0), -core)), threads)
