"""Files are whole or absent; canonical JSON is one text for one value."""

import hashlib
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.errors import InputError, unknown
from nas_kd.serialization import canonical_json, fingerprint, sha256, write_atomic

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def test_writes_bytes_and_text_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: both make the system refuse to write on."""
    path = tmp_path / "file"
    write_atomic(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write_atomic(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_in_the_way_is_an_error_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file" / "below").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]


@given(JSON)
def test_canonical_json_is_json(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert fingerprint(value) == hashlib.sha256(text.encode()).hexdigest()


def test_canonical_json_by_hand() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "x"}) == '{"a":"x","b":[1,2.5,null]}'
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="Out of range float"):
            canonical_json([number])


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    error = unknown("method", "dkdd", ["fitnet", "dkd"])
    assert isinstance(error, InputError)
    assert str(error) == "unknown method 'dkdd'; did you mean 'dkd'?"
    assert str(unknown("method", "zz", ["fitnet", "dkd"])) == "unknown method 'zz'; allowed: dkd, fitnet"
