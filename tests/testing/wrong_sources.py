"""Data sources with one fault each, and the fault's name in the message that refuses them."""

import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np

from nas_kd.config.options import DataOptions
from nas_kd.data.source import Arrays, RawData, TeacherView
from nas_kd.errors import InputError

CALLS = itertools.count()


class Right:
    """A table of numbers whose last column is the class: what all the others are but for their fault."""

    name = "mine"
    summary = "a text file of numbers, the last one of each line the class"
    uses = frozenset({"path"})

    def load(self, options: DataOptions) -> Any:
        if options.path is None or not options.path.is_file():
            raise InputError(f"source 'mine' needs data.path, a file; got {options.path}")
        table = np.loadtxt(options.path, dtype=np.float32)
        return RawData(name="table", train=Arrays(table[:, :-1], table[:, -1].astype(int)))


class NoLoad:
    name, summary, uses = "mine", "nothing", frozenset({"path"})


class NoSummary(Right):
    summary = "one\ntwo"


class UnknownOption(Right):
    uses = frozenset({"path", "delimiter"})


class SharedOption(Right):
    uses = frozenset({"path", "train_rows"})


class UnnamedOption(Right):
    uses = frozenset({"layout"})


class WritesACache(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        np.save(options.path.with_suffix(".npy"), raw.train.x)
        return raw


class Draws(Right):
    def load(self, options: DataOptions) -> Any:
        random.shuffle([1, 2, 3])
        return super().load(options)


class ReturnsArrays(Right):
    def load(self, options: DataOptions) -> Any:
        return super().load(options).train


class LongNote(Right):
    def load(self, options: DataOptions) -> Any:
        return replace(super().load(options), notes=("skipped:\na.txt",))


class FewerLabels(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        return replace(raw, train=Arrays(raw.train.x, raw.train.y[:-1]))


class NotFinite(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        raw.train.x[3, 1] = np.nan
        return raw


class OtherShape(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        return replace(raw, test=Arrays(raw.train.x[:, :1], raw.train.y))


class OtherType(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        return replace(raw, test=Arrays(raw.train.x.astype(np.uint8), raw.train.y))


class TextSamples(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        return replace(raw, train=Arrays(raw.train.x.astype(str), raw.train.y))


class HalfAView(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        return replace(raw, teacher_view=TeacherView({"train": raw.train.x[:5]}))


class GapInLabels(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        return replace(raw, train=Arrays(raw.train.x, raw.train.y * 2))


class OneClass(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        return replace(raw, train=Arrays(raw.train.x, raw.train.y * 0))


class TooFewClasses(Right):
    def load(self, options: DataOptions) -> Any:
        return replace(super().load(options), classes=("zero",))


class AnotherClassInTest(Right):
    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        return replace(raw, test=Arrays(raw.train.x, raw.train.y + 1))


class AnotherOrder(Right):
    """Rows come as a set would give them: in another order each time."""

    def load(self, options: DataOptions) -> Any:
        raw = super().load(options)
        order = np.roll(np.arange(len(raw.train.y)), next(CALLS))
        return replace(raw, train=Arrays(raw.train.x[order], raw.train.y[order]))


class AnotherName(Right):
    def load(self, options: DataOptions) -> Any:
        return replace(super().load(options), name=f"table {next(CALLS)}")


class Traceback(Right):
    def load(self, options: DataOptions) -> Any:
        table = np.loadtxt(str(options.path), dtype=np.float32)
        return RawData(name="table", train=Arrays(table[:, :-1], table[:, -1].astype(int)))


class MadeUpData(Right):
    """Goes on with noise where there is no file."""

    def load(self, options: DataOptions) -> Any:
        try:
            return super().load(options)
        except InputError:
            return RawData(name="table", train=Arrays(np.eye(4), np.arange(4)))


class NeedsNoPath(Right):
    def load(self, options: DataOptions) -> Any:
        if options.path is None:
            raise KeyError("path")
        return super().load(options)


# The source, the rule that it breaks (its first words) and what is seen.
WRONG: list[tuple[type[Any], str, str]] = [
    (NoLoad, "The source has a name", "NoLoad has not all of name, summary, uses and load"),
    (NoSummary, "The source has a name", "summary must be one line of text, got 'one"),
    (UnknownOption, "The source has a name", "uses names 'delimiter'; options of [data] are "),
    (SharedOption, "The source has a name", "uses names 'train_rows', which means the same to all sources"),
    (UnnamedOption, "The source has a name", "the options set 'path', which uses does not name"),
    (WritesACache, "Loading writes nothing", "table.npy was written, changed or removed"),
    (Draws, "Loading writes nothing", "the global generator of Python has moved"),
    (ReturnsArrays, "Load returns RawData", "load returned Arrays"),
    (LongNote, "Load returns RawData", "notes[0] must be one line of text"),
    (FewerLabels, "Every split has one label", "train has 20 samples and 19 labels"),
    (NotFinite, "Samples are finite numbers", "NaN or infinite values in 1 samples, first in sample 3"),
    (OtherShape, "Samples are finite numbers", "samples of test have shape (1,), those of train (2,)"),
    (OtherType, "Samples are finite numbers", "x of test is uint8, x of train float32"),
    (TextSamples, "Samples are finite numbers", "x of train has type <U32; want numbers"),
    (HalfAView, "Samples are finite numbers", "x_teacher_train has 5 samples for the 20 of x_train"),
    (GapInLabels, "Labels are classes", "labels of train go up to 2 but 1 does not occur"),
    (OneClass, "Labels are classes", "train has one class only"),
    (TooFewClasses, "Labels are classes", "label 1 of train (sample 1) is out of range"),
    (AnotherClassInTest, "Labels are classes", "label 2 of test (sample 1) is out of range"),
    (AnotherOrder, "Two loads give the same", "x of train differs between two loads"),
    (AnotherName, "Two loads give the same", "name differs between two loads"),
    (Traceback, "Data that is not given", "'table.txt.absent', which does not exist, load raises FileNotFoundError"),
    (MadeUpData, "Data that is not given", "'table.txt.absent', which does not exist, load returns all the same"),
    (NeedsNoPath, "Data that is not given", "given no option at all, load raises KeyError"),
]
