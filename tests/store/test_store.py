"""The store gives back exactly what it was given, or nothing."""

import json
import logging
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nas_kd.serialization import fingerprint, sha256
from nas_kd.store.store import Store

KEY = fingerprint("a key")
TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
    "half": torch.tensor([1.5, -2.25, 3.0], dtype=torch.bfloat16),
    "steps": torch.tensor(5),
    "empty": torch.zeros(0, 3),
    "mask": torch.tensor([True, False, True]),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store) -> list[Path]:
    return [p for p in store.root.rglob("*") if p.is_file()]


def test_tensors_come_back_bit_for_bit(store: Store) -> None:
    meta = {"val_accuracy": 0.1 + 0.2, "description": "größer", "list": [1, None, True]}
    store.save("weights", KEY, TENSORS, meta)
    entry = Store(store.root).load("weights", KEY)
    assert entry is not None
    assert entry.meta == meta
    assert entry.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert entry.tensors[name].dtype == tensor.dtype
        assert torch.equal(entry.tensors[name], tensor)


def test_one_file_an_entry_named_after_its_key(store: Store) -> None:
    store.save("weights", KEY, TENSORS, {})
    store.save("weights", KEY, TENSORS, {"again": 1})
    assert files(store) == [store.root / "weights" / KEY[:2] / f"{KEY}.safetensors"]


def test_views_and_shared_memory_are_saved_as_what_they_show(store: Store) -> None:
    base = torch.arange(6.0).reshape(2, 3).requires_grad_()
    store.save("weights", KEY, {"base": base, "same": base, "turned": base.T, "row": base[1]}, {})
    entry = store.load("weights", KEY)
    assert entry is not None
    assert entry.tensors["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert entry.tensors["row"].tolist() == [3, 4, 5]
    assert torch.equal(entry.tensors["same"], base.detach())


def test_entries_stay_readable_while_they_are_replaced(store: Store) -> None:
    store.save("weights", KEY, {"w": torch.ones(1000)}, {})
    entry = store.load("weights", KEY)
    store.save("weights", KEY, {"w": torch.zeros(1000)}, {})
    assert entry is not None
    assert entry.tensors["w"].sum() == 1000


@pytest.mark.parametrize("value", [{"p50": 0.25, "unstable": False}, [1, 2], "text", 0, False, "größer"])
def test_json_comes_back(store: Store, value: Any) -> None:
    store.save_json("latency", KEY, value)
    assert store.load_json("latency", KEY) == value


@pytest.mark.parametrize("data", [b"", b"\n", b"onnx\n\x00\xff" * 1000])
def test_bytes_come_back(store: Store, data: bytes) -> None:
    store.save_bytes("export", KEY, data)
    assert store.load_bytes("export", KEY) == data


def test_bytes_are_found_by_their_content(store: Store) -> None:
    for n in range(3):
        store.save_bytes("file", fingerprint(n), f"content {n}".encode())
    assert store.find_bytes("file", sha256(b"content 1")) == b"content 1"
    assert store.find_bytes("file", sha256(b"content 9")) is None
    assert store.find_bytes("nothing", sha256(b"content 1")) is None


def test_hits_and_misses_are_counted_by_kind(store: Store) -> None:
    assert store.load("weights", KEY) is None
    store.save("weights", KEY, TENSORS, {})
    store.load("weights", KEY)
    store.load("weights", KEY)
    assert store.load_json("latency", KEY) is None
    assert (store.hits, store.misses) == ({"weights": 2}, {"weights": 1, "latency": 1})


@pytest.mark.parametrize(
    "key", ["", "../../etc/passwd", "abc", KEY.upper(), KEY + "0", f"{KEY}\n", "/" + KEY[1:], KEY[:62] + "/."]
)
def test_no_key_leaves_the_folder(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="a store's key must match"):
        store.save_bytes("export", key, b"")
    with pytest.raises(ValueError, match="a store's key must match"):
        store.load("weights", key)
    assert not store.root.exists()


@pytest.mark.parametrize("kind", ["", "..", "a/b", "A", ".x", "x\n"])
def test_no_kind_leaves_the_folder(store: Store, kind: str) -> None:
    with pytest.raises(ValueError, match="a store's kind must match"):
        store.load_json(kind, KEY)


def filled(root: Path, form: str) -> tuple[Store, Path]:
    store = Store(root)
    if form == "tensors":
        store.save("things", KEY, TENSORS, {"meta": 1})
    elif form == "json":
        store.save_json("things", KEY, {"p50": 0.25, "description": "something longer"})
    else:
        store.save_bytes("things", KEY, bytes(range(256)))
    return store, files(store)[0]


def load(store: Store, form: str) -> Any:
    return {"tensors": store.load, "json": store.load_json, "bytes": store.load_bytes}[form]("things", KEY)


@pytest.mark.parametrize("form", ["tensors", "json", "bytes"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_entry_is_removed_and_said(
    tmp_path: Path, form: str, keep: float, caplog: pytest.LogCaptureFixture
) -> None:
    store, path = filled(tmp_path, form)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with caplog.at_level(logging.WARNING):
        assert load(store, form) is None
    assert not path.exists()
    assert "damaged" in caplog.text
    assert store.misses["things"] == 1


@given(st.sampled_from(["tensors", "json", "bytes"]), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_flipped_bit_never_gives_other_content(tmp_path: Path, form: str, where: float, bit: int) -> None:
    store, path = filled(tmp_path / fingerprint([form, where, bit]), form)
    expected = load(store, form)
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * where)] ^= 1 << bit
    path.write_bytes(bytes(raw))
    found = load(store, form)
    if form == "tensors" and found is not None:
        # Bits that carry nothing: the padding of the header.
        assert found.meta == expected.meta
        assert all(torch.equal(found.tensors[k], v) for k, v in expected.tensors.items())
    elif found is not None:
        assert found == expected


@pytest.mark.parametrize("content", ["null", "[]", '{"value":1}', '{"sha256":1,"value":1}', "nonsense"])
def test_foreign_json_is_missing(store: Store, content: str) -> None:
    store.save_json("latency", KEY, 1)
    files(store)[0].write_text(content)
    assert store.load_json("latency", KEY) is None


def test_a_safetensors_file_of_someone_else_is_missing(store: Store) -> None:
    store.save("weights", KEY, TENSORS, {})
    path = files(store)[0]
    for metadata in (None, {"nas_kd": "[]"}, {"nas_kd": json.dumps({"meta": {}, "check": 0})}):
        save_file({"w": torch.ones(3)}, path, metadata)
        assert store.load("weights", KEY) is None


def test_a_full_disk_leaves_the_old_entry(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: both make the system refuse to write on."""
    script = f"""
        import resource, torch
        from pathlib import Path
        from nas_kd.store.store import Store
        store = Store(Path({str(tmp_path)!r}))
        store.save("weights", {KEY!r}, {{"w": torch.ones(10)}}, {{}})
        store.save_bytes("export", {KEY!r}, b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        for save in (
            lambda: store.save("weights", {KEY!r}, {{"w": torch.zeros(100_000)}}, {{}}),
            lambda: store.save_bytes("export", {KEY!r}, bytes(100_000)),
        ):
            try:
                save()
            except OSError as error:
                print("refused:", error)
        entry = store.load("weights", {KEY!r})
        print(entry.tensors["w"].sum().item(), store.load_bytes("export", {KEY!r}))
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["refused", "refused"]
    assert lines[2] == "10.0 b'old'"
    assert len(files(Store(tmp_path))) == 2
