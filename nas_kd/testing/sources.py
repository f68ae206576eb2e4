"""The contract of a data source."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.layout import as_numpy
from nas_kd.data.prepare import COMMON_OPTIONS
from nas_kd.data.source import Arrays, RawData, Source
from nas_kd.data.split_names import SPLITS
from nas_kd.data.teacher_view import paired_samples
from nas_kd.data.validation import check_same_layout, validated_samples
from nas_kd.errors import InputError
from nas_kd.tasks.base import load_task
from nas_kd.testing.generators import generator_states, moved_generators
from nas_kd.testing.rules import check_rules, fault_of_line, one_line

PATHS = ("path", "train", "val", "test")  # options that name files or folders
LONGEST = 110  # characters of a summary: a line of `nas-kd list datasets`


@dataclass(frozen=True)
class SourceCase:
    """A source under test and the options to load it with."""

    source: Source
    options: DataOptions

    @cached_property
    def raw(self) -> RawData:
        """What a first call of `load` returned."""
        return self.source.load(self.options)

    @property
    def given_paths(self) -> dict[str, Path]:
        """The files and folders that the options name, by option; a list of files is not among them."""
        return {name: path for name in PATHS if isinstance(path := getattr(self.options, name), Path)}


def check_source(source: Source, options: DataOptions | None = None) -> None:
    """Check a data source on real data against what the preparation of data sets expects of it.

    Args:
        source: the source; `nas_kd.data.factory.user_source` makes one of a function.
        options: where its data is; small files are enough, as they are read several times. Default: no option set.

    Raises:
        BrokenRule: the source breaks a rule; the message names the rule and what was seen.

    Examples:
        >>> from nas_kd.plugins import available
        >>> check_source(available("dataset")["digits"])
    """
    case = SourceCase(source, options or DataOptions())
    check_rules(f"source {getattr(source, 'name', type(source).__name__)!r}", RULES, case)


def names_itself(case: SourceCase) -> str | None:
    """The source has a name, a summary, and uses, the names of options that mean something to it."""
    if not isinstance(case.source, Source):
        return f"{type(case.source).__name__} has not all of name, summary, uses and load"
    for attribute in ("name", "summary"):
        if fault := fault_of_line(attribute, getattr(case.source, attribute), LONGEST):
            return fault
    options = set(DataOptions.model_fields)
    if unknown := sorted(set(case.source.uses) - options):
        return f"uses names {unknown[0]!r}; options of [data] are {', '.join(sorted(options))}"
    if shared := sorted(set(case.source.uses) & COMMON_OPTIONS):
        return f"uses names {shared[0]!r}, which means the same to all sources"
    unused = sorted(set(case.given_paths) - set(case.source.uses))
    return f"the options set {unused[0]!r}, which uses does not name" if unused else None


def leaves_files_and_generators_alone(case: SourceCase) -> str | None:
    """Loading writes nothing beside its data and leaves the global random generators as they were."""
    files = _files(case)
    _ = case.raw  # the first load may import libraries, and those may draw
    generators = generator_states()
    case.source.load(case.options)
    after = _files(case)
    changed = sorted(str(p) for p in files.keys() | after.keys() if files.get(p) != after.get(p))
    return f"{changed[0]} was written, changed or removed" if changed else moved_generators(generators)


def returns_raw_data(case: SourceCase) -> str | None:
    """Load returns RawData with a name, notes of one line each, and a training split."""
    raw = case.raw
    if not isinstance(raw, RawData):
        return f"load returned {type(raw).__name__}, not nas_kd.data.source.RawData"
    for what, text in (("name", raw.name), *((f"notes[{i}]", note) for i, note in enumerate(raw.notes))):
        if fault := fault_of_line(what, text):
            return fault
    return None


def has_as_many_labels_as_samples(case: SourceCase) -> str | None:
    """Every split has one label for each sample."""
    for name, split in _splits(case.raw):
        x, y = np.atleast_1d(as_numpy(split.x)), np.atleast_1d(as_numpy(split.y))
        if len(x) != len(y):
            return f"{name} has {len(x):,} samples and {len(y):,} labels"
    return None


def has_usable_samples(case: SourceCase) -> str | None:
    """Samples are finite numbers (N, ...), of one shape and one type in all splits, the teacher's view too."""
    try:
        check_same_layout({name: validated_samples(as_numpy(split.x), name) for name, split in _splits(case.raw)})
        paired_samples(case.raw, {})
    except InputError as error:
        return str(error)
    return None


def has_consistent_labels(case: SourceCase) -> str | None:
    """Labels are classes, or what else `data.task` asks for, the same ones in all splits, two or more in train."""
    try:
        task = load_task(case.options.task)
        task.read_targets({name: as_numpy(split.y) for name, split in _splits(case.raw)}, case.raw.classes)
    except InputError as error:
        return str(error)
    return None


def loads_the_same_twice(case: SourceCase) -> str | None:
    """Two loads give the same data in the same order."""
    first, second = _contents(case.raw), _contents(case.source.load(case.options))
    changed = [name for name in (*first, *second) if first.get(name) != second.get(name)]
    return f"{changed[0]} differs between two loads" if changed else None


def refuses_missing_data(case: SourceCase) -> str | None:
    """Data that is not given or not there is refused by an InputError in one line."""
    for name, path in case.given_paths.items():
        absent = path.with_name(f"{path.name}.absent")
        if fault := _not_refused(case.source, case.options.model_copy(update={name: absent})):
            return f"given {name} = {absent.name!r}, which does not exist, load {fault}"
    if case.given_paths and (fault := _not_refused(case.source, DataOptions())):
        return f"given no option at all, load {fault}"
    return None


RULES = (
    names_itself,
    leaves_files_and_generators_alone,
    returns_raw_data,
    has_as_many_labels_as_samples,
    has_usable_samples,
    has_consistent_labels,
    loads_the_same_twice,
    refuses_missing_data,
)


def _splits(raw: RawData) -> Iterator[tuple[str, Arrays]]:
    for name in SPLITS:
        if (split := getattr(raw, name)) is not None:
            yield name, Arrays(*split)


def _contents(raw: RawData) -> dict[str, Any]:
    """All that a load returned, in a form that can be compared."""
    contents: dict[str, Any] = {
        "name": raw.name,
        "classes": raw.classes,
        "notes": raw.notes,
        "flip_safe": raw.flip_safe,
        "pictures": raw.pictures,
        "skipped": dict(raw.skipped),
        "layout": raw.layout,
        "picture_steps": raw.picture_steps,
    }
    for name, split in _splits(raw):
        contents |= {f"x of {name}": _bytes(as_numpy(split.x)), f"y of {name}": _bytes(as_numpy(split.y))}
    if raw.teacher_view is not None:
        views = {"x_teacher": raw.teacher_view.x, "pairs": raw.teacher_view.pairs}
        contents |= {f"{kind}_{name}": _bytes(as_numpy(x)) for kind, of in views.items() for name, x in of.items()}
    return contents


def _bytes(values: NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    return str(values.dtype), values.shape, np.ascontiguousarray(values).tobytes()


def _files(case: SourceCase) -> dict[Path, tuple[int, int]]:
    """Size and time of change of all files in the folders that the options name, or beside the files that they name."""
    found = (path.rglob("*") if path.is_dir() else path.parent.iterdir() for path in case.given_paths.values())
    stats = {file: file.stat() for files in found for file in files if file.is_file()}
    return {file: (stat.st_size, stat.st_mtime_ns) for file, stat in stats.items()}


def _not_refused(source: Source, options: DataOptions) -> str | None:
    """What happens in the place of an InputError in one line, or None."""
    try:
        source.load(options)
    except InputError as error:
        return None if str(error).isprintable() else f"says more than a line: {str(error)!r}"
    except Exception as error:  # what a user would see as a traceback
        return f"raises {one_line(error)}"
    return "returns all the same"
