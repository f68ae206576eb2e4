"""Keeps a store below its size limit: of the entries that can be recomputed, the least recently used go first."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# Kinds of entries that may be removed, in this order. All others are small, or results.
REMOVABLE_KINDS: Sequence[str] = ("logits", "checkpoint", "weights")
LEFTOVER_S = 3600.0  # age of temporary files that were abandoned; a write takes less
SCAN_SHARE = 0.02  # share of the limit that may be written before the folder is scanned again


class SizeLimit:
    """Size limit of a store folder, as one of several processes that write to it enforces it."""

    def __init__(self, root: Path, max_bytes: int | None) -> None:
        """Limit the folder `root` to `max_bytes`; None: no limit."""
        self._root, self._max_bytes = root, max_bytes
        self._written = float("inf")  # bytes since the last scan

    def record_write(self, path: Path) -> None:
        """Count a file that was just written, and remove others if the store exceeds its limit."""
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
        for kind in REMOVABLE_KINDS:
            folder = self._root / kind
            oldest_first = sorted(
                (f for f in files if f[0].is_relative_to(folder) and f[0] != keep), key=lambda f: f[2]
            )
            for path, size, _ in oldest_first:
                if excess <= 0:
                    return
                path.unlink(missing_ok=True)
                excess -= size


def remove_leftovers(root: Path) -> int:
    """Remove temporary files of processes that were killed during a write; returns their number."""
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
