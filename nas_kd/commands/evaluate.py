"""Scores an ONNX file, of nas-kd or of any other origin, on a split of a config's data."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.config.loading import load_config
from nas_kd.config.options import SearchConfig
from nas_kd.data.dataset import Dataset, Split, as_input
from nas_kd.data.prepare import load_dataset
from nas_kd.data.split_names import SPLITS
from nas_kd.errors import InputError, unknown
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_export import get_metadata
from nas_kd.results.calibration import (
    ECE_DEFINITION,
    BeforeAfter,
    expected_calibration_error,
    negative_log_likelihood,
)
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.intervals import measured_accuracy
from nas_kd.serialization import sha256

Preprocessing = Literal["raw", "unit", "normalized"]
PREPROCESSINGS: tuple[Preprocessing, ...] = ("raw", "unit", "normalized")


@dataclass(frozen=True)
class ClassResult:
    """How one class of a split is recognised.

    Attributes:
        name: of the class.
        samples: of this class in the split.
        recall: share of them that is classified right, with its interval; None: there are none.
        mistaken_for: the class that most of the others are taken for; None: all are right.
        mistakes: how many are.
    """

    name: str
    samples: int
    recall: Accuracy | None
    mistaken_for: str | None
    mistakes: int


@dataclass(frozen=True)
class Evaluation:
    """The score of a file on a split, read through ONNX Runtime.

    Attributes:
        file: its path.
        sha256: of its content.
        dataset: name of the data.
        split: train, val or test.
        correct: number of samples that are classified right.
        accuracy: share of them, with its 95 % interval.
        balanced_accuracy: mean recall over the classes that occur.
        classes: results by class, in the order of the class numbers.
        temperature: that the file states for calibrated probabilities; 1 if it states none.
        ece: expected calibration error, at temperature 1 and at the file's.
        nll: mean negative log likelihood in nats, likewise.
        preprocessing: what was done to the samples.
        notes: on what was assumed.
    """

    file: str
    sha256: str
    dataset: str
    split: str
    correct: int
    accuracy: Accuracy
    balanced_accuracy: float
    classes: tuple[ClassResult, ...]
    temperature: float
    ece: BeforeAfter
    nll: BeforeAfter
    preprocessing: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON, with the definition of the calibration error."""
        classes = [
            asdict(c) | {"recall": None if c.recall is None else c.recall.model_dump(exclude={"seeds"})}
            for c in self.classes
        ]
        figures = {
            "accuracy": self.accuracy.model_dump(exclude={"seeds"}),
            "classes": classes,
            "ece": self.ece.model_dump(),
            "nll": self.nll.model_dump(),
        }
        return asdict(self) | figures | {"notes": list(self.notes), "ece_definition": ECE_DEFINITION}


def evaluate(
    file: Path | str,
    config: SearchConfig | Path | str,
    *,
    split: str = "test",
    preprocessing: Preprocessing | None = None,
) -> Evaluation:
    """Score an ONNX classifier, of nas-kd or of any other origin, on a split of a config's data.

    Classes of a file of nas-kd are matched by name, those of another by position.

    Args:
        file: the ONNX file.
        config: whose data; the splits are those that a search with it has.
        split: train, val or test.
        preprocessing: what the file expects: "raw" values as stored, "unit" pixels / 255, "normalized"
            (x - mean) / std. None: that of the config's teacher if the file is one, else raw.

    Raises:
        InputError: the file or the data cannot be read, or they do not fit.

    Example:
        >>> import nas_kd
        >>> result = nas_kd.evaluate("runs/demo/winner/student.onnx", "config.toml")
        >>> result.accuracy.low <= result.accuracy.mean <= result.accuracy.high
        True
        >>> result.correct <= result.accuracy.samples
        True
    """
    path, options = Path(file), config if isinstance(config, SearchConfig) else load_config(Path(config))
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    chosen = checked_preprocessing(preprocessing) or _of_teacher(path, options)
    classifier = OnnxClassifier(path)
    data = load_dataset(options.data, options.search.seed)
    _check_picture_size(classifier, data)
    samples: Split = getattr(data, split)
    stated = stated_facts(path, classifier.file.content)
    logits = classifier.predict(_prepared(samples.x, data, chosen))
    if logits.shape[1] != data.n_classes:
        raise InputError(f"{path} has {logits.shape[1]} classes, the data has {data.n_classes}: {_short(data.classes)}")
    order, notes = _order(stated.get("nas_kd.classes"), data.classes, path)
    return _evaluation(
        logits[:, order],
        samples.y.numpy(),
        data.classes,
        file=str(path),
        sha256=sha256(classifier.file.content),
        dataset=data.name,
        split=split,
        temperature=_temperature(stated),
        preprocessing=chosen,
        notes=notes,
    )


def _check_picture_size(classifier: OnnxClassifier, data: Dataset) -> None:
    """Say how to resize pictures to what the file takes; every other difference is the classifier's to refuse."""
    wanted, given = classifier.file.input_shape, data.input_shape
    if data.picture_steps is None or len(wanted) != 3 or None in wanted or wanted[1:] == given[1:]:
        return
    height, width = wanted[1:]
    size = height if height == width else [height, width]
    raise InputError(
        f"{classifier.file.source} takes pictures of {height}x{width} pixels (height x width), the data's are "
        f"{given[1]}x{given[2]}; set data.image_size = {size}"
    )


def checked_preprocessing(given: str | None) -> Preprocessing | None:
    """Find the preprocessing of this name; None stays None.

    Raises:
        InputError: there is none of this name.
    """
    found = next((known for known in PREPROCESSINGS if known == given), None)
    if given is not None and found is None:
        raise unknown("preprocessing", given, PREPROCESSINGS)
    return found


def _evaluation(
    logits: NDArray[np.float32], y: NDArray[np.int64], classes: Sequence[str], *, temperature: float, **facts: Any
) -> Evaluation:
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (y, predicted), 1)
    correct = int((predicted == y).sum())
    results = tuple(_class_result(number, confusion[number], classes) for number in range(len(classes)))
    return Evaluation(
        correct=correct,
        accuracy=measured_accuracy(correct / len(y), len(y)),
        balanced_accuracy=float(np.mean([c.recall.mean for c in results if c.recall is not None])),
        classes=results,
        temperature=temperature,
        ece=_before_after(expected_calibration_error, logits, y, temperature),
        nll=_before_after(negative_log_likelihood, logits, y, temperature),
        **facts,
    )


def _before_after(figure: Any, logits: NDArray[Any], y: NDArray[Any], temperature: float) -> BeforeAfter:
    return BeforeAfter(before=figure(logits, y), after=figure(logits, y, temperature))


def _class_result(number: int, row: NDArray[np.int64], classes: Sequence[str]) -> ClassResult:
    """`row`: how often this class was taken for each."""
    samples, wrong = int(row.sum()), row.copy()
    wrong[number] = 0
    most = int(wrong.argmax())
    return ClassResult(
        name=classes[number],
        samples=samples,
        recall=measured_accuracy(int(row[number]) / samples, samples) if samples else None,
        mistaken_for=classes[most] if wrong[most] else None,
        mistakes=int(wrong[most]),
    )


def stated_facts(path: Path, content: bytes) -> dict[str, Any]:
    """What a file of nas-kd says of itself: in its metadata or, where these were stripped, in the card beside it."""
    facts: dict[str, Any] = {name: _from_json(text) for name, text in get_metadata(content).items()}
    for card in (path.with_name("card.json"), path.with_suffix(".json")):
        if not facts and card.is_file():
            value = _from_json(card.read_text(encoding="utf-8", errors="replace"))
            facts = value if isinstance(value, dict) and value.get("file") == path.name else {}
    return facts


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _temperature(stated: dict[str, Any]) -> float:
    output = stated.get("nas_kd.output")
    value = output.get("temperature") if isinstance(output, dict) else None
    return float(value) if isinstance(value, int | float) and value > 0 else 1.0


def _order(stated: Any, classes: tuple[str, ...], path: Path) -> tuple[list[int], tuple[str, ...]]:
    """The logit of each class of the data, by name where the file states the same names."""
    as_they_are = list(range(len(classes)))
    if not isinstance(stated, list) or tuple(stated) == classes:
        return as_they_are, ()
    if sorted(map(str, stated)) == sorted(classes):
        return [stated.index(name) for name in classes], ("the file has the classes in another order: matched by name",)
    note = f"{path.name} names its classes {_short(stated)}, the data {_short(classes)}: matched by position"
    return as_they_are, (note,)


def _of_teacher(path: Path, config: SearchConfig) -> Preprocessing:
    """What the config says of this file, where it is a teacher's; else values as stored."""
    given = [t for t in config.teacher if t.onnx is not None and t.onnx.exists() and t.onnx.samefile(path)]
    return given[0].preprocessing if given else "raw"


def _prepared(x: Tensor, data: Dataset, preprocessing: Preprocessing) -> Tensor:
    if preprocessing == "raw":
        return x
    if preprocessing == "unit":
        return as_input(x) / data.scale
    shape = (-1, *[1] * (x.ndim - 2)) if data.mean.numel() > 1 else (1,)
    return (as_input(x) - data.mean.reshape(shape)) / data.std.reshape(shape)


def _short(names: Sequence[Any], limit: int = 5) -> str:
    return ", ".join(map(str, names[:limit])) + (", ..." if len(names) > limit else "")
