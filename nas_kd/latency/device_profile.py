"""Device profiles: the settings of ONNX Runtime and of the measuring process under which latency is measured."""

import pkgutil
import platform
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import onnxruntime
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from nas_kd.errors import InputError, unknown
from nas_kd.latency.device_file import read_device_file
from nas_kd.latency.environment import Fact, cpu_model, usable_cores
from nas_kd.plugins import load
from nas_kd.results.candidate import IntegerScheme
from nas_kd.serialization import fingerprint

Optimisation = Literal["all", "extended", "basic", "none"]
INTEGER_SCHEMES: tuple[IntegerScheme, ...] = ("u8s8", "s8s8")  # types of an int8 network's activations and weights
CPU_PROVIDER = "CPUExecutionProvider"
MEASUREMENT_PROTOCOL = 2  # figures measured under another one are not comparable
# Attributes that the latency of a given file does not depend on, or that callers add to the key themselves.
_NOT_IN_KEY = ("name", "summary", "batch_size", "precisions", "integer_scheme", "onnxruntime")


@cache
def built_in_precisions() -> tuple[str, ...]:
    """Names of the built-in precisions, from the names of their modules: importing those would need torch."""
    folder = Path(__file__).parent.parent / "quantization" / "precisions"
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules([str(folder)])))


def native_integer_scheme() -> IntegerScheme:
    """The types that this processor's integer kernels are made for: unsigned activations on x86, else signed ones."""
    return "u8s8" if platform.machine().lower() in {"x86_64", "amd64", "i386", "i686", "x86"} else "s8s8"


@dataclass(frozen=True)
class DeviceProfile:
    """A device profile: one file in `nas_kd/latency/devices/`, a user's TOML file, or `package.module:Name`.

    Attributes:
        name: What reports call the device.
        summary: What it is, in one line.
        threads: Threads of a session; None: one on every core that this process may use.
        spinning: Idle threads wait for work in a busy loop, which is faster and keeps their cores at 100 %.
        optimisation: ONNX Runtime's graph optimisation level.
        pinned: Bind the measuring process to as many cores as it has threads, the least busy ones, where the operating
            system allows it.
        provider: ONNX Runtime's execution provider.
        provider_options: Name and value of each of the provider's options.
        batch_size: Samples a call, unless the config or the command line sets another number.
        precisions: Precisions that the search may use on this device; built-in names, or `package.module:Name`.
        integer_scheme: Types of activations and weights of int8 networks, "u8s8" or "s8s8".
        onnxruntime: Versions of ONNX Runtime that may be used, as in ">=1.20,<2"; "": any.

    Raises:
        InputError: A setting is not valid.

    Examples:
        >>> import nas_kd
        >>> nas_kd.DeviceProfile("camera", "the CPU of our camera", threads=2, precisions=("fp32", "int8")).n_threads
        2
        >>> nas_kd.DeviceProfile("camera", "the CPU of our camera", optimisation="most")
        Traceback (most recent call last):
        nas_kd.errors.InputError: unknown optimisation of device camera 'most'; allowed: all, basic, extended, none
    """

    name: str
    summary: str
    threads: int | None = 1
    spinning: bool = False
    optimisation: Optimisation = "all"
    pinned: bool = True
    provider: str = CPU_PROVIDER
    provider_options: tuple[tuple[str, str], ...] = ()
    batch_size: int = 1
    precisions: tuple[str, ...] = field(default_factory=built_in_precisions)
    integer_scheme: IntegerScheme = field(default_factory=native_integer_scheme)
    onnxruntime: str = ""

    def __post_init__(self) -> None:
        """Refuse settings that are not valid on any machine."""
        if self.threads is not None and self.threads < 1:
            raise InputError(f"device {self.name}: threads must be >= 1 (or None: every core), got {self.threads}")
        if self.batch_size < 1:
            raise InputError(f"device {self.name}: batch_size must be >= 1, got {self.batch_size}")
        if not self.precisions:
            names = ", ".join(built_in_precisions())
            raise InputError(f"device {self.name}: precisions must name at least one of {names}")
        for precision in self.precisions:
            if ":" not in precision:  # one of a user's own is checked where the search loads it
                _check_name(f"precision of device {self.name}", precision, built_in_precisions())
        _check_name(f"optimisation of device {self.name}", self.optimisation, get_args(Optimisation))
        _check_name(f"integer_scheme of device {self.name}", self.integer_scheme, INTEGER_SCHEMES)
        self._supported_versions()

    @property
    def n_threads(self) -> int:
        """Number of threads on this machine, with "every core" counted."""
        return usable_cores() if self.threads is None else self.threads

    def check(self) -> None:
        """Make sure that this machine has what the profile needs.

        Raises:
            InputError: The provider or the version of ONNX Runtime is missing, there are fewer cores than threads, or
                the provider would ignore its options.
        """
        if not self._supported_versions().contains(onnxruntime.__version__, prereleases=True):
            raise InputError(
                f"device {self.name} needs ONNX Runtime {self.onnxruntime}, this installation has "
                f"{onnxruntime.__version__}; install a version in that range, or choose another device"
            )
        providers = onnxruntime.get_available_providers()
        if self.provider not in providers:
            raise InputError(
                f"device {self.name} needs ONNX Runtime's {self.provider}, this installation has "
                f"{', '.join(providers)}; install a build that has it, or choose another device"
            )
        if self.provider == CPU_PROVIDER and self.provider_options:
            raise InputError(
                f"device {self.name}: {CPU_PROVIDER} has no options, it ignores "
                f"{', '.join(name for name, _ in self.provider_options)}; leave provider_options out"
            )
        if self.n_threads > usable_cores():
            raise InputError(
                f"device {self.name} needs {self.n_threads} cores, this process may use {usable_cores()}; "
                "choose another device (nas-kd list devices)"
            )

    def settings(self) -> dict[str, Any]:
        """The settings that the measuring process applies."""
        return {
            "threads": self.n_threads,
            "spinning": self.spinning,
            "optimisation": self.optimisation,
            "pinned": self.pinned,
            "provider": self.provider,
            "provider_options": self.provider_options,
        }

    def facts(self) -> dict[str, Fact]:
        """The settings as plain values for a record; `provider.NAME` is an option of the provider."""
        plain: dict[str, Fact] = {k: v for k, v in self.settings().items() if k != "provider_options"}
        return plain | {f"provider.{name}": value for name, value in self.provider_options}

    def key(self) -> str:
        """sha256 (hex) of all that a cached latency depends on besides the file: settings, processor, runtime."""
        machine = {"cpu": cpu_model(), "onnxruntime": onnxruntime.__version__, "protocol": MEASUREMENT_PROTOCOL}
        profile = {k: v for k, v in asdict(self).items() if k not in _NOT_IN_KEY}
        return fingerprint(profile | {"threads": self.n_threads} | machine)

    def _supported_versions(self) -> SpecifierSet:
        try:
            return SpecifierSet(self.onnxruntime)
        except InvalidSpecifier as error:
            raise InputError(
                f"device {self.name}: onnxruntime must be a range of versions such as '>=1.20,<2', "
                f"got {self.onnxruntime!r}"
            ) from error


def load_device(device: str | DeviceProfile) -> DeviceProfile:
    """Load a device profile and check that this machine can provide it.

    Args:
        device: A profile, the name of a built-in one, the path of a TOML file, or `package.module:Name`.

    Raises:
        InputError: There is no such profile, it is not valid, or this machine cannot provide it.
    """
    profile = _find(device) if isinstance(device, str) else device
    if not isinstance(profile, DeviceProfile):
        raise InputError(
            f"device {device!r} must be a nas_kd.latency.device_profile.DeviceProfile, got {type(profile).__name__}"
        )
    profile.check()
    return profile


def _find(name: str) -> Any:
    return _from_file(Path(name)) if name.endswith(".toml") else load("device", name)


def _from_file(path: Path) -> DeviceProfile:
    given = read_device_file(path)
    try:
        return DeviceProfile(**given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_name(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise unknown(what, value, allowed)
