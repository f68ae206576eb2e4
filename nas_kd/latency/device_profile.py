"""Device profiles: on what, and under which settings of ONNX Runtime, latency is measured."""

import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import onnxruntime
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from nas_kd.errors import InputError, unknown
from nas_kd.latency.device_file import read_device_file
from nas_kd.latency.environment import Fact, cpu_model, usable_cores
from nas_kd.plugins import load, names_of_files
from nas_kd.results.candidate import IntegerScheme
from nas_kd.serialization import fingerprint

Optimisation = Literal["all", "extended", "basic", "none"]
OPTIONLESS = "CPUExecutionProvider"
PROTOCOL = 2  # of measuring: figures of another one are not comparable
_PRECISIONS = names_of_files("precision")
# What the latency of a given file does not depend on, or what is told apart beside the key.
_NOT_OF_A_FILE = ("name", "summary", "batch_size", "precisions", "integer_scheme", "onnxruntime")


def native_integer_scheme() -> IntegerScheme:
    """What this processor's integer kernels are made for: unsigned activations on x86, signed ones elsewhere."""
    return "u8s8" if platform.machine().lower() in {"x86_64", "amd64", "i386", "i686", "x86"} else "s8s8"


@dataclass(frozen=True)
class DeviceProfile:
    """One file in `nas_kd/latency/devices/`, or a user's own: a TOML file, or `package.module:Name`.

    `threads`: None takes every core that this process may use. `spinning`: idle threads wait for work busily, which is
    faster and burns their cores. `optimisation`: ONNX Runtime's graph level. `pinned`: the measuring process is bound
    to as many cores as it has threads, the least busy ones, where the operating system allows it. `batch_size`: samples
    a call where nobody says otherwise. `precisions`: those that the search may use on this device. `integer_scheme`:
    types of activations and weights of int8 networks. `onnxruntime`: versions that will do, as in ">=1.20,<2"; "": any.
    """

    name: str
    summary: str
    threads: int | None = 1
    spinning: bool = False
    optimisation: Optimisation = "all"
    pinned: bool = True
    provider: str = "CPUExecutionProvider"
    provider_options: tuple[tuple[str, str], ...] = ()
    batch_size: int = 1
    precisions: tuple[str, ...] = _PRECISIONS
    integer_scheme: IntegerScheme = field(default_factory=native_integer_scheme)
    onnxruntime: str = ""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be."""
        if self.threads is not None and self.threads < 1:
            raise InputError(f"device {self.name}: threads must be >= 1 (or None: every core), got {self.threads}")
        if self.batch_size < 1:
            raise InputError(f"device {self.name}: batch_size must be >= 1, got {self.batch_size}")
        if not self.precisions:
            raise InputError(f"device {self.name}: precisions must name at least one of {', '.join(_PRECISIONS)}")
        for precision in self.precisions:
            _one_of(f"precision of device {self.name}", precision, _PRECISIONS)
        _one_of(f"optimisation of device {self.name}", self.optimisation, get_args(Optimisation))
        _one_of(f"integer_scheme of device {self.name}", self.integer_scheme, get_args(IntegerScheme))
        self._versions()

    @property
    def n_threads(self) -> int:
        """Threads on this machine."""
        return usable_cores() if self.threads is None else self.threads

    def check(self) -> None:
        """Make sure that this machine has what the profile asks for.

        Raises:
            InputError: it has not the provider or the version of ONNX Runtime, fewer cores than threads, or a provider
                that would ignore its options.
        """
        if not self._versions().contains(onnxruntime.__version__, prereleases=True):
            raise InputError(
                f"device {self.name} needs ONNX Runtime {self.onnxruntime}, this installation has "
                f"{onnxruntime.__version__}; install one that will do, or choose another device"
            )
        providers = onnxruntime.get_available_providers()
        if self.provider not in providers:
            raise InputError(
                f"device {self.name} needs ONNX Runtime's {self.provider}, this installation has "
                f"{', '.join(providers)}; install a build that has it, or choose another device"
            )
        if self.provider == OPTIONLESS and self.provider_options:
            raise InputError(
                f"device {self.name}: {OPTIONLESS} has no options, it ignores "
                f"{', '.join(name for name, _ in self.provider_options)}; leave provider_options out"
            )
        if self.n_threads > usable_cores():
            raise InputError(
                f"device {self.name} needs {self.n_threads} cores, this process may use {usable_cores()}; "
                "choose another device (nas-kd list devices)"
            )

    def settings(self) -> dict[str, Any]:
        """What the measuring process is told."""
        return {
            "threads": self.n_threads,
            "spinning": self.spinning,
            "optimisation": self.optimisation,
            "pinned": self.pinned,
            "provider": self.provider,
            "provider_options": self.provider_options,
        }

    def facts(self) -> dict[str, Fact]:
        """The same as a record carries it: `provider.NAME` is an option of the provider."""
        plain: dict[str, Fact] = {k: v for k, v in self.settings().items() if k != "provider_options"}
        return plain | {f"provider.{name}": value for name, value in self.provider_options}

    def key(self) -> str:
        """sha256 (hex) of all that a cached latency depends on besides the file: settings, processor and runtime."""
        machine = {"cpu": cpu_model(), "onnxruntime": onnxruntime.__version__, "protocol": PROTOCOL}
        profile = {k: v for k, v in asdict(self).items() if k not in _NOT_OF_A_FILE}
        return fingerprint(profile | {"threads": self.n_threads} | machine)

    def _versions(self) -> SpecifierSet:
        try:
            return SpecifierSet(self.onnxruntime)
        except InvalidSpecifier as error:
            raise InputError(
                f"device {self.name}: onnxruntime must be a range of versions such as '>=1.20,<2', "
                f"got {self.onnxruntime!r}"
            ) from error


def load_device(name: str) -> DeviceProfile:
    """The profile of this name, of a TOML file, or at `package.module:Name`, checked against this machine.

    Raises:
        InputError: there is none, it is no profile, or this machine cannot provide it.
    """
    profile = _of_file(Path(name)) if name.endswith(".toml") else load("device", name)
    if not isinstance(profile, DeviceProfile):
        raise InputError(
            f"device {name!r} must be a nas_kd.latency.device_profile.DeviceProfile, got {type(profile).__name__}"
        )
    profile.check()
    return profile


def _of_file(path: Path) -> DeviceProfile:
    given = read_device_file(path)
    try:
        return DeviceProfile(**given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise unknown(what, value, allowed)
