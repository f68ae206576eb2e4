"""Identifies files by their content, which is read once and known again by size, times and inode until one changes.

As in git's index, files that were changed just before they were read are read again the next time: a later change in
the same instant would not show in their times.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from nas_kd.data.in_order import in_order, usable_cores
from nas_kd.data.loading_events import report_progress
from nas_kd.errors import InputError
from nas_kd.serialization import canonical_json, fingerprint, sha256, write_atomic

SETTLED_NS = 2_000_000_000  # age from which times are trusted: FAT counts in steps of two seconds
PROGRESS_EVERY = 500  # files
State = tuple[str, int, int, int, int]  # name, size, times of change of content and of inode, number of inode
NamedFiles = Sequence[tuple[str, Path]]


def content_of(files: NamedFiles, known: Path, what: str) -> str:
    """Identify the content of files, in their order.

    Args:
        files: with names that stay the same when all are moved together.
        known: folder that keeps what was found, by the state of the files.
        what: they are, for progress and messages.

    Returns:
        Sha256 (hex) over the content of all of them, or that a file cannot be read.

    Raises:
        InputError: they are being changed.
    """
    began, states = time.time_ns(), file_states(files)
    kept = known / f"{sha256(canonical_json(states).encode())}.txt"
    with suppress(OSError):
        if len(text := kept.read_text()) == len(fingerprint(None)):
            return text
    content = fingerprint(list(_hashes(files, what)))
    require_unchanged(files, states, what)
    newest = max((max(state[2:4]) for state in states), default=0)
    if newest < began - SETTLED_NS:
        with suppress(OSError):  # the next one reads the files again
            write_atomic(kept, content)
    return content


def file_states(files: NamedFiles) -> list[State]:
    """What the file system says of files: it differs after any change; zeros for files that are not there."""
    return [_state(name, path) for name, path in files]


def require_unchanged(files: NamedFiles, before: list[State], what: str) -> None:
    """Refuse files that have changed meanwhile.

    Raises:
        InputError: names the first.
    """
    for earlier, now in zip(before, file_states(files), strict=True):
        if earlier != now:
            raise InputError(f"{now[0]} of {what} was changed while it was read; start again when all are written")


def _state(name: str, path: Path) -> State:
    with suppress(OSError):
        stat = path.stat()
        return name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
    return name, 0, 0, 0, 0


def _hashes(files: NamedFiles, what: str) -> Iterator[str]:
    with ThreadPoolExecutor(usable_cores()) as pool:
        for done, found in enumerate(in_order(pool, _hash, [path for _, path in files]), 1):
            if done % PROGRESS_EVERY == 0 or done == len(files):
                report_progress(f"looking for decoded pictures of {what}: file", done, len(files))
            yield found


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # is met again when it is decoded
        return "unreadable"
