"""The run's store: weights, outputs, exports and measurements, each under the sha256 of its inputs."""

import json
import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas_kd.serialization import canonical_json, sha256, write_atomic
from nas_kd.store.size_limit import SizeLimit

_LOG = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"[a-z][a-z0-9_]*")
_HEADER = "nas_kd"
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """Tensors and their metadata, as loaded from one file.

    Attributes:
        tensors: by name, on the CPU, memory-mapped where the system can.
        meta: the JSON value that was saved with them.
    """

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


class Store:
    """Cache of files named `root/kind/ab/abcd....suffix`; each is whole or absent, a damaged one counts as absent.

    Keys are 64 hex digits and kinds are plain words (ValueError otherwise), so that no path leaves the folder. Writing
    raises OSError if the folder is not writable or the disk is full.

    Attributes:
        root: the folder.
        hits: loads that found an entry, by kind.
        misses: loads that found none, by kind.
    """

    def __init__(self, root: Path, max_bytes: int | None = None) -> None:
        """Open a store; its folder is created by the first write.

        Args:
            root: the folder.
            max_bytes: size limit of the whole folder, above which entries that can be recomputed are removed.
        """
        self.root = root
        self._limit = SizeLimit(root, max_bytes)
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()

    def save(self, kind: str, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Save tensors with metadata as one safetensors file.

        Args:
            kind: kind of entry, such as "weights".
            key: 64 hex digits.
            tensors: by name, on any device; shared memory is copied.
            meta: a JSON value.
        """
        portable = _portable(tensors)
        header = {"meta": dict(meta), "check": _checksum(portable, meta)}
        final = self._path(kind, key, "safetensors")
        with _replacing(final) as path:
            try:
                save_file(portable, path, {_HEADER: canonical_json(header)})
            except SafetensorError as error:
                raise OSError(f"{path.parent}: cannot write: {error}") from error
        self._limit.record_write(final)

    def load(self, kind: str, key: str) -> Entry | None:
        """Load tensors and metadata; None if the entry is absent or damaged."""
        path = self._path(kind, key, "safetensors")
        found = self._read(path, _read_tensors)
        if found is not None:
            with suppress(OSError):  # mark as just used: the last to be removed
                os.utime(path)
        return self._counted(kind, found)

    def remove(self, kind: str, key: str) -> None:
        """Remove the tensors of an entry, if there are any."""
        self._path(kind, key, "safetensors").unlink(missing_ok=True)

    def save_json(self, kind: str, key: str, value: Any) -> None:
        """Save a small JSON value with its checksum."""
        text = canonical_json(value)
        write_atomic(self._path(kind, key, "json"), f'{{"sha256":"{sha256(text.encode())}","value":{text}}}')

    def load_json(self, kind: str, key: str) -> Any | None:
        """Load a JSON value; None if the entry is absent or damaged."""
        return self._counted(kind, self._read(self._path(kind, key, "json"), _read_json))

    def save_bytes(self, kind: str, key: str, data: bytes) -> None:
        """Save bytes behind a line with their sha256."""
        write_atomic(self._path(kind, key, "bin"), sha256(data).encode() + b"\n" + data)

    def load_bytes(self, kind: str, key: str) -> bytes | None:
        """Load bytes; None if the entry is absent or damaged."""
        return self._counted(kind, self._read(self._path(kind, key, "bin"), _read_bytes))

    @contextmanager
    def lock(self, kind: str, key: str) -> Iterator[None]:
        """Hold the lock of an entry, so that a second process waits and then finds what the first one saved."""
        path = self._path(kind, key, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    def find_bytes(self, kind: str, content_sha256: str) -> bytes | None:
        """Find bytes by the sha256 of their content instead of their key; reads the first line of every entry.

        Args:
            kind: kind of entry to search.
            content_sha256: 64 hex digits.

        Returns:
            The bytes, or None if there is no such entry.
        """
        _require(_KEY, content_sha256, "sha256")
        _require(_KIND, kind, "kind")
        for path in sorted((self.root / kind).glob("??/*.bin")):
            with path.open("rb") as file:
                matches = file.read(64) == content_sha256.encode()
            if matches and (data := self._read(path, _read_bytes)) is not None:
                return data
        return None

    def counts(self, since: Mapping[str, tuple[int, int]] | None = None) -> dict[str, tuple[int, int]]:
        """Count hits and misses by kind.

        Args:
            since: an earlier result of `counts` to subtract.

        Returns:
            (hits, misses) by kind.
        """
        earlier = since or {}
        return {
            kind: (self.hits[kind] - earlier.get(kind, (0, 0))[0], self.misses[kind] - earlier.get(kind, (0, 0))[1])
            for kind in sorted({*self.hits, *self.misses})
        }

    def _path(self, kind: str, key: str, suffix: str) -> Path:
        _require(_KIND, kind, "kind")
        _require(_KEY, key, "key")
        return self.root / kind / key[:2] / f"{key}.{suffix}"

    def _read(self, path: Path, read: Callable[[Path], T]) -> T | None:
        if not path.exists():
            return None
        try:
            return read(path)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("%s: damaged (%s); removed, to be recomputed", path, error)
            path.unlink(missing_ok=True)
            return None

    def _counted(self, kind: str, found: T | None) -> T | None:
        (self.misses if found is None else self.hits)[kind] += 1
        return found


def _require(pattern: re.Pattern[str], given: str, what: str) -> None:
    if not pattern.fullmatch(given):
        raise ValueError(f"a store's {what} must match {pattern.pattern}, got {given!r}")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Temporary file beside `path`, which replaces it once complete and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}")  # short, as `path` may have the longest name allowed
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move tensors to the CPU, contiguous and without shared memory, as the format needs; copy only if needed."""
    ready: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if (address := value.untyped_storage().data_ptr()) in seen:
            value = value.clone()
        seen.add(address)
        ready[name] = value
    return ready


def _checksum(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> int:
    """CRC-32 of names, shapes, `meta` and each tensor's sum of 64-bit words.

    The sums detect holes, torn pages and flipped bits in a fifth of the time of a CRC over all bytes.
    """
    layout = [[k, str(v.dtype), list(v.shape), _sum_of_words(v)] for k, v in sorted(tensors.items())]
    return zlib.crc32(canonical_json([layout, dict(meta)]).encode())


def _sum_of_words(tensor: Tensor) -> int:
    raw = tensor.reshape(-1).view(torch.uint8).numpy()
    whole = raw.size // 8 * 8
    total = int(raw[:whole].view(np.uint64).sum(dtype=np.uint64))
    return total + int.from_bytes(raw[whole:].tobytes(), "little")


def _read_tensors(path: Path) -> Entry:
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    stored = json.loads(header[_HEADER])
    if stored["check"] != _checksum(tensors, stored["meta"]):
        raise ValueError("the checksum differs")
    return Entry(tensors, stored["meta"])


def _read_json(path: Path) -> Any:
    stored = json.loads(path.read_bytes())
    if stored["sha256"] != sha256(canonical_json(stored["value"]).encode()):
        raise ValueError("the checksum differs")
    return stored["value"]


def _read_bytes(path: Path) -> bytes:
    stated, _, data = path.read_bytes().partition(b"\n")
    if stated != sha256(data).encode():
        raise ValueError("the checksum differs")
    return data
