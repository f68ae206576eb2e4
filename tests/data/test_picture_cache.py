"""Decoded pictures that are kept: the same bits as in memory, decoded once, and never stale, torn or too many."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_kd.config.options import DataOptions
from nas_kd.data import file_content, picture_cache
from nas_kd.data.augment import Augmenter, TrainingViews
from nas_kd.data.dataset import Dataset
from nas_kd.data.loading_events import listening
from nas_kd.data.mapped_array import MappedArray, MappedSamples, remembered
from nas_kd.data.pixel_range import PixelRange
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError

from .conftest import WriteParquet, fill, noise, png


class Heard:
    """What a loading reports."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.progress: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_progress(self, what: str, done: int, total: int) -> None:
        self.progress.append(what)

    @property
    def decoded(self) -> bool:
        return any(what.startswith("decoding") for what in self.progress)


def load(path: Path, cache: Path | bool | None, source: str = "image_folder", **options: Any) -> tuple[Dataset, Heard]:
    heard = Heard()
    with listening(heard):
        given = {"path": path} if source == "image_folder" else {"train": path}
        return load_dataset(DataOptions(source=source, cache=cache, **given, **options), 0), heard


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("pictures-*/*/entry.json"))


def require_alike(kept: Dataset, plain: Dataset) -> None:
    """Everything that a run reads of its data, to the last bit."""
    for split in ("train", "val", "test"):
        a, b = getattr(kept, split), getattr(plain, split)
        assert isinstance(a.x, MappedSamples)
        assert isinstance(b.x, torch.Tensor)
        assert a.x.shape == b.x.shape
        assert a.x.dtype == b.x.dtype
        assert torch.equal(a.x[:], b.x)
        assert torch.equal(a.y, b.y)
        rows = torch.tensor([len(a) - 1, 0, 1])
        assert torch.equal(a.x[rows], b.x[rows])
        assert torch.equal(a.x.index_select(0, rows), b.x[rows])
    assert torch.equal(kept.mean, plain.mean)
    assert torch.equal(kept.std, plain.std)
    assert (kept.key, kept.training_key, kept.classes) == (plain.key, plain.training_key, plain.classes)
    assert (kept.about, kept.picture_steps, kept.pixels) == (plain.about, plain.picture_steps, plain.pixels)
    ours, theirs = (TrainingViews(data, 5).student("strong") for data in (kept, plain))
    assert ours.key == theirs.key
    assert torch.equal(ours.batch(2, torch.tensor([3, 1])), theirs.batch(2, torch.tensor([3, 1])))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Colour pictures of several sizes, grey ones in front, a copy, a broken one, and a turned JPEG."""
    folder = fill(tmp_path / "photos", n=12, side=(9, 7))
    (folder / "ant/00.png").write_bytes(png(noise(1, 9, 7)))
    (folder / "bee/00.png").write_bytes(png(noise(2, 20, 30)))
    (folder / "ant/03.png").write_bytes((folder / "ant/04.png").read_bytes())
    (folder / "bee/05.png").write_bytes(b"no picture")
    (folder / "bee/06.png").write_bytes(png(noise(3, 40, 30, 3), "JPEG"))
    return folder


def test_the_same_bits_as_in_memory_with_skipped_grey_and_duplicate_pictures(photos: Path, tmp_path: Path) -> None:
    plain, _ = load(photos, False, on_error="skip", image_size=8)
    first, heard = load(photos, tmp_path / "cache", on_error="skip", image_size=8)
    again, quiet = load(photos, tmp_path / "cache", on_error="skip", image_size=8)
    require_alike(first, plain)
    require_alike(again, plain)
    assert plain.about.skipped == {"not a picture": 1}
    assert any("2 grey images of 23" in note for note in again.notes)
    assert heard.decoded
    assert not quiet.decoded
    assert any("decoded once, kept in" in note for note in heard.notes)
    assert not quiet.notes


def test_splits_of_different_channels_and_all_grey_ones(tmp_path: Path) -> None:
    colour = fill(tmp_path / "both/train", n=9)
    shutil.copytree(colour, tmp_path / "both/test")
    for file in (tmp_path / "both/test").rglob("*.png"):
        file.write_bytes(png(noise(len(file.name), 8, 8)))
    require_alike(load(tmp_path / "both", tmp_path / "cache")[0], load(tmp_path / "both", False)[0])
    for file in (tmp_path / "both/train").rglob("*.png"):
        file.write_bytes(png(noise(int(file.stem), 8, 8)))
    kept, plain = load(tmp_path / "both", tmp_path / "cache")[0], load(tmp_path / "both", False)[0]
    require_alike(kept, plain)
    assert kept.input_shape == (1, 8, 8)


def test_parquet_with_missing_labels(write_parquet: WriteParquet, tmp_path: Path) -> None:
    images = [png(noise(i, 8, 8, 3)) for i in range(24)]
    images[5] = b"broken"
    path = write_parquet(images, [0, 1] * 11 + [-1, 1], row_group_size=7)
    options = {"source": "parquet", "on_error": "skip"}
    plain = load(path, False, **options)[0]
    require_alike(load(path, tmp_path / "cache", **options)[0], plain)
    kept, heard = load(path, tmp_path / "cache", **options)
    require_alike(kept, plain)
    assert not heard.decoded
    assert kept.about.skipped == {"not a picture": 1, "without a label": 1}
    fewer, heard = load(path, tmp_path / "cache", train_rows=20, **options)
    require_alike(fewer, load(path, False, train_rows=20, **options)[0])
    assert heard.decoded


def test_unlabelled_pictures(photos: Path, tmp_path: Path) -> None:
    more = fill(tmp_path / "more", n=5, first=900)
    (more / "copy.png").write_bytes((photos / "ant/07.png").read_bytes())
    options = {"on_error": "skip", "image_size": [9, 7], "unlabelled": more}
    plain = load(photos, False, **options)[0]
    for _ in range(2):
        kept = load(photos, tmp_path / "cache", **options)[0]
        assert kept.unlabelled is not None
        assert plain.unlabelled is not None
        assert isinstance(kept.unlabelled.x, MappedSamples)
        assert torch.equal(kept.unlabelled.x[:], plain.unlabelled.x[:])
        assert torch.equal(kept.unlabelled.rows, plain.unlabelled.rows)
        assert (kept.unlabelled.key, kept.unlabelled.share) == (plain.unlabelled.key, plain.unlabelled.share)
        require_alike(kept, plain)


def test_moved_and_copied_folders_are_known_by_their_content(photos: Path, tmp_path: Path) -> None:
    plain = load(photos, tmp_path / "cache", on_error="skip")[0]
    moved = photos.rename(tmp_path / "elsewhere")
    shutil.copytree(moved, tmp_path / "copied")
    (tmp_path / "copied/bee").rename(tmp_path / "copied/wasp")  # another label for the same pictures
    for path, classes in ((moved, ("ant", "bee")), (tmp_path / "copied", ("ant", "wasp"))):
        found, heard = load(path, tmp_path / "cache", on_error="skip")
        assert not heard.decoded
        assert torch.equal(found.train.x[:], plain.train.x[:])
        assert found.classes == classes
    assert "wasp/05.png" in " ".join(found.notes)


def test_a_changed_picture_of_the_same_size_and_time_is_noticed(photos: Path, tmp_path: Path) -> None:
    file, cache = photos / "ant/02.png", tmp_path / "cache"
    before, _ = load(photos, cache, on_error="skip")
    stat, content = file.stat(), bytearray(file.read_bytes())
    other = (photos / "ant/08.png").read_bytes()
    file.write_bytes(other[: len(content)].ljust(len(content), b"\0"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    after, heard = load(photos, cache, on_error="skip")
    assert heard.decoded
    assert after.key != before.key
    require_alike(after, load(photos, False, on_error="skip")[0])
    file.write_bytes(content)
    back, heard = load(photos, cache, on_error="skip")
    assert back.key == before.key
    assert not heard.decoded


def test_files_are_read_once_and_again_only_after_a_change(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found_by_reading() -> bool:
        heard = load(photos, tmp_path / "cache", on_error="skip")[1]
        return any(what.startswith("looking") for what in heard.progress)

    assert found_by_reading()
    assert found_by_reading()  # files were just written, and could be again in the same instant
    monkeypatch.setattr(file_content, "SETTLED_NS", -(10**9))
    assert found_by_reading()
    assert not found_by_reading()
    (photos / "ant/02.png").touch()
    assert found_by_reading()


def test_pictures_that_were_skipped_are_refused_when_they_are_not_to_be(photos: Path, tmp_path: Path) -> None:
    load(photos, tmp_path / "cache", on_error="skip")
    errors = []
    for cache in (tmp_path / "cache", False):
        with pytest.raises(InputError) as error:
            load(photos, cache)
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert "bee/05.png" in errors[0]
    assert 'data.on_error = "skip"' in errors[0]


def test_a_failed_decoding_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"05\.png"):
        load(photos, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache/pictures-1").iterdir()] == ["locks"]


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from nas_kd.config.options import DataOptions
from nas_kd.data.loading_events import listening
from nas_kd.data.prepare import load_dataset

class Listener:
    decoded = False
    def on_note(self, text): print(text)
    def on_progress(self, what, done, total):
        self.decoded = self.decoded or what.startswith("decoding")
        if done < total and what.startswith("decoding"):
            if sys.argv[3] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1)
listener = Listener()
with listening(listener):
    data = load_dataset(DataOptions(source="image_folder", path=Path(sys.argv[1]), cache=Path(sys.argv[2])), 0)
print(listener.decoded, data.key)
"""


def started(photos: Path, cache: Path, mode: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, str(photos), str(cache), mode]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_killed_decoding_and_two_processes_at_once(tmp_path: Path) -> None:
    photos, cache = fill(tmp_path / "photos", n=101, side=6), tmp_path / "cache"
    with started(photos, cache, "killed") as killed:
        assert killed.wait() == -signal.SIGKILL
    assert [path.suffix for path in (cache / "pictures-1").glob("*/pictures.bin")] == [".bin"]
    assert not entries(cache)
    with started(photos, cache, "both") as one, started(photos, cache, "both") as other:
        said = [process.communicate()[0].splitlines()[-1].split() for process in (one, other)]
    assert sorted(decoded for decoded, _ in said) == ["False", "True"]
    assert {key for _, key in said} == {load(photos, False)[0].key}
    assert len(entries(cache)) == 1
    assert not list(cache.glob("pictures-1/*.partial"))


def test_a_damaged_entry_is_made_again(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    plain, _ = load(photos, cache, on_error="skip")
    pixels = entries(cache)[0].with_name("pictures.bin")
    for damage in (lambda: os.truncate(pixels, 100), lambda: entries(cache)[0].write_text("{")):
        damage()
        again, heard = load(photos, cache, on_error="skip")
        assert heard.decoded
        assert again.key == plain.key


def test_the_entries_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache, folders = tmp_path / "cache", [fill(tmp_path / str(i), n=10, first=1000 * i) for i in range(3)]
    size = 20 * 3 * 8 * 8
    limit = 2.5 * size / 1e9
    for age, folder in zip((300, 200), folders, strict=False):
        load(folder, cache, cache_gb=limit)
        newest = max(entries(cache), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (newest.stat().st_mtime - age,) * 2)
    assert not load(folders[0], cache, cache_gb=limit)[1].decoded  # and is now the one used last
    left = cache / "pictures-1/00.partial"
    left.mkdir()
    _, heard = load(folders[2], cache, cache_gb=limit)
    assert "1 data sets not used for longest were removed" in heard.notes[-1]
    assert "and 1 that" in heard.notes[-1]
    assert not left.exists()
    assert len(entries(cache)) == 2
    assert [load(folder, cache, cache_gb=limit)[1].decoded for folder in (folders[0], folders[1])] == [False, True]
    with pytest.raises(InputError, match=r"data\.cache_gb = .* allows less: raise it"):
        load(folders[0], cache, cache_gb=size / 2e9, image_size=9)


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Writing beyond fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    photos, cache = fill(tmp_path / "photos", n=10, side=32), tmp_path / "cache"
    with largest_file(10_000), pytest.raises(InputError, match="cannot be written: File too large") as error:
        load(photos, cache)
    assert "\n" not in str(error.value)
    assert not list((cache / "pictures-1").glob("*/*.bin"))
    with pytest.raises(InputError, match=r"GB are needed on its disk, .* are free"):
        picture_cache.PictureCache(cache, 10**18, is_default=False)._check_room(10**17, "train")


def test_the_default_is_the_users_cache_folder_for_what_is_large(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    plain, _ = load(photos, None, on_error="skip")
    assert isinstance(plain.train.x, torch.Tensor)
    assert not (tmp_path / "xdg").exists()
    monkeypatch.setattr(picture_cache, "IN_MEMORY_BYTES", 1000)
    require_alike(load(photos, None, on_error="skip")[0], plain)
    assert entries(tmp_path / "xdg/nas-kd")
    assert (tmp_path / "xdg/nas-kd/pictures-1").stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found, heard = load(photos, None, on_error="skip")
    assert isinstance(found.train.x, torch.Tensor)
    assert found.key == plain.key
    assert "cannot be written" in heard.notes[0]
    assert heard.notes[0].endswith("decoded into memory")


def test_a_mapped_array_is_read_in_rows(tmp_path: Path) -> None:
    class NoFacts:
        def remember(self, key: str, find: Any) -> Any:
            kept.setdefault(key, find)
            return kept[key]()

    kept: dict[str, Any] = {}
    stored = noise(0, 7, 1, 2, 3)
    grey = MappedArray(stored, "content", NoFacts())
    wide = grey.with_channels(3).select(np.array([6, 0, 2]))
    assert wide.shape == (3, 3, 2, 3)
    assert wide.size == 54
    assert np.array_equal(np.asarray(wide), np.repeat(stored[[6, 0, 2]], 3, axis=1))
    assert np.array_equal(wide.select(slice(1, None))[np.array([True, False])], wide[1:2])
    assert [sample.tolist() for sample in grey] == stored.tolist()
    assert len({grey.identity, wide.identity, grey.with_channels(3).identity, grey.select(slice(3)).identity}) == 4
    samples = MappedSamples(wide)
    assert PixelRange.of(samples) == PixelRange.of(samples[:])
    samples[:].zero_()  # what is read is a copy
    assert np.array_equal(grey[:], stored)
    assert remembered("n", [np.zeros(2)], lambda: 3) == 3
    assert len(kept) == 1
    view = Augmenter(samples, torch.zeros(3), DataOptions().augment, 0)
    assert view.key == Augmenter(samples[:], torch.zeros(3), DataOptions().augment, 0).key
