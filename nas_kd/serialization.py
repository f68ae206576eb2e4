"""Atomic file writes, canonical JSON and content keys."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all: a crash or a full disk leaves the old file, or none.

    The content goes to a temporary file beside `path`, which is then renamed.

    Args:
        path: the file; its folder is created if needed.
        content: bytes, or text to be written as UTF-8.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{uuid4().hex}")  # short, as `path` may have the longest name allowed
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def canonical_json(value: Any) -> str:
    """Serialise to JSON with sorted keys, no spaces and no NaN, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """Content key of a JSON value: sha256 (hex) of its canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256(data: bytes) -> str:
    """Hash bytes with SHA-256; returns 64 hex digits."""
    return hashlib.sha256(data).hexdigest()
