"""The run's store: weights, outputs, exports and measurements, each under the sha256 of what it was made from."""

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
    """Tensors (on the CPU, mapped from the file where the system can) and what is to be known about them."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


class Store:
    """Files named `root/kind/ab/abcd....suffix`; each is whole or absent, and a damaged one counts as absent.

    Keys are 64 hex digits and kinds are plain words (ValueError otherwise), so that no path leaves the folder. Writing
    raises OSError where the folder cannot be written or the disk is full. `hits`, `misses`: loads of each kind.
    """

    def __init__(self, root: Path, max_bytes: int | None = None) -> None:
        """`max_bytes`: of the whole folder; where it would be exceeded, what can be made again is removed."""
        self.root = root
        self._limit = SizeLimit(root, max_bytes)
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()

    def save(self, kind: str, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Write tensors and JSON-able `meta` as one safetensors file."""
        portable = _portable(tensors)
        facts = {"meta": dict(meta), "check": _check(portable, meta)}
        final = self._path(kind, key, "safetensors")
        with _replacing(final) as path:
            try:
                save_file(portable, path, {_HEADER: canonical_json(facts)})
            except SafetensorError as error:
                raise OSError(f"{path.parent}: cannot write: {error}") from error
        self._limit.wrote(final)

    def load(self, kind: str, key: str) -> Entry | None:
        """What was saved, or None."""
        path = self._path(kind, key, "safetensors")
        found = self._read(path, _read_tensors)
        if found is not None:
            with suppress(OSError):  # used just now: the last to be removed
                os.utime(path)
        return self._counted(kind, found)

    def remove(self, kind: str, key: str) -> None:
        """Forget the tensors of an entry; it may be absent."""
        self._path(kind, key, "safetensors").unlink(missing_ok=True)

    def save_json(self, kind: str, key: str, value: Any) -> None:
        """Write a small JSON-able fact."""
        text = canonical_json(value)
        write_atomic(self._path(kind, key, "json"), f'{{"sha256":"{sha256(text.encode())}","value":{text}}}')

    def load_json(self, kind: str, key: str) -> Any | None:
        """What was saved, or None."""
        return self._counted(kind, self._read(self._path(kind, key, "json"), _read_json))

    def save_bytes(self, kind: str, key: str, data: bytes) -> None:
        """Write any bytes; their sha256 goes before them."""
        write_atomic(self._path(kind, key, "bin"), sha256(data).encode() + b"\n" + data)

    def load_bytes(self, kind: str, key: str) -> bytes | None:
        """What was saved, or None."""
        return self._counted(kind, self._read(self._path(kind, key, "bin"), _read_bytes))

    @contextmanager
    def lock(self, kind: str, key: str) -> Iterator[None]:
        """No two processes are inside for the same entry: the second one finds what the first has made."""
        path = self._path(kind, key, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    def find_bytes(self, kind: str, content_sha256: str) -> bytes | None:
        """The entry whose content, not key, has this sha256, or None; reads the first line of each of the kind."""
        _require(_KEY, content_sha256, "sha256")
        _require(_KIND, kind, "kind")
        for path in sorted((self.root / kind).glob("??/*.bin")):
            with path.open("rb") as file:
                matches = file.read(64) == content_sha256.encode()
            if matches and (data := self._read(path, _read_bytes)) is not None:
                return data
        return None

    def counts(self, since: Mapping[str, tuple[int, int]] | None = None) -> dict[str, tuple[int, int]]:
        """Hits and misses by kind; those after `since`, an earlier answer, if it is given."""
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
            _LOG.warning("%s: damaged (%s); removed, to be made again", path, error)
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
    """A neighbour to write to, which becomes `path` when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        yield neighbour
        with neighbour.open("rb") as file:
            os.fsync(file.fileno())
        neighbour.replace(path)
    finally:
        neighbour.unlink(missing_ok=True)


def _portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, dense, and none sharing its memory with another, as the format wants; copied only if needed."""
    ready: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if (address := value.untyped_storage().data_ptr()) in seen:
            value = value.clone()
        seen.add(address)
        ready[name] = value
    return ready


def _check(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> int:
    """CRC-32 of names, shapes, `meta` and each tensor's sum of words.

    The sum of 64-bit words shows holes, torn pages and flipped bits at a fifth of the time of a CRC of all the bytes.
    """
    layout = [[k, str(v.dtype), list(v.shape), _sum_of_words(v)] for k, v in sorted(tensors.items())]
    return zlib.crc32(canonical_json([layout, dict(meta)]).encode())


def _sum_of_words(tensor: Tensor) -> int:
    raw = tensor.reshape(-1).view(torch.uint8).numpy()
    whole = raw.size // 8 * 8
    description = int(raw[:whole].view(np.uint64).sum(dtype=np.uint64))
    return description + int.from_bytes(raw[whole:].tobytes(), "little")


def _read_tensors(path: Path) -> Entry:
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    facts = json.loads(header[_HEADER])
    if facts["check"] != _check(tensors, facts["meta"]):
        raise ValueError("the checksum differs")
    return Entry(tensors, facts["meta"])


def _read_json(path: Path) -> Any:
    facts = json.loads(path.read_bytes())
    if facts["sha256"] != sha256(canonical_json(facts["value"]).encode()):
        raise ValueError("the checksum differs")
    return facts["value"]


def _read_bytes(path: Path) -> bytes:
    stated, _, data = path.read_bytes().partition(b"\n")
    if stated != sha256(data).encode():
        raise ValueError("the checksum differs")
    return data
