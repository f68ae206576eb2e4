"""Run an exported network on images or arrays; needs numpy, onnxruntime and, for images, pillow.

    python predict.py photo.jpg more_photos/     pictures, and folders of them; --top 3 prints three classes of each
    python predict.py samples.npy archive.npz    arrays (N, ...) in the units of the training data
    python predict.py a.jpg b.jpg --compare      of a network that gives vectors: how alike the first is to the others

In a program:
    from predict import Predictor
    for found in Predictor("card.json").predict("photo.jpg"):
        print(found.label, found.probability)

The card says what the network takes and what its outputs mean. A picture goes through the steps that the training
pictures went through. Of a network that tells classes, logits are divided by the card's temperature, and their softmax
is the probability of each class; of one that tells labels, a logit's sigmoid is the probability of its label. Vectors
are compared by their cosine, with the card's threshold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

BATCH = 256  # samples a call
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ARRAYS = {".npy", ".npz"}
GREY = {"1", "L", "LA", "La"}
COLOUR = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
NO_CARD = "give a card (card.json), a folder with one, or an .onnx file of nas-kd"


class PredictError(ValueError):
    """A file or an array that cannot be used; the message says why."""


@dataclass(frozen=True)
class Prediction:
    """What the network says of one sample.

    Of classes: the likeliest one, and a probability and a logit for each. Of labels: `labels` has those whose
    probability is 1/2 at least, and `label` is the likeliest. Of numbers: `values` has them by name. Of vectors:
    `logits` is the vector, and nothing else says anything.
    """

    label: str
    index: int
    probability: float
    probabilities: np.ndarray
    logits: np.ndarray
    labels: tuple[str, ...] = ()
    values: dict[str, float] | None = None


class Predictor:
    """A network with its `card`, its class names `labels`, and the `shape` of one sample, such as (3, 32, 32)."""

    def __init__(self, card: str | os.PathLike[str] | None = None, threads: int = 1) -> None:
        """Load a network by its card, its folder or its ONNX file; None: what lies beside this program."""
        file, self.card = _find_card(Path(__file__).parent if card is None else Path(card))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            content = file.read_bytes()
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise PredictError(f"{file}: cannot be loaded ({_first_line(error)})") from error
        if self.card is None:
            properties = self._session.get_modelmeta().custom_metadata_map
            self.card = {name: _from_json(text) for name, text in properties.items()}
        elif self.card.get("sha256") not in {None, hashlib.sha256(content).hexdigest()}:
            warnings.warn(f"{file} is not the file that the card was written for (its sha256 differs)", stacklevel=2)
        try:
            self.labels: list[str] = self.card["nas_kd.classes"]
            self._input, self._output = self.card["nas_kd.input"], self.card["nas_kd.output"]
        except KeyError as error:
            raise PredictError(f"{card or file}: has no {error}, it is not a card of nas-kd; {NO_CARD}") from error
        self.shape = tuple(int(side) for side in self._input["shape"][1:])
        self.kind: str = self._output.get("kind", "logits")

    def predict(self, x: Any, array: str | None = None) -> list[Prediction]:
        """Run the network on pictures or arrays; returns one prediction a sample, in order.

        Args:
            x: a path (picture, .npy, .npz, or a folder of these), a PIL image, an array (one sample or a batch), or a
                list of any of them.
            array: which array of an .npz file; None: the only one, else `x` or `x_test`.

        Raises:
            PredictError: something cannot be read, or has another shape than the network takes.
        """
        if isinstance(x, (list, tuple)):
            return [found for one in x for found in self.predict(one, array)]
        if isinstance(x, (str, os.PathLike)) and Path(x).is_dir():
            return self.predict(find_files(Path(x)), array)
        logits = self.logits(self.read(x, array))
        if self.kind == "embedding":
            return [Prediction("", -1, np.nan, logits[:0, 0], vector) for vector in logits]
        probabilities, best = self.probabilities(logits), logits.argmax(axis=1)
        rows = zip(best, probabilities, logits, strict=True)
        return [Prediction(self.labels[b], int(b), float(p[b]), p, z, **self._told(z)) for b, p, z in rows]

    def compare(self, first: Prediction, second: Prediction) -> tuple[float, bool | None]:
        """The cosine of two vectors, and whether they are of one identity; None if the card has no threshold."""
        product = float(first.logits @ second.logits)
        cosine = product / max(float(np.linalg.norm(first.logits) * np.linalg.norm(second.logits)), 1e-12)
        threshold = self._output.get("threshold")
        return cosine, None if threshold is None else cosine >= threshold

    def _told(self, logits: np.ndarray) -> dict[str, Any]:
        """Labels or numbers of one sample, where the network tells these."""
        if self.kind == "labels":
            return {"labels": tuple(name for name, z in zip(self.labels, logits, strict=True) if z >= 0)}
        if self.kind == "values":
            return {"values": {name: float(z) for name, z in zip(self.labels, logits, strict=True)}}
        return {}

    def logits(self, samples: np.ndarray) -> np.ndarray:
        """Run the network on samples (N, *shape) float32; returns logits (N, classes), or numbers."""
        feeds = ({self._input["name"]: samples[i : i + BATCH]} for i in range(0, len(samples), BATCH))
        return np.concatenate([np.asarray(self._session.run([self._output["name"]], feed)[0]) for feed in feeds])

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, classes) of logits; NaN where the network tells numbers."""
        if self.kind == "values":
            return np.full(logits.shape, np.nan)
        if self.kind == "labels":
            return 1 / (1 + np.exp(-logits.astype(np.float64)))
        scaled = logits.astype(np.float64) / self._output["temperature"]
        powers: np.ndarray = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def read(self, source: Any, array: str | None = None) -> np.ndarray:
        """Make samples (N, *shape) float32 of a picture, a file or an array; see `predict`."""
        if isinstance(source, (str, os.PathLike)) and not Path(source).exists():
            raise PredictError(f"{source}: no such file")
        if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() in ARRAYS:
            return self._samples(_load_array(Path(source), array), str(source))
        if isinstance(source, (str, os.PathLike)) or hasattr(source, "getbands"):
            return self.read_picture(source)[None].astype(np.float32)
        return self._samples(np.asarray(source), "the array")

    def read_picture(self, source: Any) -> np.ndarray:
        """Decode a picture (a path, or a PIL image) as in training: pixels (C, H, W), equal channels if it is grey."""
        where = source if isinstance(source, (str, os.PathLike)) else "the picture"
        if (steps := self._input.get("picture")) is None:
            raise PredictError(f"{where}: this network takes arrays {self.shape} in its data's units; give a .npy file")
        try:
            from PIL import Image

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of broken metadata, which do not matter
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                if isinstance(source, Image.Image):
                    pixels = _pixels(source, steps, self.shape)
                else:
                    with Image.open(source, formats=FORMATS) as image:
                        image.draft(None, (2 * max(self.shape[1:]),) * 2)  # large JPEGs at a smaller scale
                        pixels = _pixels(image, steps, self.shape)
        except Exception as error:  # Pillow's readers raise many kinds of errors on broken files
            raise PredictError(f"{where}: not a readable image ({_first_line(error)})") from error
        return np.broadcast_to(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), self.shape)

    def _samples(self, array: np.ndarray, where: str) -> np.ndarray:
        if array.dtype.kind not in "uifb" or not array.size:
            raise PredictError(f"{where}: has type {array.dtype} and shape {array.shape}; want numbers")
        samples = _with_axes_of(array, self.shape)
        if samples is None:
            raise PredictError(f"{where}: has shape {array.shape}; this network takes samples of shape {self.shape}")
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        if not np.isfinite(samples).all():
            raise PredictError(f"{where}: has NaN or infinite values")
        if self._input["units"] == "pixels" and array.dtype.kind == "f" and 0 < samples.max(initial=0) <= 1:
            warnings.warn(f"{where}: no value is above 1, but this network takes pixels 0..255", stacklevel=2)
        return samples


def _pixels(image: Any, steps: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels (H, W) or (H, W, 3) of a picture, after the steps of the card, for samples (C, H, W)."""
    from PIL import Image, ImageOps

    if image.mode not in GREY | COLOUR:
        raise PredictError(f"mode {image.mode!r} is not supported; convert it to 8-bit grey or RGB")
    (channels, height, width), grey = shape, image.mode in GREY
    upright = ImageOps.exif_transpose(image) if "exif" in image.info else image
    if upright.mode in ("P", "PA") and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    flat = upright.convert("L" if grey or channels == 1 else "RGB")
    if flat.size != (width, height):
        pad = partial(ImageOps.pad, color=steps["fill"])
        ways: dict[str, Any] = {"crop": ImageOps.fit, "letterbox": pad, "stretch": Image.Image.resize}
        flat = ways[steps["resize"]](flat, (width, height), Image.Resampling[steps["interpolation"].upper()])
    return np.asarray(flat)


def _with_axes_of(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """A batch (N, *shape) of an array that may be one sample, have channels last, or no axis for the only channel."""
    if array.shape[1:] == shape:
        return array
    if array.shape == shape:
        return array[None]
    if len(shape) == 3:
        channels, height, width = shape
        if array.shape[-3:] == (height, width, channels) and array.ndim in (3, 4):
            return np.moveaxis(array.reshape(-1, height, width, channels), 3, 1)
        if channels == 1 and array.shape[-2:] == (height, width) and array.ndim in (2, 3):
            return array.reshape(-1, 1, height, width)
    return None


def _load_array(path: Path, name: str | None) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = loaded.files
            likely = names if len(names) == 1 else [n for n in ("x", "x_test") if n in names]
            if (wanted := name or "".join(likely[:1])) in names:
                return np.asarray(loaded[wanted])
    except Exception as error:  # zipfile, zlib and numpy raise many kinds of errors on broken files
        raise PredictError(f"{path}: not a readable array ({_first_line(error)})") from error
    raise PredictError(f"{path}: say which array with --array: {', '.join(names)}")


def find_files(path: Path) -> list[Path]:
    """The file itself, or the pictures and arrays in a folder and its sub-folders, sorted; hidden ones are left out."""
    if not path.is_dir():
        return [path]
    inside = (p for p in path.rglob("*") if p.suffix.lower() in PICTURES | ARRAYS and p.is_file())
    if not (found := sorted(p for p in inside if not any(n.startswith(".") for n in p.relative_to(path).parts))):
        raise PredictError(f"{path}: no pictures ({' '.join(sorted(PICTURES))}) and no .npy or .npz files in it")
    return found


def unused(path: Path, written: set[Path]) -> Path:
    """This path, with a number behind its name where it is among `written`; it is among them then."""
    found, number = path, 1
    while found in written:
        number += 1
        found = path.with_stem(f"{path.stem}_{number}")
    written.add(found)
    return found


def _find_card(path: Path) -> tuple[Path, dict[str, Any] | None]:
    """The ONNX file, and its card; None: it is in the file's metadata."""
    if path.suffix.lower() == ".onnx":
        return path, None
    cards = sorted(path.glob("*.json")) if path.is_dir() and not (path / "card.json").is_file() else [path]
    found = {p: card for p in cards if (card := _read_card(p / "card.json" if p.is_dir() else p))}
    if len(found) != 1:
        names = f"has several cards ({', '.join(p.name for p in found)})" if found else "no card of nas-kd"
        raise PredictError(f"{path}: {names}; {NO_CARD}")
    ((at, card),) = found.items()
    return (at if at.is_dir() else at.parent) / card["file"], card


def _read_card(path: Path) -> dict[str, Any] | None:
    card = _from_json(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    return card if isinstance(card, dict) and {"nas_kd.classes", "file"} <= set(card) else None


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _first_line(error: Exception) -> str:
    kind = "" if isinstance(error, PredictError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:300]


class Inputs:
    """The inputs of a command line with what a network says of them; `code` is 2 once one of them could not be read."""

    def __init__(self, paths: list[Path], predict: Callable[[Path], list[Any]]) -> None:
        """Find the files; what `predict` raises about one of them is printed, and the others go on."""
        self.files = [file for path in paths for file in find_files(path)]
        self.code, self._predict = 0, predict

    def __iter__(self) -> Iterator[tuple[Path, list[tuple[str, Any]]]]:
        for file in self.files:
            try:
                found = self._predict(file)
            except PredictError as error:
                self.code = complain(error)
                continue
            numbered = file.suffix.lower() in ARRAYS
            yield file, [(f"{file}[{n}]" if numbered else str(file), one) for n, one in enumerate(found)]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The arguments that programs for all kinds of networks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", type=Path, help="pictures, .npy and .npz files, and folders of them")
    parser.add_argument("--card", help="card, its folder, or .onnx file [default: what lies beside this program]")
    parser.add_argument("--array", help="which array of .npz files")
    parser.add_argument("--json", action="store_true", help="print JSON: a list with an object for each sample")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    return parser


def run(main: Callable[[], int]) -> None:
    """Run a program and end with its exit code; what cannot be read or written is one line and 2."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os._exit(0)
    except PredictError as error:
        code = complain(error)
    except OSError as error:
        code = complain(PredictError(f"{error.filename}: {error.strerror}"))
    sys.exit(code)


def complain(error: PredictError) -> int:
    """Print what is wrong; returns the exit code that goes with it."""
    print(f"error: {error}", file=sys.stderr)
    return 2


def main() -> int:
    """Print what the network says of every picture and of every row of an array; returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--top", type=int, default=1, metavar="K", help="print the K likeliest classes")
    parser.add_argument("--logits", action="store_true", help="print the logits of all classes, too")
    parser.add_argument("--compare", action="store_true", help="of vectors: compare the first sample with all others")
    asked = parser.parse_intermixed_args()
    predictor, rows, given = (
        Predictor(asked.card, asked.threads),
        list[dict[str, Any]](),
        list[tuple[str, Prediction]](),
    )
    inputs = Inputs(asked.inputs, lambda file: predictor.predict(file, asked.array))
    if asked.compare and predictor.kind != "embedding":
        raise PredictError("--compare is for networks that give vectors, and this one does not")
    for _, found in inputs:
        for where, one in found:
            given.append((where, one)) if asked.compare else rows.append(_row(where, one, predictor, asked))
        if not (asked.json or asked.compare):
            print("\n".join(map(_text, rows)))
            rows = []
    rows += [_compared(predictor, given[0], other) for other in given[1:]]
    if asked.json:
        print(json.dumps(rows, indent=1))
    elif asked.compare:
        print("\n".join(map(_text, rows)))
    return inputs.code


def _row(where: str, found: Prediction, predictor: Predictor, asked: argparse.Namespace) -> dict[str, Any]:
    labels, kind = predictor.labels, predictor.kind
    raw = {"logits": found.logits.tolist()} if asked.logits else {}
    if kind == "embedding":
        return {"input": where, "embedding": found.logits.tolist()}
    if found.values is not None:
        return {"input": where, "values": found.values} | raw
    order = np.argsort(-found.logits, kind="stable")[: max(1, asked.top)]
    top = [{"label": labels[i], "index": int(i), "probability": float(found.probabilities[i])} for i in order]
    told = {"labels": list(found.labels)} if kind == "labels" else {}
    return {"input": where, **top[0], "top": top} | told | raw


def _compared(predictor: Predictor, first: tuple[str, Prediction], other: tuple[str, Prediction]) -> dict[str, Any]:
    cosine, same = predictor.compare(first[1], other[1])
    return {"input": f"{first[0]}, {other[0]}", "cosine": cosine, "same": same}


def _text(row: dict[str, Any]) -> str:
    logits = "; logits " + " ".join(f"{z:.6g}" for z in row["logits"]) if "logits" in row else ""
    if "cosine" in row:
        same = {True: ": the same", False: ": not the same", None: ""}[row["same"]]
        shown = [f"cosine {row['cosine']:.4f}{same}"]
    elif "embedding" in row:
        shown = [" ".join(f"{v:.4f}" for v in row["embedding"])]
    elif "values" in row:
        shown = [f"{name} {value:.6g}" for name, value in row["values"].items()]
    elif "labels" in row:
        shown = [", ".join(row["labels"]) or "no label", *(f"{c['label']} {c['probability']:.1%}" for c in row["top"])]
    else:
        shown = [f"{c['label']} ({c['probability']:.1%})" for c in row["top"]]
    return f"{row['input']}: " + ("; " if "labels" in row else ", ").join(shown) + logits


if __name__ == "__main__":
    run(main)
