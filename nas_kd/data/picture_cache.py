"""Keeps decoded pictures for later runs: in files that are named by the content of what was decoded, and mapped.

An entry is a folder that appears as a whole, by a rename, once all is on the disk: `pictures.bin` (N, C, H, W) uint8,
`entry.json`, and `facts/` that were found out about the pictures. An entry is made under a lock that ends with its
process.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout

from nas_kd.config.options import DataOptions
from nas_kd.data.encoded_pictures import Pictures
from nas_kd.data.file_content import content_of, file_states, require_unchanged
from nas_kd.data.loading_events import report_note
from nas_kd.data.mapped_array import MappedArray
from nas_kd.errors import InputError
from nas_kd.serialization import canonical_json, fingerprint, write_atomic

VERSION = 1  # of entries, in the name of the folder that they lie in
IN_MEMORY_BYTES = 256 * 2**20  # of decoded pictures of a split: up to here they stay in memory, by default
PIXELS, ENTRY, FACTS = "pictures.bin", "entry.json", "facts"
UNFINISHED, REMOVED = ".partial", ".removed"
Written = tuple[tuple[int, ...], dict[str, Any]]
T = TypeVar("T")


class CacheUnusableError(InputError):
    """Decoded pictures cannot be kept: no room, or a folder that cannot be written."""


class KeptPictures(NamedTuple):
    """An entry: the pictures, and what was met while they were decoded."""

    array: MappedArray
    log: dict[str, Any]


@dataclass(frozen=True)
class KeptFacts:
    """Facts about an entry, in its folder; those of an entry that was removed meanwhile are not kept."""

    folder: Path

    def remember(self, key: str, find: Callable[[], T]) -> T:
        """Return what is kept under a key; if nothing is, find it and keep it."""
        path = self.folder / f"{key}.json"
        with suppress(OSError, ValueError):
            found: T = json.loads(path.read_text())["value"]
            return found
        value = find()
        with suppress(OSError):
            if self.folder.is_dir():
                write_atomic(path, canonical_json({"value": value}))
        return value


class PictureCache:
    """A folder of decoded pictures, which several processes may use at once.

    Attributes:
        is_default: whether it is where it is because no option says otherwise.
    """

    def __init__(self, folder: Path, max_bytes: int, *, is_default: bool) -> None:
        """Use a folder, which need not be there.

        Args:
            folder: of this project's caches.
            max_bytes: of all entries together.
            is_default: whether no option names the folder: then small data do without it.
        """
        self._root = folder / f"pictures-{VERSION}"
        self._max_bytes, self.is_default = max_bytes, is_default
        self._used: dict[str, int] = {}  # bytes by key of the entries that are mapped here

    @staticmethod
    def of(options: DataOptions) -> "PictureCache | None":
        """The cache of `data.cache`; None: it is off."""
        if options.cache is False:
            return None
        folder = options.cache or default_folder()
        return PictureCache(Path(folder), round(options.cache_gb * 1e9), is_default=options.cache is None)

    def is_for(self, n_bytes: int) -> bool:
        """Whether decoded pictures of a split are kept that take as many bytes."""
        return not self.is_default or n_bytes > IN_MEMORY_BYTES

    def key(self, pictures: Pictures, facts: Any, what: str) -> str:
        """Name the entry of pictures by their content.

        Args:
            pictures: the files.
            facts: all else that decoded pictures follow from, as JSON.
            what: name of the split.

        Raises:
            InputError: files are being changed.
        """
        with suppress(OSError):  # is said when something is to be written
            self._create()
        content = content_of(pictures.files(), self._root / "known", what)
        return fingerprint([content, pictures.selection(), len(pictures), facts])

    def find(self, key: str) -> KeptPictures | None:
        """Map an entry; None: there is none, or it is damaged."""
        folder = self._root / key
        try:
            entry = json.loads((folder / ENTRY).read_text())
            shape, path = tuple(entry["shape"]), folder / PIXELS
            if path.stat().st_size != np.prod(shape, dtype=np.int64):
                return None
            stored = np.asarray(np.memmap(path, np.uint8, "r", shape=shape))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        with suppress(OSError):  # a cache that others fill
            os.utime(folder / ENTRY)
        self._used[key] = stored.nbytes
        return KeptPictures(MappedArray(stored, key, KeptFacts(folder / FACTS)), entry["log"])

    def make(
        self, key: str, pictures: Pictures, what: str, n_bytes: int, write: Callable[[Path], Written]
    ) -> KeptPictures:
        """Make an entry; if another process makes it now, wait for that.

        Args:
            key: of the entry.
            pictures: are decoded for it.
            what: name of the split.
            n_bytes: that the entry takes at most.
            write: decodes into a file, and returns its shape and the log.

        Raises:
            CacheUnusableError: there is no room, or the folder cannot be written.
            InputError: what `write` raises, or the files are changed meanwhile.
        """
        self._check_room(n_bytes, what)
        try:
            with self._locked(key, what):
                found = self.find(key)
                if found is None:
                    self._write(key, pictures, what, write)
                    report_note(f"pictures of {what}: decoded once, kept in {self._root}")
        except OSError as error:
            raise self._unusable(what, f"cannot be written: {error.strerror or error}") from error
        found = found or self.find(key)
        if found is None:
            raise self._unusable(what, "lost what was just written to it")
        self._make_room()
        return found

    def _write(self, key: str, pictures: Pictures, what: str, write: Callable[[Path], Written]) -> None:
        partial, folder = self._root / f"{key}{UNFINISHED}", self._root / key
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        (partial / FACTS).mkdir(parents=True)
        try:
            before = file_states(pictures.files())
            shape, log = write(partial / PIXELS)
            require_unchanged(pictures.files(), before, what)
            write_atomic(partial / ENTRY, canonical_json({"shape": shape, "log": log}))
            shutil.rmtree(folder, ignore_errors=True)  # damaged
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def _locked(self, key: str, what: str) -> Iterator[None]:
        lock = self._lock(key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report_note(f"another process decodes pictures of {what}: waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _lock(self, key: str) -> FileLock:
        """One of 256, so that there are not more and more of them."""
        self._create()
        folder = self._root / "locks"
        folder.mkdir(exist_ok=True)
        return FileLock(folder / key[:2])

    def _create(self) -> None:
        """Create the folder, for this user alone: pictures may be private."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _check_room(self, n_bytes: int, what: str) -> None:
        together = n_bytes + sum(self._used.values())
        if together > self._max_bytes:
            limit = f"data.cache_gb = {self._max_bytes / 1e9:g}"
            raise self._unusable(what, f"{together / 1e9:.1f} GB are needed, {limit} allows less: raise it")
        there = next((folder for folder in (self._root, *self._root.parents) if folder.exists()), Path.cwd())
        free = shutil.disk_usage(there).free
        if n_bytes > free:
            reason = f"{n_bytes / 1e9:.1f} GB are needed on its disk, {free / 1e9:.1f} GB are free"
            raise self._unusable(what, reason)

    def _unusable(self, what: str, reason: str) -> CacheUnusableError:
        return CacheUnusableError(
            f"decoded pictures of {what} cannot be kept in {self._root}: {reason}; or set data.cache to another "
            "folder, or to false, which keeps them in memory"
        )

    def _make_room(self) -> None:
        """Remove what killed processes left, and the entries that were not used for longest."""
        removed = sum(self._remove_unfinished(folder) for folder in self._root.glob(f"*{UNFINISHED}"))
        entries = sorted((_used_at(path), path.parent) for path in self._root.glob(f"*/{ENTRY}"))
        sizes = {folder: _size(folder / PIXELS) for _, folder in entries}
        excess, freed = sum(sizes.values()) - self._max_bytes, []
        for _, folder in entries:
            if excess > 0 and folder.name not in self._used and _removed(folder):
                excess -= sizes[folder]
                freed.append(sizes[folder])
        if freed or removed:
            report_note(
                f"the cache of decoded pictures was made smaller: {len(freed):,} data sets not used for longest were "
                f"removed ({sum(freed) / 1e9:.1f} GB; data.cache_gb = {self._max_bytes / 1e9:g}), and {removed:,} that "
                "were not finished"
            )

    def _remove_unfinished(self, folder: Path) -> bool:
        try:
            with self._lock(folder.name).acquire(timeout=0):
                return folder.exists() and _removed(folder)
        except (Timeout, OSError):  # it is being made
            return False


def default_folder() -> Path:
    """Where this system keeps what can be made again: of this user, and of this project."""
    home, given = Path(os.path.expanduser("~")), os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # others are to be ignored, says the specification
        return Path(given) / "nas-kd"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "nas-kd"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "nas-kd" / "cache"
    return home / ".cache" / "nas-kd"


def _used_at(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _removed(folder: Path) -> bool:
    """Remove a folder as a whole; one whose files the system does not let go stays."""
    gone = folder.with_name(f"{uuid4().hex}{REMOVED}")
    try:
        folder.rename(gone)
    except OSError:
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True
