"""What the measuring processes begin with: sessions of ONNX Runtime, and the cores that they run on.

Needs NumPy and ONNX Runtime only, and is run by path like the processes themselves.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Ticks = dict[int, tuple[int, int, int]]  # busy, steal, total since boot, by core

IDLE = 0.5  # at most so busy is a core that is worth a try
# Of the reference. One thread always: a second spinning pool would take the candidate's cores.
PLAIN: Mapping[str, Any] = {
    "threads": 1,
    "spinning": False,
    "optimisation": "all",
    "provider": "CPUExecutionProvider",
    "provider_options": (),
}
LEVELS = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC"}


def open_session(content: bytes, settings: Mapping[str, Any], profile_to: str | None = None) -> Any:
    """ONNX Runtime's session of the file; `profile_to`: the beginning of the name of ONNX Runtime's own profile."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    level = LEVELS.get(settings["optimisation"], "ORT_DISABLE_ALL")
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings["spinning"])))
    provider = (settings["provider"], dict(settings["provider_options"]))
    if profile_to is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile_to
    session = onnxruntime.InferenceSession(content, options, providers=[provider])
    if session.get_providers()[0] != settings["provider"]:
        raise RuntimeError(f"ONNX Runtime did not take {settings['provider']}, it would fall back to another")
    return session


def samples(session: Any, batch_size: int, input_shape: Sequence[int] | None) -> dict[str, NDArray[np.float32]]:
    """Fixed random samples; sides that the file leaves open are those of `input_shape`, which is one sample's."""
    source = session.get_inputs()[0]
    given = [batch_size, *(input_shape or source.shape[1:])]
    shape = [side if isinstance(side, int) else wanted for side, wanted in zip(source.shape, given, strict=True)]
    return {source.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def cpu_ticks() -> Ticks:
    """(busy, steal, total) ticks of each core since boot; empty where the system does not tell."""
    try:
        with open("/proc/stat") as file:
            rows = [line.split() for line in file if line.startswith("cpu") and line[3].isdigit()]
    except OSError:
        return {}
    ticks = {int(row[0][3:]): [int(v) for v in row[1:9]] for row in rows}  # user nice system idle iowait irq soft steal
    return {core: (sum(t) - t[3] - t[4], t[7], sum(t)) for core, t in ticks.items()}


class Cores:
    """Those that this process is bound to, so many at a time; none where the system binds nothing."""

    def __init__(self, order: Sequence[int], threads: int) -> None:
        """`order`: the first ones are bound to at once."""
        self._order, self._threads = list(order), threads
        self.used: list[int] = []  # in the order in which they were first used
        self._bind()

    def move(self) -> None:
        """To other cores, if enough of them were idle since this process came here."""
        here, others = self._order[: self._threads], self._order[self._threads :]
        busy = busy_shares(self._since, cpu_ticks())
        idle = [core for core in others if busy.get(core, 1.0) < IDLE]
        if len(idle) >= self._threads:
            self._order = [*idle, *here, *(core for core in others if core not in idle)]
            self._bind()

    def _bind(self) -> None:
        cores = sorted(self._order[: self._threads])
        if cores:
            os.sched_setaffinity(0, cores)
        self.used += [core for core in cores if core not in self.used]
        self._since = cpu_ticks()


def busy_shares(before: Ticks, after: Ticks) -> dict[int, float]:
    """Of each core's time between the two, 0..1."""
    spans = {core: (after[core][0] - ticks[0], after[core][2] - ticks[2]) for core, ticks in before.items()}
    return {core: busy / total if total else 0.0 for core, (busy, total) in spans.items()}


def pin(threads: int) -> Cores:
    """Bind this process to the least busy cores, the last of equals: the first one serves interrupts."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores([], threads)
    before = cpu_ticks()
    time.sleep(0.05)
    busy = busy_shares(before, cpu_ticks())
    return Cores(sorted(os.sched_getaffinity(0), key=lambda core: (busy.get(core, 0.0), -core)), threads)
