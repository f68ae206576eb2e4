"""Keeps a store below its limit: the least recently used of what can be made again goes first."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# What goes first, and within a kind the least recently used; everything else is small, or a result.
EXPENDABLE: Sequence[str] = ("logits", "checkpoint", "weights")
LEFTOVER_S = 3600.0  # a file that is being written is younger
SCAN_SHARE = 0.02  # of the limit: so much may be written before the store is looked at again


class SizeLimit:
    """One process's view of a store folder that several may write to."""

    def __init__(self, root: Path, max_bytes: int | None) -> None:
        self._root, self._max_bytes = root, max_bytes
        self._written = float("inf")  # since the last look

    def wrote(self, path: Path) -> None:
        """A file was written; makes room if that was one too many."""
        if self._max_bytes is None:
            return
        with suppress(FileNotFoundError):
            self._written += path.stat().st_size
        if self._written > SCAN_SHARE * self._max_bytes:
            self._make_room(self._max_bytes, keep=path)
            self._written = 0.0

    def _make_room(self, max_bytes: int, keep: Path) -> None:
        files = [(p, s.st_size, s.st_mtime) for p in self._root.rglob("*") if (s := _stat(p)) is not None]
        excess = sum(size for _, size, _ in files) - max_bytes
        for kind in EXPENDABLE:
            folder = self._root / kind
            mine = sorted((f for f in files if f[0].is_relative_to(folder) and f[0] != keep), key=lambda f: f[2])
            for path, size, _ in mine:
                if excess <= 0:
                    return
                path.unlink(missing_ok=True)
                excess -= size


def remove_leftovers(root: Path) -> int:
    """Remove what processes that were killed in the middle of a write have left; how many files."""
    old = time.time() - LEFTOVER_S
    leftovers = [p for p in root.rglob(".*") if (s := _stat(p)) is not None and s.st_mtime < old]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _stat(path: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        if path.is_file():
            return path.stat()
    return None
