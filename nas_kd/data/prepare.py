"""From options to a data set: load, validate, carve missing splits, compute statistics."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_kd import plugins
from nas_kd.config.options import DataOptions
from nas_kd.data.augmentation_choices import (
    AugmentationChoices,
    are_photographs,
    check_augmentation,
    look_like_pictures,
)
from nas_kd.data.carving import carved
from nas_kd.data.dataset import Dataset, Split
from nas_kd.data.duplicates import count_duplicates, duplicates_sentence
from nas_kd.data.groups import find_groups, shared_sentence
from nas_kd.data.layout import as_numpy, as_stored, layout_sentence
from nas_kd.data.mapped_array import Stored, StoredArray, remembered, select_rows
from nas_kd.data.notes import DataNotes
from nas_kd.data.samples import chunks
from nas_kd.data.source import Arrays, RawData, Source
from nas_kd.data.split_names import SPLITS
from nas_kd.data.splits import Indices
from nas_kd.data.teacher_view import paired_samples, with_teacher_view
from nas_kd.data.tensors import as_samples, as_tensor
from nas_kd.data.unlabelled import FoundUnlabelled, find_unlabelled
from nas_kd.data.user_source import load_user_source
from nas_kd.data.validation import check_same_layout, validated_samples
from nas_kd.errors import InputError
from nas_kd.serialization import fingerprint
from nas_kd.tasks.base import Targets, Task, load_task

COMMON_OPTIONS = frozenset(
    {
        "source",
        "train_rows",
        "test_rows",
        "val_fraction",
        "test_fraction",
        "augment",
        "score",
        "task",
        "unlabelled",
        "unlabelled_share",
        "embedding_width",
    }
)
OF_UNLABELLED = frozenset(
    {"on_error", "follow_links", "image_column", "layout", "cache", "cache_gb"}
)  # apply to its files, too
CHUNK_VALUES = 2**22  # values summed at a time in float64 for the statistics


def load_dataset(options: DataOptions, seed: int, *, labelled_only: bool = False) -> Dataset:
    """Load the data that the options name and prepare it for training.

    Args:
        options: the `[data]` section.
        seed: decides which samples are carved from train if val or test is missing.
        labelled_only: do not read unlabelled samples.

    Raises:
        InputError: the source is unknown, or the data is missing, broken or unsuitable for training.
    """
    raw = find_source(options).load(options)
    try:
        return _prepared(raw, options, seed, labelled_only)
    except InputError as error:
        left_out = "; ".join(f"{reason}: {count:,}" for reason, count in raw.skipped.items())
        raise InputError(f"{error} (left out before: {left_out})" if left_out else str(error)) from error


def _prepared(raw: RawData, options: DataOptions, seed: int, labelled_only: bool) -> Dataset:
    limits = {"train": options.train_rows, "test": options.test_rows}
    xs, labels = _checked(raw, limits, load_task(options.task).configured(options))
    classes = labels.names
    teacher_xs = paired_samples(raw, limits)
    groups = find_groups(raw, limits, labels, options.group)
    parts, said = carved(labels, groups, options, seed)
    ys, x = _with_parts(labels.values, parts), xs["train"]
    pictures = look_like_pictures(x.dtype, x.shape[1:]) if raw.pictures is None else raw.pictures
    check_augmentation(options.augment, x.shape[1:], str(x.dtype))
    photographs = are_photographs(pictures, x.dtype, x.shape[1:])
    augmentation = AugmentationChoices(options.augment, x.shape[1:], raw.flip_safe, pictures, photographs)
    assemble = partial(
        _dataset, ys=ys, source=options.source, classes=classes, task=labels.task, augmentation=augmentation
    )
    xs = _with_parts(xs, parts)
    unlabelled = None if labelled_only else find_unlabelled(options, raw, xs)
    stored = str(as_stored(raw.train[0]).dtype)
    dataset = assemble(raw.name, xs)
    shared = None if groups is None else shared_sentence(replace(groups, numbers=_with_parts(groups.numbers, parts)))
    about = _about(raw, labels, [*said, *filter(None, [shared])], xs)
    dataset = replace(dataset, about=about, picture_steps=raw.picture_steps, stored_dtype=stored)
    limited = {split: limit for split, limit in limits.items() if limit is not None}
    dataset = replace(dataset, carved_rows=parts, limited=limited, task_name=options.task)
    if unlabelled is not None:
        dataset = replace(dataset, about=_with_unlabelled(about, unlabelled), unlabelled=unlabelled.samples)
    if not teacher_xs:
        return dataset
    try:
        view = assemble(f"{raw.name}, teacher's view", _with_parts(teacher_xs, parts))
    except InputError as error:
        raise InputError(f"the teacher's view: {error}") from error
    stored = "" if raw.teacher_view is None else str(as_numpy(raw.teacher_view.x["train"]).dtype)
    return with_teacher_view(dataset, replace(view, stored_dtype=stored))


def _about(raw: RawData, labels: Targets, carved: list[str], xs: Mapping[str, StoredArray]) -> DataNotes:
    duplicates = count_duplicates(xs)
    twice = duplicates_sentence(duplicates, {split: len(x) for split, x in xs.items()})
    return DataNotes(
        sentences=(
            *raw.notes,
            *filter(None, [layout_sentence(raw.layout), labels.encoding]),
            *carved,
            *filter(None, [twice]),
        ),
        skipped=raw.skipped,
        duplicates=duplicates,
        layout=raw.layout,
        label_encoding=labels.encoding,
        carved=tuple(word for line in carved if (word := line.partition(":")[0]) in SPLITS),
    )


def _with_unlabelled(about: DataNotes, found: FoundUnlabelled) -> DataNotes:
    skipped = Counter(about.skipped) + Counter(found.skipped)
    sentences = (*about.sentences, *found.sentences)
    return replace(about, sentences=sentences, skipped=skipped, unlabelled_duplicates=found.duplicates)


def _dataset(
    name: str,
    xs: Mapping[str, StoredArray],
    ys: Mapping[str, NDArray[Any]],
    *,
    source: str,
    classes: tuple[str, ...],
    task: Task,
    augmentation: AugmentationChoices,
) -> Dataset:
    train = xs["train"]
    mean, std = map(torch.tensor, remembered("statistics", [train], lambda: _as_lists(channel_statistics(train))))
    splits = {split: Split(as_samples(xs[split]), as_tensor(ys[split])) for split in SPLITS}
    return Dataset(
        name=name,
        source=source,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        classes=classes,
        mean=mean,
        std=std,
        scale=255.0 if xs["train"].dtype == np.uint8 else 1.0,
        augmentation=augmentation,
        key=_with_task(content_key(splits, classes), task),
        task=task,
    )


def find_source(options: DataOptions) -> Source:
    """Find the source that the options name.

    Raises:
        InputError: it is unknown, or options are given that it or the task does not use.
    """
    _refuse_options_of_other_tasks(options)
    source: Source = (
        load_user_source(options.source) if ":" in options.source else plugins.load("dataset", options.source)
    )
    defaults = DataOptions()
    shared = OF_UNLABELLED if options.unlabelled is not None else frozenset()
    for name in sorted(set(DataOptions.model_fields) - COMMON_OPTIONS - source.uses - shared):
        if getattr(options, name) != getattr(defaults, name):
            takes = ", ".join(f"data.{use}" for use in sorted(source.uses)) or "no options of its own"
            raise InputError(f"data.{name} is not used by source {options.source!r}, which takes {takes}")
    return source


def _refuse_options_of_other_tasks(options: DataOptions) -> None:
    """Refuse options that some tasks read, and this one does not."""
    used, defaults = load_task(options.task).uses, DataOptions()
    for name, task in plugins.available("task").items():
        for option in sorted(task.uses - used):
            if getattr(options, option) != getattr(defaults, option):
                raise InputError(f'data.{option} is for data.task = "{name}", and it is {options.task!r}: leave it out')


def _checked(raw: RawData, limits: Mapping[str, int | None], task: Task) -> tuple[dict[str, StoredArray], Targets]:
    given = {name: Arrays(*split) for name in SPLITS if (split := getattr(raw, name)) is not None}
    xs, labels = {}, {}
    for name, split in given.items():
        x, y = as_stored(split.x), np.atleast_1d(as_numpy(split.y))
        if len(x) != len(y):
            raise InputError(f"{name} has {len(x):,} samples but {len(y):,} labels")
        xs[name] = validated_samples(select_rows(x, slice(limits.get(name))), name)
        labels[name] = y[: limits.get(name)]
    check_same_layout(xs)
    targets = task.read_targets(labels, raw.classes)
    return xs, targets.task.fitted(targets, xs["train"].shape[1:])


def _with_parts(arrays: Mapping[str, Stored], parts: Mapping[str, Indices]) -> dict[str, Stored]:
    return {**arrays, **{name: select_rows(arrays["train"], rows) for name, rows in parts.items()}}


def channel_statistics(x: StoredArray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, or of all values if the samples are not images.

    Summed by NumPy on one thread: the numbers go into the exported graph and must not depend on the machine's load.

    Args:
        x: (N, C, H, W) images, or any (N, ...).

    Returns:
        Mean and standard deviation, (C,) each for images, else (1,) each; 1 in place of a standard deviation of 0.

    Raises:
        InputError: all values of all channels are the same.
    """
    channels, size = x.shape[1] if x.ndim == 4 else 1, x.size // len(x)
    rows = max(1, CHUNK_VALUES // size)
    count = x.size // channels

    def parts() -> Iterator[NDArray[Any]]:
        return (x[i : i + rows].reshape(-1, channels, size // channels) for i in range(0, len(x), rows))

    mean = np.sum([part.sum(axis=(0, 2), dtype=np.float64) for part in parts()], axis=0) / count
    squares = [np.square(part - mean[:, None]).sum(axis=(0, 2)) for part in parts()]
    std = np.sqrt(np.sum(squares, axis=0) / count)
    limits = np.finfo(np.float32)
    constant = std <= np.maximum(limits.eps * np.abs(mean), limits.tiny)  # too small to divide by
    if constant.all():
        raise InputError("all training samples are the same: there is nothing to learn from")
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(np.where(constant, 1.0, std), dtype=torch.float32)


def content_key(splits: dict[str, Split], classes: tuple[str, ...]) -> str:
    """Content key of the splits: sha256 (hex) of class names, and of types, shapes and bytes of all arrays."""
    labels = [hashlib.sha256(split.y.numpy().tobytes()).hexdigest() for split in splits.values()]
    xs = [split.x for split in splits.values()]
    return remembered(f"content {classes!r} {labels}", xs, lambda: _digest(splits, classes))


def _with_task(key: str, task: Task) -> str:
    return fingerprint([key, task.key_facts]) if task.key_facts else key


def _digest(splits: dict[str, Split], classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr(classes).encode())
    for name, split in splits.items():
        for values in (split.x, split.y):
            dtype = str(values.dtype).removeprefix("torch.")
            digest.update(f"{name} {dtype} {tuple(values.shape)}".encode())
            for part in chunks(values):
                digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def _as_lists(statistics: tuple[Tensor, Tensor]) -> list[list[float]]:
    """Mean and standard deviation as JSON, which keeps every bit."""
    return [values.tolist() for values in statistics]
