"""The contract of a device profile."""

import base64
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory

from nas_kd.errors import InputError
from nas_kd.latency.baseline import CALIBRATION_RUNS, BaselineHistory
from nas_kd.latency.device import LocalDevice
from nas_kd.latency.device_profile import DeviceProfile, Optimisation
from nas_kd.latency.reference_net import reference_net
from nas_kd.latency.stable_timing import MeasurementBudget
from nas_kd.testing.rules import check_rules, fault_of_line, one_line

LONGEST = 110  # characters of a summary: a line of `nas-kd list devices`
BRIEF = MeasurementBudget(seconds=0.05, attempts=1, tolerance=1.0)
START_LIMIT_S = 60.0  # of the process that states the key
# The key of the profile on its standard input, as another process sees it.
STATE_KEY = "import base64, pickle, sys; print(pickle.loads(base64.b64decode(sys.stdin.read())).key())"


def check_device(profile: DeviceProfile) -> None:
    """Check a device profile against what measuring and the cache of measurements expect of it.

    Where this machine has what the profile asks for, a small ONNX file is measured, for a moment and apart from the
    times of the reference network that are kept on this machine; elsewhere the profile must be refused cleanly.

    Args:
        profile: the profile; `nas_kd.latency.device_profile.load_device` reads one from a TOML file.

    Raises:
        BrokenRule: the profile breaks a rule; the message names the rule and what was seen.

    Examples:
        >>> from nas_kd.plugins import available
        >>> check_device(available("device")["cpu-1t"])
    """
    check_rules(f"device {getattr(profile, 'name', type(profile).__name__)!r}", RULES, profile)


def names_itself(profile: DeviceProfile) -> str | None:
    """The device is a DeviceProfile with a name and a summary, one line each."""
    if not isinstance(profile, DeviceProfile):
        return f"{type(profile).__name__} is no nas_kd.latency.device_profile.DeviceProfile"
    return fault_of_line("name", profile.name) or fault_of_line("summary", profile.summary, LONGEST)


def has_valid_settings(profile: DeviceProfile) -> str | None:
    """Settings are what the measuring process takes: one thread or more, options of the provider as texts."""
    if profile.n_threads < 1:
        return f"n_threads is {profile.n_threads}"
    wrong = [option for option in profile.provider_options if not all(isinstance(part, str) for part in option)]
    if wrong:
        return f"provider option {wrong[0]!r} is no pair of texts"
    plain = {name: value for name, value in profile.facts().items() if not isinstance(value, str | int | float)}
    return f"fact {min(plain)!r} is {plain[min(plain)]!r}" if plain else None


def has_a_key_of_its_settings(profile: DeviceProfile) -> str | None:
    """The key is a sha256 of the settings: another name or summary leaves it, another setting changes it."""
    key = profile.key()
    if not re.fullmatch("[0-9a-f]{64}", key):
        return f"the key is {key!r}, no 64 hexadecimal digits"
    if profile.key() != key:
        return "the key differs between two calls"
    for change in ({"name": "another"}, {"summary": "another one"}):
        if replace(profile, **change).key() != key:  # type: ignore[arg-type]
            return f"another {next(iter(change))} changes the key"
    other: Optimisation = "basic" if profile.optimisation == "all" else "all"
    return "another optimisation leaves the key" if replace(profile, optimisation=other).key() == key else None


def has_one_key_everywhere(profile: DeviceProfile) -> str | None:
    """Another process sees the same key."""
    pickled = base64.b64encode(pickle.dumps(profile)).decode()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", STATE_KEY],
        input=pickled,
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
    )
    if answer.returncode:
        return f"another process cannot read the profile: {answer.stderr.strip().splitlines()[-1]}"
    return None if answer.stdout.strip() == profile.key() else "the key is another one in another process"


def refuses_what_is_missing(profile: DeviceProfile) -> str | None:
    """What this machine lacks is refused by an InputError in one line that names the device, never replaced."""
    lacking = {
        "a provider that does not exist": replace(profile, provider="NoSuchExecutionProvider"),
        "a version of ONNX Runtime that does not exist": replace(profile, onnxruntime="<0.1"),
    }
    for what, variant in lacking.items():
        refusal = _refusal(variant.check, profile.name)
        if refusal is None or refusal.fault:
            return f"asked for {what}, check {refusal.fault if refusal else 'accepts it'}"
    return None


def measures_or_refuses(profile: DeviceProfile) -> str | None:
    """A file is measured where this machine has what the profile asks for, and refused cleanly elsewhere."""
    refusal = _refusal(profile.check, profile.name)
    if refusal is not None and refusal.fault:
        return f"check {refusal.fault}"
    device, content = LocalDevice(profile), reference_net("small")
    if refusal is not None:
        measuring = _refusal(lambda: device.measure(content, 1, measurement_budget=BRIEF), profile.name)
        if measuring is None or measuring.fault:
            return f"check refuses it, measure {measuring.fault if measuring else 'does not'}"
        return None
    with _made_up_baseline(profile):
        latency = device.measure(content, 1, measurement_budget=BRIEF)
    if not (0 < latency.low <= latency.p50 <= latency.high and math.isfinite(latency.high)):
        return f"a latency of {latency.p50} ms in {latency.low} to {latency.high} ms"
    return None


RULES = (
    names_itself,
    has_valid_settings,
    has_a_key_of_its_settings,
    has_one_key_everywhere,
    refuses_what_is_missing,
    measures_or_refuses,
)


class _Refusal:
    """An error, and what is wrong with it as an answer to a user."""

    def __init__(self, error: Exception, name: str) -> None:
        text = str(error)
        clean = isinstance(error, InputError) and text.isprintable() and name in text
        self.fault = None if clean else f"raises {one_line(error)}"


def _refusal(attempt: Callable[[], object], name: str) -> _Refusal | None:
    try:
        attempt()
    except Exception as error:  # judged by its text
        return _Refusal(error, name)
    return None


@contextmanager
def _made_up_baseline(profile: DeviceProfile) -> Iterator[None]:
    """Times of the reference network as if it took 1 ms, in a folder of their own.

    It need not be timed first, and what is measured here does not become this machine's usual speed.
    """
    before = os.environ.get("NAS_KD_CACHE")
    with TemporaryDirectory() as folder:
        os.environ["NAS_KD_CACHE"] = folder
        try:
            history = BaselineHistory.of_device("small", profile.key())
            for _ in range(CALIBRATION_RUNS):
                history.add(1.0)
            yield
        finally:
            if before is None:
                del os.environ["NAS_KD_CACHE"]
            else:
                os.environ["NAS_KD_CACHE"] = before
