"""Watches files through the kernel (Linux): whether any process opens them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_OPEN = 0x20


class FileWatch:
    """Reports whether a watched file was opened since the last call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def was_opened(self) -> bool:
        try:
            return bool(os.read(self._descriptor, 65_536))
        except BlockingIOError:
            return False


@contextmanager
def watch_files(*paths: Path) -> Iterator[FileWatch]:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        for path in paths:
            if libc.inotify_add_watch(descriptor, os.fsencode(path), IN_OPEN) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch")
        yield FileWatch(descriptor)
    finally:
        os.close(descriptor)
