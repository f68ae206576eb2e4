"""Section 3, by class: how many samples of each class the winner's file and the teacher's get right, and what else."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_kd.report import number_format as fmt
from nas_kd.report.candidates_csv import text_cell
from nas_kd.report.report_context import ReportContext
from nas_kd.results.confusion import Confusion, is_unbalanced, largest_class_share
from nas_kd.results.finalist_record import Accuracy, FinalistRecord
from nas_kd.results.intervals import wilson_interval

MAX_PICTURED = 12  # classes whose confusion matrix is a picture; of more, the most frequent confusions are listed
MAX_CLASS_ROWS, FEWER_CLASS_ROWS = 30, 20  # of more classes, those with the lowest recall
MAX_CONFUSIONS = 15
SHORT_NAME = 3  # characters that fit above a column


@dataclass(frozen=True)
class ClassFigure:
    """A share of samples with its interval and the counts that it rests on, as text."""

    text: str
    interval: str
    counts: str


@dataclass(frozen=True)
class ClassRow:
    """One class: its test samples, its recall by network, and the precision of the first of them."""

    name: str
    samples: int
    recalls: tuple[ClassFigure, ...]
    precision: ClassFigure


@dataclass(frozen=True)
class MatrixCell:
    """Samples of one class that were given another or, on the diagonal, their own; `percent` of the class."""

    count: int
    percent: float
    right: bool


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix of one network: a row for each class of the samples, a column for each class given.

    Names of classes that are `long` are written upwards above the columns.
    """

    title: str
    alt_text: str
    long_names: bool
    rows: tuple[tuple[str, tuple[MatrixCell, ...]], ...]


@dataclass(frozen=True)
class ConfusedPair:
    """Samples of one class that are often given another, by network."""

    label: str
    prediction: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class ClassTables:
    """Everything by class.

    Attributes:
        networks: names of the networks that figures are given for.
        sentences: what the tables are of, and the scores that follow from them.
        rows: a row for each class, or for those with the lowest recall under `rows_title`.
        matrices: of few classes, a picture for each network.
        pairs: of many classes, the most frequent confusions.
    """

    networks: tuple[str, ...]
    sentences: tuple[str, ...]
    rows_title: str
    rows: tuple[ClassRow, ...]
    matrices: tuple[Matrix, ...]
    pairs: tuple[ConfusedPair, ...]


def build_class_tables(context: ReportContext) -> ClassTables | None:
    """Build the tables by class; None before the test split was read, or in runs of older versions."""
    found = _networks(context)
    if context.run.dataset is None or not found:
        return None
    names, confusions = tuple(found), list(found.values())
    classes, few = context.run.dataset.classes, confusions[0].n_classes <= MAX_PICTURED
    rows, title = _class_rows(classes, confusions)
    return ClassTables(
        networks=names,
        sentences=tuple(_sentences(context)),
        rows_title=title,
        rows=rows,
        matrices=tuple(_matrix(name, c, classes) for name, c in found.items()) if few else (),
        pairs=() if few else _pairs(classes, confusions),
    )


def classes_csv(context: ReportContext) -> str:
    """Write one row for each class, with its samples, recall, precision and F1; empty without test figures."""
    found, data = _networks(context), context.run.dataset
    if data is None or not found:
        return ""
    file = io.StringIO()
    figures = ("correct", "predicted", "recall", "recall_low", "recall_high", "precision", "f1")
    keys = ["winner" if n == 0 else "teacher" for n in range(len(found))]
    splits = {split: data.class_counts.get(split, ()) for split in ("train", "val", "test")}
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["class", *(f"n_{split}" for split in splits), *(f"{k}.{f}" for k in keys for f in figures)])
    for number, name in enumerate(data.classes):
        counts = [split[number] if split else "" for split in splits.values()]
        writer.writerow([text_cell(name), *counts, *(v for c in found.values() for v in _csv_figures(c, number))])
    return file.getvalue()


def _csv_figures(confusion: Confusion, number: int) -> list[int | float | str]:
    labelled, predicted, correct = (int(counts[number]) for counts in confusion.by_class)
    recall: list[float | str] = ["", "", ""]
    if labelled:
        recall = [correct / labelled, *wilson_interval(correct / labelled, labelled)]
    precision = correct / predicted if predicted else ""
    return [correct, predicted, *recall, precision, 2 * correct / max(1, labelled + predicted)]


def deployed_finalist(context: ReportContext) -> FinalistRecord | None:
    """The winner; the best finalist if none meets the budget."""
    best = max(context.run.finalists, key=lambda f: f.val_score.mean, default=None)
    return context.winner or best


def _networks(context: ReportContext) -> dict[str, Confusion]:
    """Names and confusion matrices on test: the winner's file, then the teacher's."""
    found: dict[str, Confusion] = {}
    finalist, teacher = deployed_finalist(context), context.run.teacher
    if finalist is not None and finalist.confusion is not None:
        found[context.letters[finalist.id]] = finalist.confusion
        if teacher is not None and teacher.confusion is not None:
            found["Teacher"] = teacher.confusion
    return found


def _sentences(context: ReportContext) -> list[str]:
    finalist, teacher, data = deployed_finalist(context), context.run.teacher, context.run.dataset
    if finalist is None or data is None:
        return []
    letter = context.letters[finalist.id]
    role = "the winner" if context.winner else "the best finalist"
    texts = [
        f"What the exported file of {letter}, {role} (seed {finalist.deployed_seed}), does with the test samples of "
        f"each class{', beside the teacher' if teacher and teacher.confusion else ''}."
    ]
    scores = [(f"{letter}, mean over {fmt.count(finalist.test.seeds, 'seed')}", finalist.balanced)]
    scores += [("teacher", teacher.balanced)] if teacher else []
    known = [f"{name} {fmt.accuracy_with_interval(value)}" for name, value in scores if value is not None]
    if known:
        texts.append(f"Balanced accuracy, the mean of the classes' recalls: {'; '.join(known)}.")
    train, test = data.class_counts.get("train", ()), data.class_counts.get("test", ())
    if is_unbalanced(train) and sum(test) > 0:
        largest = data.classes[train.index(max(train))]
        share = fmt.percent(largest_class_share(train, test))
        texts.append(f"Classes are unbalanced: always naming {largest} would have a test accuracy of {share}.")
    return texts


def _class_rows(classes: Sequence[str], confusions: Sequence[Confusion]) -> tuple[tuple[ClassRow, ...], str]:
    counts = [c.by_class for c in confusions]
    mine = counts[0]
    shown = list(range(len(classes)))
    title = "Recall by class"
    if len(shown) > MAX_CLASS_ROWS:
        recalls = mine.correct / np.where(mine.labelled > 0, mine.labelled, np.nan)
        shown = [int(n) for n in np.argsort(recalls, kind="stable")[:FEWER_CLASS_ROWS]]
        title = f"The {FEWER_CLASS_ROWS} of {len(classes):,} classes with the lowest recall; classes.csv has all"
    rows = tuple(
        ClassRow(
            name=classes[n],
            samples=int(mine.labelled[n]),
            recalls=tuple(_figure(c.correct[n], c.labelled[n]) for c in counts),
            precision=_figure(mine.correct[n], mine.predicted[n]),
        )
        for n in shown
    )
    return rows, title


def _figure(part: float, total: float) -> ClassFigure:
    if not total:
        return ClassFigure(fmt.MISSING, "", "none")
    low, high = wilson_interval(part / total, round(total))
    value = Accuracy(mean=part / total, low=low, high=high, samples=round(total))
    counts = f"{part:,.0f} of {total:,.0f}"
    return ClassFigure(fmt.percent(value.mean, 0), fmt.accuracy_interval(value, 0), counts)


def _matrix(name: str, confusion: Confusion, classes: Sequence[str]) -> Matrix:
    whole = confusion.matrix()
    totals = whole.sum(axis=1, keepdims=True)
    shares = whole / np.where(totals > 0, totals, 1) * 100
    rows = tuple(
        (
            classes[y],
            tuple(MatrixCell(int(whole[y, p]), float(shares[y, p]), y == p) for p in range(len(classes))),
        )
        for y in range(len(classes))
    )
    worst = _most_frequent(confusion, 3)
    errors = "; ".join(f"{int(whole[y, p])} of {classes[y]} as {classes[p]}" for y, p in worst) or "none"
    title = name if name == "Teacher" else f"{name}, the file to deploy"
    alt_text = f"Confusion matrix of {name}. Most frequent confusions: {errors}."
    return Matrix(title, alt_text, max(map(len, classes)) > SHORT_NAME, rows)


def _pairs(classes: Sequence[str], confusions: Sequence[Confusion]) -> tuple[ConfusedPair, ...]:
    whole = [c.matrix() for c in confusions]
    return tuple(
        ConfusedPair(
            label=classes[y],
            prediction=classes[p],
            texts=tuple(f"{matrix[y, p]:,.0f} of {matrix[y].sum():,.0f}" for matrix in whole),
        )
        for y, p in _most_frequent(confusions[0], MAX_CONFUSIONS)
    )


def _most_frequent(confusion: Confusion, most: int) -> list[tuple[int, int]]:
    """The (label, prediction) pairs with most errors."""
    cells = zip(confusion.labels, confusion.predictions, confusion.counts, strict=True)
    errors = sorted((-count, y, p) for y, p, count in cells if y != p and count)
    return [(y, p) for _, y, p in errors[:most]]
