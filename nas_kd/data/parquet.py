"""Parquet files in the Hugging Face image layout: an image column, a label column, class names in the metadata."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nas_kd.config.options import DataOptions
from nas_kd.data.image_decoding import DecodedImages, EncodedImage, decode_images, stack_splits
from nas_kd.data.picture_steps import PictureSteps
from nas_kd.data.source import RawData, error_summary, is_flip_safe, optional_module
from nas_kd.errors import InputError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
BATCH_ROWS = 1000


class Table(NamedTuple):
    """Decoded samples and class names (None: not stated) of one file."""

    samples: DecodedImages
    classes: tuple[str, ...] | None


class Parquet:
    """One file per split; images are PNG, JPEG or similar, of one size unless `image_size` is given."""

    name = "parquet"
    summary = "Parquet files in the Hugging Face image layout: train, optionally val and test"
    uses = frozenset({"train", "val", "test", "image_size"})

    def load(self, options: DataOptions) -> RawData:
        """Decode the files that the options name.

        Args:
            options: `train`, and optionally `val`, `test`, `train_rows`, `test_rows`, `image_size`.

        Raises:
            InputError: a file is missing or broken, or class names differ between splits.
        """
        if options.train is None:
            raise InputError("source 'parquet' needs data.train, the training file")
        paths = {"train": options.train, "val": options.val, "test": options.test}
        rows = {"train": options.train_rows, "test": options.test_rows}
        tables = {split: read_table(path, rows.get(split), options.image_size) for split, path in paths.items() if path}
        classes = _same_classes(tables)
        splits, notes = stack_splits({split: table.samples for split, table in tables.items()})
        return RawData(
            name=options.train.stem.removesuffix("train").rstrip("-_.") or options.train.stem,
            train=splits["train"],
            val=splits.get("val"),
            test=splits.get("test"),
            classes=classes,
            flip_safe=is_flip_safe(classes),
            pictures=True,
            notes=tuple(notes),
            picture_steps=PictureSteps.of_arrays(splits["train"].x.shape[1:]),
        )


def read_table(path: Path, rows: int | None, image_size: int | None) -> Table:
    """Decode the rows of one Parquet file.

    Args:
        path: the file.
        rows: number of rows from the start; None: all.
        image_size: side in pixels that images are resized to; None: keep the size.

    Raises:
        InputError: the file is missing, not Parquet, without the columns, empty, or an image is broken.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    pq = optional_module("pyarrow.parquet", "pyarrow", "parquet")
    try:
        with pq.ParquetFile(path) as file:
            image, label = _columns(path, file.schema_arrow)
            classes = _class_names(path, file.schema_arrow.metadata or {}, label)
            total = file.metadata.num_rows
            count = total if rows is None else min(rows, total)
            if count <= 0:
                raise InputError(f"{path} has no rows")
            samples = decode_images(_rows(path, file, (image, label), count), count, image_size)
            if len(samples.labels) < count:
                raise InputError(f"{path} is damaged: it ends after {len(samples.labels):,} of {total:,} rows")
    except InputError:
        raise
    except Exception as error:  # pyarrow raises many kinds of errors on broken files
        raise InputError(f"{path} is not a readable Parquet file ({error_summary(error)})") from error
    return Table(samples, classes)


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    found = []
    for kind, names in (("image", IMAGE_COLUMNS), ("label", LABEL_COLUMNS)):
        name = next((n for n in names if n in schema.names), None)
        if name is None:
            raise InputError(f"{path} has no {kind} column ({' or '.join(names)}); its columns: {schema.names}")
        found.append(name)
    return found[0], found[1]


def _class_names(path: Path, metadata: dict[bytes, bytes], label: str) -> tuple[str, ...] | None:
    if b"huggingface" not in metadata:
        return None
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"].get(label, {})
        names = feature.get("names")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the 'huggingface' metadata of its schema cannot be read: {error!r}") from error
    return None if names is None else tuple(str(name) for name in names)


def _rows(path: Path, file: Any, columns: tuple[str, str], count: int) -> Iterator[EncodedImage]:
    """Yield the first `count` rows; later ones are not read."""
    row = 0
    for batch in file.iter_batches(batch_size=min(BATCH_ROWS, count), columns=list(columns)):
        cells = batch.column(columns[0]).to_pylist()
        for cell, label in zip(cells, batch.column(columns[1]).to_pylist(), strict=True):
            where = f"row {row} of {path}"
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            if not isinstance(content, bytes):
                raise InputError(f"{where} holds no image bytes (a path alone is not followed)")
            if not isinstance(label, int | float | str):
                raise InputError(f"{where} has the label {label!r}; want a class number or name")
            yield EncodedImage(content, label, where)
            row += 1
            if row == count:
                return


def _same_classes(tables: dict[str, Table]) -> tuple[str, ...] | None:
    named = {split: table.classes for split, table in tables.items() if table.classes is not None}
    for split, classes in named.items():
        if classes != named.get("train", classes):
            raise InputError(f"class names of {split} differ from those of train: {classes}, {named['train']}")
    return next(iter(named.values()), None)


PLUGIN = Parquet()
