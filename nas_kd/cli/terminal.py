"""Keeps the terminal for what nas-kd prints: what libraries and users' code write to it goes to the run's log."""

import io
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import TextIO

STREAMS = (1, 2)  # descriptors of standard output and standard error


class Terminal:
    """The terminal's stream, while everything else that this process writes to its standard streams goes elsewhere.

    Warnings of C++ libraries and dumps of graphs are written to the descriptors themselves, past Python. With
    `verbose` nothing is redirected, and log messages are shown.
    """

    def __init__(self, verbose: bool = False) -> None:
        """Prepare; nothing is redirected before `open`."""
        self.verbose, self.stream = verbose, sys.stderr
        self._saved: list[int] = []
        self._handler: logging.Handler | None = None

    def open(self) -> TextIO:
        """Redirect the standard streams to a file that is thrown away; returns the terminal's."""
        if self.verbose:
            self._show_log()
        elif _descriptor(sys.stderr) == 2:
            self._saved = [os.dup(descriptor) for descriptor in STREAMS]
            self.stream = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace")
            with tempfile.TemporaryFile() as nowhere:
                self._redirect(nowhere.fileno())
        return self.stream

    def write_to(self, log: Path) -> None:
        """Redirect the standard streams to the end of this file from now on, if they are redirected at all."""
        if self._saved:
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            self._redirect(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Give the standard streams back."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            logging.getLogger("nas_kd").setLevel(logging.NOTSET)
        if not self._saved:
            return
        _flush()
        for descriptor, saved in zip(STREAMS, self._saved, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
        self._saved = []
        self.stream.close()
        self.stream = sys.stderr

    def _redirect(self, target: int) -> None:
        _flush()
        for descriptor in STREAMS:
            os.dup2(target, descriptor)

    def _show_log(self) -> None:
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._handler.addFilter(lambda record: record.name != "nas_kd.run")  # what is printed anyway
        logging.getLogger().addHandler(self._handler)
        logging.getLogger("nas_kd").setLevel(logging.DEBUG)


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (io.UnsupportedOperation, ValueError, AttributeError):
        return None


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
