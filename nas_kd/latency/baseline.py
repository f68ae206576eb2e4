"""How fast this machine is when left alone: reference times of the last measurements, kept between processes.

A processor's speed differs by several per cent from one minute to the next, and by tens of them with what neighbours on
the same physical core do. Latencies are therefore measured in multiples of a reference network's time while that is
undisturbed, and told in milliseconds at its usual undisturbed time.
"""

import json
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from nas_kd.latency.latency_worker import undisturbed
from nas_kd.serialization import write_atomic

KEEP = 101  # a neighbour has to stay for 91 measurements to pass for the machine's own speed
CALIBRATE = 5  # measurements of the reference alone, the first time on a machine


def cache_folder() -> Path:
    """`$NAS_KD_CACHE`, or `nas-kd` in the user's cache folder."""
    if given := os.environ.get("NAS_KD_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nas-kd"


def baseline_ms(path: Path, measure_ms: Callable[[], float]) -> float:
    """The reference's usual time undisturbed, by those kept in `path`; measured afresh where too few are kept."""
    times = _read(path)
    while len(times) < CALIBRATE:
        times.append(measure_ms())
        _write(path, times)
    return undisturbed(times)


def latest(path: Path, count: int) -> list[float]:
    """Up to so many of the times kept, the newest last."""
    return _read(path)[-count:]


def remember(path: Path, reference_ms: float) -> None:
    """Add a measurement's reference time; only the latest are kept, so that a changed machine is soon known."""
    _write(path, [*_read(path), reference_ms][-KEEP:])


def _write(path: Path, times: list[float]) -> None:
    _IN_MEMORY[path] = times
    try:
        write_atomic(path, json.dumps(times))
    except OSError as error:
        message = f"cannot keep this machine's speed in {path} ({error.strerror}); set NAS_KD_CACHE to a folder"
        warnings.warn(message, stacklevel=2)


def _read(path: Path) -> list[float]:
    try:
        values = json.loads(path.read_text())
    except OSError:  # not there yet, or not for us to read
        return list(_IN_MEMORY.get(path, ()))
    except ValueError:  # damaged: measure afresh
        return []
    valid = isinstance(values, list) and all(isinstance(v, float) and math.isfinite(v) and v > 0 for v in values)
    return values if valid else []


_IN_MEMORY: dict[Path, list[float]] = {}  # for machines on which nothing can be kept
