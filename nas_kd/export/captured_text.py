"""Keeps what torch writes while it exports off the terminal: it goes to the log, at debug level."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch

_LOG = logging.getLogger("nas_kd")


@contextmanager
def captured_text() -> Iterator[list[Warning]]:
    """Log warnings, prints, log records and dumps of graphs inside; gives the warnings, complete at the end."""
    raised: list[Warning] = []
    printed = StringIO()
    with ExitStack() as stack:
        recorded = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        stack.enter_context(redirect_stdout(printed))
        stack.enter_context(redirect_stderr(printed))
        stack.enter_context(_records_of_torch_to(printed))
        stack.enter_context(_graph_dumps_to(printed))
        try:
            yield raised
        finally:
            raised += [w.message for w in recorded if isinstance(w.message, Warning)]
            for warning in raised:
                _LOG.debug("export: %s: %s", type(warning).__name__, warning)
            if text := printed.getvalue().strip():
                _LOG.debug("export: %s", text)


@contextmanager
def _records_of_torch_to(printed: StringIO) -> Iterator[None]:
    """Write what torch logs to `printed`, and nowhere else."""
    names = [name for name in logging.root.manager.loggerDict if name == "torch" or name.startswith("torch.")]
    loggers = [
        logger for logger in map(logging.getLogger, {"torch", *names}) if logger.handlers or logger.name == "torch"
    ]
    before = [(logger, list(logger.handlers), logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [logging.StreamHandler(printed)], False
    try:
        yield
    finally:
        for logger, handlers, propagates in before:
            logger.handlers, logger.propagate = handlers, propagates


@contextmanager
def _graph_dumps_to(printed: StringIO) -> Iterator[None]:
    """Write the graphs that the TorchScript-based exporter prints from C++ when it fails to `printed`."""
    internals: Any = torch._C
    write = getattr(internals, "_jit_onnx_log", None)
    if write is None:
        yield
        return
    internals._jit_onnx_log = lambda *parts: print(*parts, file=printed)
    try:
        yield
    finally:
        internals._jit_onnx_log = write
