"""Files that are either whole or absent: every write goes to a temporary neighbour first and is then renamed."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`; a crash or a full disk leaves the old file (or none), never half of the new one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    neighbour = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with neighbour.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
    finally:
        neighbour.unlink(missing_ok=True)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256(data: bytes) -> str:
    """sha256 (hex) of `data`."""
    return hashlib.sha256(data).hexdigest()
