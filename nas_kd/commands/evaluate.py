"""Scores an ONNX file, of nas-kd or of any other origin, on a split of a config's data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas_kd.config.loading import load_config
from nas_kd.config.options import SearchConfig, TeacherOptions
from nas_kd.data.dataset import Dataset, Split, as_input
from nas_kd.data.prepare import load_dataset
from nas_kd.data.split_names import SPLITS
from nas_kd.errors import InputError, unknown
from nas_kd.export.onnx_classifier import BATCH
from nas_kd.export.onnx_export import get_metadata
from nas_kd.export.onnx_file import OnnxFile, read_onnx
from nas_kd.kd.onnx_teacher import load_onnx
from nas_kd.kd.teacher_inputs import SampleFacts
from nas_kd.results.calibration import (
    ECE_DEFINITION,
    BeforeAfter,
    expected_calibration_error,
    negative_log_likelihood,
)
from nas_kd.results.confusion import Confusion
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.intervals import measured_accuracy
from nas_kd.scores.base import Score, load_score
from nas_kd.serialization import sha256
from nas_kd.tasks.base import load_task

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
        title: name of the task's own score, which is accuracy of classes.
        accuracy: its value, with its 95 % interval.
        scores: further ones, such as balanced accuracy and the config's score, by name.
        correct: number of samples that are classified right; None where samples have no single class.
        classes: results by class, in the order of the class numbers; empty likewise.
        temperature: that the file states for calibrated probabilities; 1 if it states none.
        ece: expected calibration error, at temperature 1 and at the file's; None likewise.
        nll: mean negative log likelihood in nats, likewise.
        preprocessing: what was done to the samples.
        notes: on what was assumed.
    """

    file: str
    sha256: str
    dataset: str
    split: str
    title: str
    accuracy: Accuracy
    scores: Mapping[str, Accuracy]
    temperature: float
    preprocessing: str
    notes: tuple[str, ...]
    correct: int | None = None
    classes: tuple[ClassResult, ...] = ()
    ece: BeforeAfter | None = None
    nll: BeforeAfter | None = None

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON, with the definition of the calibration error."""
        classes = [
            asdict(c) | {"recall": None if c.recall is None else c.recall.model_dump(exclude={"seeds"})}
            for c in self.classes
        ]
        figures = {
            "accuracy": self.accuracy.model_dump(exclude={"seeds"}),
            "scores": {name: value.model_dump(exclude={"seeds"}) for name, value in self.scores.items()},
            "classes": classes,
            "ece": self.ece and self.ece.model_dump(),
            "nll": self.nll and self.nll.model_dump(),
        }
        return asdict(self) | figures | {"notes": list(self.notes), "ece_definition": ECE_DEFINITION}


def evaluate(
    file: Path | str,
    config: SearchConfig | Path | str,
    *,
    split: str = "test",
    preprocessing: Preprocessing | None = None,
) -> Evaluation:
    """Score an ONNX file, of nas-kd or of any other origin, on a split of a config's data.

    Classes of a file of nas-kd are matched by name, those of another by position.

    Args:
        file: the ONNX file.
        config: whose data; the splits are those that a search with it has.
        split: train, val or test.
        preprocessing: what the file expects: "raw" values as stored, "unit" pixels / 255, "normalized"
            (x - mean) / std. None: that of the config's teacher if the file is one, else raw.

    Raises:
        InputError: the file or the data cannot be read, or they do not fit.

    Examples:
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
    expected = _expected(path, options, checked_preprocessing(preprocessing))
    task = load_task(options.data.task)
    found = read_onnx(path, expected.output, axes=1 + len(task.raw_shape(1)))
    task.score(options.data.score)  # an unknown one is refused before data are read
    data = load_dataset(options.data, options.search.seed, labelled_only=True)
    _check_picture_size(found, data)
    loaded = load_onnx(found, expected, SampleFacts.of(data), None)
    samples: Split = getattr(data, split)
    logits = _logits(loaded.model, samples)
    _check_outputs(path, logits, data)
    stated = stated_facts(path, found.content)
    order, notes = _order(stated.get("nas_kd.classes"), data.classes, path)
    return _evaluation(
        data.task.in_order(logits, order),
        samples.y.numpy(),
        data,
        data.task.score(options.data.score),
        file=str(path),
        sha256=sha256(path.read_bytes()),
        dataset=data.name,
        split=split,
        temperature=_temperature(stated),
        preprocessing=expected.preprocessing,
        notes=(*loaded.notes, *notes),
    )


def _logits(model: nn.Module, split: Split) -> NDArray[np.float32]:
    """(N, C), in the batches that reported accuracies are read in."""
    with torch.no_grad():
        return torch.cat([model(as_input(split.x[at : at + BATCH])) for at in range(0, len(split), BATCH)]).numpy()


def _check_picture_size(file: OnnxFile, data: Dataset) -> None:
    """Say how to resize pictures to what the file takes; every other difference is refused where the file is loaded."""
    wanted, given = file.input_shape, data.input_shape
    if data.picture_steps is None or len(wanted) != 3 or None in wanted or not {wanted[0], wanted[2]} & {1, 3}:
        return
    height, width = wanted[1:] if wanted[0] in (1, 3) else wanted[:2]
    if (height, width) == given[1:]:
        return
    size = height if height == width else [height, width]
    raise InputError(
        f"{file.source} takes pictures of {height}x{width} pixels (height x width), the data's are "
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
    outputs: NDArray[np.float32],
    y: NDArray[Any],
    data: Dataset,
    score: Score,
    *,
    temperature: float,
    **facts: Any,
) -> Evaluation:
    task = data.task
    evidence, first = task.evidence(outputs, y), task.headline_score
    others = {s.name: s.of(evidence) for s in (load_score(task.knowledge), score) if s.name != first.name}
    found = Evaluation(title=first.title, accuracy=first.of(evidence), scores=others, temperature=temperature, **facts)
    return _with_classes(found, outputs, y, data.classes) if task.one_class else found


def _with_classes(
    found: Evaluation, logits: NDArray[np.float32], y: NDArray[np.int64], classes: Sequence[str]
) -> Evaluation:
    """Add what can be said of networks that give every sample one class."""
    matrix = Confusion.of(y, logits.argmax(axis=1), len(classes)).matrix().astype(np.int64)
    return replace(
        found,
        correct=int(matrix.trace()),
        classes=tuple(_class_result(number, matrix[number], classes) for number in range(len(classes))),
        ece=_before_after(expected_calibration_error, logits, y, found.temperature),
        nll=_before_after(negative_log_likelihood, logits, y, found.temperature),
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


def _check_outputs(path: Path, outputs: NDArray[np.float32], data: Dataset) -> None:
    """Refuse outputs of a file that are not what the data ask for."""
    given, wanted = outputs.shape[1:], data.task.raw_shape(data.n_classes)
    if data.task.any_width:
        return
    if len(given) == len(wanted) and all(w in (None, g) for g, w in zip(given, wanted, strict=True)):
        return
    if len(wanted) > 1 and given[0] == wanted[0]:
        raise InputError(f"{path} returns {given} for a sample, the data ask for {wanted}")
    items = data.task.describe_output(data.classes).items
    raise InputError(f"{path} has {given[0]} {items}, the data has {data.n_classes}: {_short(data.classes)}")


def _order(stated: Any, classes: tuple[str, ...], path: Path) -> tuple[list[int], tuple[str, ...]]:
    """The logit of each class of the data, by name where the file states the same names."""
    as_they_are = list(range(len(classes)))
    if not isinstance(stated, list) or not stated or tuple(stated) == classes:
        return as_they_are, ()
    if sorted(map(str, stated)) == sorted(classes):
        return [stated.index(name) for name in classes], ("the file has the classes in another order: matched by name",)
    note = f"{path.name} names its classes {_short(stated)}, the data {_short(classes)}: matched by position"
    return as_they_are, (note,)


def _expected(path: Path, config: SearchConfig, preprocessing: Preprocessing | None) -> TeacherOptions:
    """What the file expects of samples: as is given, or as the config says where it is a teacher's; else raw values."""
    given = [t for t in config.teacher if t.onnx is not None and t.onnx.exists() and t.onnx.samefile(path)]
    if preprocessing is None and given:
        return given[0]
    output = given[0].output if given else None
    return TeacherOptions(onnx=path, preprocessing=preprocessing or "raw", output=output)


def _short(names: Sequence[Any], limit: int = 5) -> str:
    return ", ".join(map(str, names[:limit])) + (", ..." if len(names) > limit else "")
