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

from nas_kd.deploy import latency_worker, reference_speed
from nas_kd.deploy.device import DeviceProfile
from nas_kd.deploy.environment import Fact, machine
from nas_kd.deploy.latency_worker import Timing
from nas_kd.deploy.reference_net import Size, reference_for, reference_net
from nas_kd.errors import TrialError
from nas_kd.record import DeviceRecord, Latency

LIMIT_S = 120.0  # for a model so large or slow that the process does not come back
# Outside, the machine is so unlike itself (a neighbour on the same physical core slows some networks more than others)
# that a proportional correction is doubtful: measured again, and unstable if it stays so.
USUAL_SPEED = (0.9, 1.15)
ATTEMPTS = 3


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
    content: bytes,
    device: DeviceProfile,
    batch_size: int = 1,
    *,
    input_shape: tuple[int, ...] | None = None,
    seconds: float = 2.0,
    limit_s: float = LIMIT_S,
) -> Measurement:
    """Latency of one call with `batch_size` samples; stops when its interval is within +-2 %, or after `seconds`.

    `input_shape` is one sample's, for a file whose input leaves more than the batch open. The interval is that of this
    measurement's own noise. p90 and p99 are over single calls, disturbances included. One measurement at a time runs on
    a machine; another waits. While the machine's speed is unlike its usual one, it is
    repeated, at most twice, and the one nearest to usual counts, marked `unstable` where that is still far off.

    Raises:
        InputError: this machine lacks what the device profile asks for.
        TrialError: the file cannot be run, or the measuring process died or took more than `limit_s`.
    """
    device.check()
    size = reference_for(len(content))
    history = reference_speed.cache_folder() / f"reference-{size}-{device.key()[:16]}.json"
    reference = reference_net(size)
    run = partial(_run_worker, reference=reference, settings=session_settings(device), seconds=seconds, limit_s=limit_s)
    attempts: list[tuple[Timing, dict[str, Fact]]] = []
    with alone(limit_s):
        usual_ms = reference_speed.usual_ms(history, lambda: run(reference, batch_size=1)[0].reference_ms)
        for _ in range(ATTEMPTS):
            attempts.append(run(content, batch_size=batch_size, input_shape=input_shape))
            reference_speed.remember(history, attempts[-1][0].reference_ms)
            if attempts[-1][0].unstable or _as_usual(attempts[-1][0], usual_ms):
                break
    steady = [a for a in attempts if not a[0].unstable] or attempts
    timing, facts = min(steady, key=lambda a: abs(usual_ms - a[0].reference_ms))
    return Measurement(
        latency=Latency(
            p50=timing.p50 * usual_ms,
            p90=timing.p90 * usual_ms,
            p99=timing.p99 * usual_ms,
            low=timing.low * usual_ms,
            high=timing.high * usual_ms,
            unstable=timing.unstable or not _as_usual(timing, usual_ms),
        ),
        raw_p50_ms=timing.raw_p50_ms,
        speed=usual_ms / timing.reference_ms,
        reference=size,
        reference_ms=usual_ms,
        blocks=timing.blocks,
        calls=timing.calls,
        disturbed=timing.disturbed,
        seconds=timing.seconds,
        attempts=len(attempts),
        environment=machine() | facts,
    )


def describe_device(device: DeviceProfile, batch_size: int) -> DeviceRecord:
    """The profile and this machine, as the run's record carries them."""
    settings: dict[str, Fact] = {k: v for k, v in session_settings(device).items() if k != "provider_options"}
    options = {f"provider.{name}": value for name, value in device.provider_options}
    environment = settings | options | machine()
    return DeviceRecord(name=device.name, words=device.summary, batch_size=batch_size, environment=environment)


def _as_usual(timing: Timing, usual_ms: float) -> bool:
    return USUAL_SPEED[0] <= usual_ms / timing.reference_ms <= USUAL_SPEED[1]


@contextmanager
def alone(limit_s: float) -> Iterator[None]:
    """Keep this machine's other measurements waiting.

    Raises:
        TrialError: another has not ended within `limit_s`.
    """
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


def session_settings(device: DeviceProfile) -> dict[str, Any]:
    """What a measuring process is told of the profile."""
    return {
        "threads": device.n_threads,
        "spinning": device.spinning,
        "optimisation": device.optimisation,
        "pinned": device.pinned,
        "provider": device.provider,
        "provider_options": device.provider_options,
    }


def _run_worker(
    content: bytes,
    reference: bytes,
    *,
    settings: Mapping[str, Any],
    batch_size: int,
    input_shape: tuple[int, ...] | None = None,
    seconds: float,
    limit_s: float,
) -> tuple[Timing, dict[str, Fact]]:
    job = {
        "candidate_bytes": len(content),
        "reference_bytes": len(reference),
        "batch_size": batch_size,
        "input_shape": input_shape,
        "seconds": seconds,
        "settings": settings,
    }
    answer = _ask(json.dumps(job).encode() + b"\n" + content + reference, limit_s)
    pinned = ",".join(map(str, answer["cores"])) or None
    return Timing(**answer["timing"]), {"pinned_to": pinned, "steal": answer["steal"]}


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
