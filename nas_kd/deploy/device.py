"""Device profiles: on what, and under which settings of ONNX Runtime, latency is measured."""

import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

import onnxruntime

from nas_kd.deploy.environment import Fact, cpu_model
from nas_kd.errors import InputError, unknown
from nas_kd.files import fingerprint
from nas_kd.plugins import load

Optimisation = Literal["all", "extended", "basic", "none"]
OPTIMISATIONS: tuple[Optimisation, ...] = ("all", "extended", "basic", "none")


@dataclass(frozen=True)
class DeviceProfile:
    """One file in `nas_kd/deploy/devices/`, or a user's `package.module:Name`.

    `threads`: None takes every core that this process may use. `spinning`: idle threads wait for work busily, which is
    faster and burns their cores. `optimisation`: ONNX Runtime's graph level. `pinned`: the measuring process is bound
    to as many cores as it has threads, the least busy ones, where the operating system allows it.
    """

    name: str
    summary: str
    threads: int | None = 1
    spinning: bool = False
    optimisation: Optimisation = "all"
    pinned: bool = True
    provider: str = "CPUExecutionProvider"
    provider_options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings that cannot be."""
        if self.threads is not None and self.threads < 1:
            raise InputError(f"device {self.name}: threads must be >= 1 (or None: every core), got {self.threads}")
        if self.optimisation not in OPTIMISATIONS:
            raise unknown(f"optimisation of device {self.name}", self.optimisation, OPTIMISATIONS)

    @property
    def n_threads(self) -> int:
        """Threads on this machine."""
        return usable_cores() if self.threads is None else self.threads

    def check(self) -> None:
        """Make sure that this machine has what the profile asks for.

        Raises:
            InputError: it has not the provider, or fewer cores than threads.
        """
        providers = onnxruntime.get_available_providers()
        if self.provider not in providers:
            raise InputError(
                f"device {self.name} needs ONNX Runtime's {self.provider}, this installation has "
                f"{', '.join(providers)}; install a build that has it, or choose another device"
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
        machine = {"cpu": cpu_model(), "cores": usable_cores(), "onnxruntime": onnxruntime.__version__}
        profile = {k: v for k, v in asdict(self).items() if k not in ("name", "summary")}
        return fingerprint(profile | {"threads": self.n_threads} | machine)


def load_device(name: str) -> DeviceProfile:
    """The profile of this name (or `package.module:Name`), checked against this machine.

    Raises:
        InputError: there is none, it is no profile, or this machine cannot provide it.
    """
    profile = load("device", name)
    if not isinstance(profile, DeviceProfile):
        raise InputError(f"device {name!r} must be a nas_kd.deploy.device.DeviceProfile, got {type(profile).__name__}")
    profile.check()
    return profile


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
