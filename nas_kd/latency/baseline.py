"""The baseline of this machine: how long the reference network takes while the machine is undisturbed.

A processor's speed differs by several per cent from one minute to the next, and by tens of per cent with what its
neighbours on the same physical core do. Latencies are therefore measured in multiples of a reference network's time
while that is undisturbed, and expressed in milliseconds at its usual undisturbed time, the baseline. The reference's
times of the latest measurements are kept in a file, so that the baseline lasts between processes.
"""

import json
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from nas_kd.latency.timing_statistics import undisturbed_time
from nas_kd.serialization import write_atomic

HISTORY_LENGTH = 101  # a neighbour has to stay for 91 measurements to be mistaken for the machine's own speed
CALIBRATION_RUNS = 5  # measurements of the reference by itself, the first time on a machine


def cache_folder() -> Path:
    """Folder of files that are kept between runs: `$NAS_KD_CACHE`, or `nas-kd` in the user's cache folder."""
    if given := os.environ.get("NAS_KD_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nas-kd"


class BaselineHistory:
    """The reference's times in the latest measurements on this machine, kept in a file."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`, which need not exist yet."""
        self._path = path

    @staticmethod
    def of_device(reference_size: str, device_key: str) -> "BaselineHistory":
        """The history of one reference network under one device profile, in the cache folder."""
        return BaselineHistory(cache_folder() / f"reference-{reference_size}-{device_key[:16]}.json")

    def baseline_ms(self, measure_ms: Callable[[], float]) -> float:
        """The reference's usual undisturbed time by this history.

        Args:
            measure_ms: Measures the reference by itself; called while the history is too short.
        """
        times = self._read()
        while len(times) < CALIBRATION_RUNS:
            times.append(measure_ms())
            self._write(times)
        return undisturbed_time(times)

    def latest(self, count: int) -> list[float]:
        """The latest times, at most `count`, the newest last."""
        return self._read()[-count:]

    def add(self, reference_ms: float) -> None:
        """Append a time and drop the oldest ones, so that a change of the machine is noticed soon."""
        self._write([*self._read(), reference_ms][-HISTORY_LENGTH:])

    def _write(self, times: list[float]) -> None:
        _IN_MEMORY[self._path] = times
        try:
            write_atomic(self._path, json.dumps(times))
        except OSError as error:
            message = (
                f"cannot keep this machine's speed in {self._path} ({error.strerror}); set NAS_KD_CACHE to a folder"
            )
            warnings.warn(message, stacklevel=2)

    def _read(self) -> list[float]:
        try:
            values = json.loads(self._path.read_text())
        except OSError:  # missing, or not readable for this user
            return list(_IN_MEMORY.get(self._path, ()))
        except ValueError:  # damaged: measure again
            return []
        valid = isinstance(values, list) and all(isinstance(v, float) and math.isfinite(v) and v > 0 for v in values)
        return values if valid else []


_IN_MEMORY: dict[Path, list[float]] = {}  # for machines on which no file can be written
