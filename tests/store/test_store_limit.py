"""A store keeps below its limit by giving up what was not used for longest, and never a result."""

import os
import time
from pathlib import Path

import torch

from nas_kd.serialization import fingerprint
from nas_kd.store.size_limit import LEFTOVER_S, remove_leftovers
from nas_kd.store.store import Store

ENTRY = {"t": torch.zeros(25_000)}  # 100 kB
KEYS = [fingerprint(i) for i in range(6)]


def age(store: Store, kind: str, key: str, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(next((store.root / kind).rglob(f"{key}.*")), (when, when))


def kept(store: Store, kind: str) -> list[int]:
    return [i for i, key in enumerate(KEYS) if any((store.root / kind).rglob(f"{key}.safetensors"))]


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path, max_bytes=450_000)
    for i in range(4):
        store.save("logits", KEYS[i], ENTRY, {})
        age(store, "logits", KEYS[i], 1000 - i)
    assert store.load("logits", KEYS[0]) is not None
    store.save("logits", KEYS[4], ENTRY, {})
    assert kept(store, "logits") == [0, 2, 3, 4]


def test_logits_go_before_checkpoints_before_weights_and_what_was_just_written_stays(tmp_path: Path) -> None:
    store = Store(tmp_path, max_bytes=250_000)
    store.save_bytes("file", KEYS[0], bytes(100_000))
    store.save("weights", KEYS[1], ENTRY, {})
    store.save("checkpoint", KEYS[2], ENTRY, {})
    store.save("logits", KEYS[3], ENTRY, {})
    assert kept(store, "logits") == [3]
    assert kept(store, "checkpoint") == []
    assert kept(store, "weights") == []
    assert store.load_bytes("file", KEYS[0]) == bytes(100_000)


def test_without_a_limit_nothing_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in KEYS:
        store.save("logits", key, ENTRY, {})
    assert kept(store, "logits") == list(range(6))


def test_leftovers_of_killed_writes_are_swept_once_they_are_old(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("logits", KEYS[0], ENTRY, {})
    folder = next((tmp_path / "logits").iterdir())
    for name, seconds in ((".old.tmp", LEFTOVER_S + 60), (".new.tmp", 1.0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - seconds,) * 2)
    assert remove_leftovers(tmp_path) == 1
    assert kept(store, "logits") == [0]
    assert not (folder / ".old.tmp").exists()
    assert (folder / ".new.tmp").exists()
