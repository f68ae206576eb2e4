"""Measures the latency of an ONNX file on a device, so that the number survives a noisy machine.

Each measurement is a fresh process, bound to the least busy core, that times the file and a reference network by
turns (`latency_worker.py`). The result is the median multiple of the reference's time, in milliseconds at the
reference's usual time on this machine (`reference_speed.py`).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nas_kd.deploy import latency_worker
from nas_kd.deploy.device import DeviceProfile
from nas_kd.deploy.environment import Fact, machine
from nas_kd.deploy.latency_worker import Timing
from nas_kd.deploy.reference_net import Size, reference_for, reference_net
from nas_kd.deploy.settle import Settled, history_file, read_answer, settle
from nas_kd.errors import TrialError
from nas_kd.record import DeviceRecord, Latency

LIMIT_S = 120.0  # for a model so large or slow that the process does not come back


@dataclass(frozen=True)
class Measurement:
    """A latency and what it rests on.

    `speed`: the machine's speed during the measurement, 1 = as usual; `raw_p50_ms`: the median without correction;
    `disturbed`: share of blocks in which another program took the core; `seconds`: of measuring, start-up left out.
    """

    latency: Latency
    raw_p50_ms: float
    speed: float
    reference: Size
    reference_ms: float
    blocks: int
    calls: int
    disturbed: float
    seconds: float
    attempts: int
    environment: Mapping[str, Fact]


def measure_latency(
    content: bytes, device: DeviceProfile, batch_size: int = 1, *, seconds: float = 2.0, limit_s: float = LIMIT_S
) -> Measurement:
    """Latency of one call with `batch_size` samples; stops when its interval is within +-2 %, or after `seconds`.

    The interval is that of this measurement's own noise. p90 is over single calls, disturbances included. One
    measurement at a time runs on a machine; another waits. While the machine's speed is unlike its usual one, it is
    repeated, at most twice, and the one nearest to usual counts, marked `unstable` where that is still far off.

    Raises:
        InputError: this machine lacks what the device profile asks for.
        TrialError: the file cannot be run, or the measuring process died or took more than `limit_s`.
    """
    device.check()
    size = reference_for(len(content))
    reference = reference_net(size)
    run = partial(_run_worker, reference=reference, settings=device.settings(), seconds=seconds, limit_s=limit_s)
    with _alone(limit_s):
        settled = settle(run, content, batch_size, reference, history_file(size, device.key()))
    return measurement_of(settled, size, machine())


def measurement_of(settled: Settled, size: Size, environment: Mapping[str, Fact]) -> Measurement:
    """A latency in milliseconds out of multiples of the reference of this `size`."""
    timing, usual_ms = settled.timing, settled.usual_ms
    return Measurement(
        latency=Latency(
            p50=timing.p50 * usual_ms,
            p90=timing.p90 * usual_ms,
            low=timing.low * usual_ms,
            high=timing.high * usual_ms,
            unstable=not settled.steady,
        ),
        raw_p50_ms=timing.raw_p50_ms,
        speed=usual_ms / timing.reference_ms,
        reference=size,
        reference_ms=usual_ms,
        blocks=timing.blocks,
        calls=timing.calls,
        disturbed=timing.disturbed,
        seconds=timing.seconds,
        attempts=settled.attempts,
        environment={**environment, **settled.facts},
    )


def describe_device(device: DeviceProfile, batch_size: int) -> DeviceRecord:
    """The profile and this machine, as the run's record carries them."""
    environment = device.facts() | machine()
    return DeviceRecord(name=device.name, words=device.summary, batch_size=batch_size, environment=environment)


@contextmanager
def _alone(limit_s: float) -> Iterator[None]:
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    lock = FileLock(Path(tempfile.gettempdir()) / f"nas-kd-latency-{owner}.lock", timeout=limit_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise TrialError(f"another latency measurement has kept this machine for more than {limit_s:g} s") from error
    try:
        yield
    finally:
        lock.release()


def _run_worker(
    content: bytes, reference: bytes, *, settings: Mapping[str, Any], batch_size: int, seconds: float, limit_s: float
) -> tuple[Timing, dict[str, Fact]]:
    job = {
        "candidate_bytes": len(content),
        "reference_bytes": len(reference),
        "batch_size": batch_size,
        "seconds": seconds,
        "settings": settings,
    }
    return read_answer(_ask(json.dumps(job).encode() + b"\n" + content + reference, limit_s))


def _ask(job: bytes, limit_s: float) -> Any:
    # By path and with -P: importing nas_kd would import torch, which takes seconds and starts threads.
    command = [sys.executable, "-P", str(Path(latency_worker.__file__).resolve())]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        # `run` ends the process whatever happens here, Ctrl-C included.
        done = subprocess.run(command, input=job, capture_output=True, timeout=limit_s, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise TrialError(f"measuring latency took more than {limit_s:g} s; the model is too slow to measure") from error
    except OSError as error:
        raise TrialError(f"cannot start the process that measures latency: {error.strerror}") from error
    if done.returncode < 0:
        raise TrialError(f"the process that measures latency was killed by signal {-done.returncode} (out of memory?)")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise TrialError(f"latency cannot be measured: {lines[-1][:300] if lines else 'the process failed'}")
    return json.loads(done.stdout)
