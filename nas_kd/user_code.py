"""The door to code that is not this project's own: settings that it changes are put back, its errors described."""

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

MAX_LENGTH = 300  # of an error's message
Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # how it is read, and how it is set


@contextmanager
def unchanged_settings() -> Iterator[None]:
    """Put back the global settings that code changes inside.

    Of Python: the working folder, warnings filters, the random state. Of NumPy: the random state and error handling. Of
    torch: gradients, default number type and device, threads, flushing of subnormal numbers, deterministic algorithms,
    precision of matrix products, autocast, anomaly detection, attention's fast path and the random state.
    """
    with ExitStack() as stack:
        for settings in (_of_python(), _of_numpy(), _of_torch()):
            stack.enter_context(_unchanged(settings))
        yield


@contextmanager
def _unchanged(settings: Sequence[Setting]) -> Iterator[None]:
    before = [read() for read, _ in settings]
    try:
        yield
    finally:
        for (read, write), value in zip(settings, before, strict=True):
            if read() != value:
                write(value)


def _of_python() -> list[Setting]:
    return [
        (_working_folder, _set_working_folder),
        (lambda: list(warnings.filters), _set_warnings_filters),
        (random.getstate, random.setstate),
    ]


def _working_folder() -> str | None:
    with suppress(OSError):  # it was removed
        return os.getcwd()
    return None


def _set_working_folder(path: str | None) -> None:
    if path is not None:
        os.chdir(path)


def _set_warnings_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()  # makes Python look at the filters again
    warnings.filters[:] = filters  # type: ignore[index]


def _of_numpy() -> list[Setting]:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return []

    def random_state() -> tuple[Any, ...]:
        kind, keys, *rest = numpy.random.get_state()
        return kind, keys.tobytes(), *rest

    def set_random_state(state: tuple[Any, ...]) -> None:
        kind, keys, *rest = state
        numpy.random.set_state((kind, numpy.frombuffer(keys, dtype=numpy.uint32), *rest))

    return [(numpy.geterr, lambda modes: numpy.seterr(**modes)), (random_state, set_random_state)]


def _of_torch() -> list[Setting]:
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "backends"):  # importing it takes seconds, and nothing of it is in use yet
        return []

    def deterministic() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def flushes_subnormals() -> bool:
        return float(torch.tensor(1e-310, dtype=torch.float64, device="cpu") * 1.0) == 0.0

    return [
        (torch.get_default_device, lambda d: torch.set_default_device(None if d.type == "cpu" else d)),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.is_grad_enabled, torch._C._set_grad_enabled),
        (torch.get_num_threads, torch.set_num_threads),
        (flushes_subnormals, torch.set_flush_denormal),
        (deterministic, lambda modes: torch.use_deterministic_algorithms(modes[0], warn_only=modes[1])),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)),
        (lambda: torch.get_autocast_dtype("cpu"), lambda dtype: torch.set_autocast_dtype("cpu", dtype)),
        (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
        (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
        (
            lambda: torch.get_rng_state().numpy().tobytes(),
            lambda state: torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8)),
        ),
    ]


def describe_error(error: BaseException) -> str:
    """Describe what code raised in one line: its type, and the first line of its message, at most 300 characters."""
    if isinstance(error, SystemExit):
        return f"SystemExit: it called exit({error.code!r})"
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    return ": ".join(filter(None, [type(error).__name__, next((line for line in lines if line), "")[:MAX_LENGTH]]))
