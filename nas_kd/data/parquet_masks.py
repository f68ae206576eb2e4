"""Parquet files in the Hugging Face image layout with a mask beside each picture: a column of pictures for both.

A mask is a grey or a palette picture whose values are classes; `data.void_value` does not count.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nas_kd.config.options import DataOptions
from nas_kd.data.encoded_pictures import EncodedImage, Label, chosen_size
from nas_kd.data.image_decoding import PictureReader
from nas_kd.data.mask_files import MaskedPicture, MaskReader
from nas_kd.data.notes import LeftOut
from nas_kd.data.parquet import N_EXAMPLES, ParquetPictures, groups_of, shards_of
from nas_kd.data.parquet_columns import Columns, find_mask_columns
from nas_kd.data.shards import data_name, find_shards
from nas_kd.data.source import Arrays, RawData
from nas_kd.data.stacked_pictures import with_same_channels
from nas_kd.errors import InputError


@dataclass(frozen=True)
class SomePictures:
    """Pictures of a split without those at other places.

    Attributes:
        pictures: of the split.
        places: of those that are left, ascending.
    """

    pictures: ParquetPictures
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.places)

    def encoded(self) -> Iterator[EncodedImage]:
        """Read them as they are stored, in order."""
        kept = set(self.places)
        return (encoded for place, encoded in enumerate(self.pictures.encoded()) if place in kept)

    def labels(self) -> Iterator[Label | None]:
        """A None for each picture, as masks are read apart."""
        return islice(self.pictures.labels(), len(self))

    def name(self, row: int) -> str:
        """Name of a picture, for notes."""
        return self.pictures.name(self.places[row])

    def files(self) -> Sequence[tuple[str, Path]]:
        """Files that the pictures come from, by name."""
        return self.pictures.files()

    def selection(self) -> Any:
        """Those of the split, and which are left."""
        return [self.pictures.selection(), self.places]


class ParquetMasks:
    """One or more files per split; pictures and masks are brought to one size, masks by their nearest pixel."""

    name = "parquet_masks"
    summary = "Parquet files in the Hugging Face image layout with a column of masks beside that of the pictures"
    uses = frozenset(
        {
            "train",
            "val",
            "test",
            "image_size",
            "resize",
            "on_error",
            "image_column",
            "label_column",
            "void_value",
            "group",
            "cache",
            "cache_gb",
        }
    )

    def load(self, options: DataOptions) -> RawData:
        """Read every picture that has a mask; what is left out is counted and said.

        Args:
            options: `train`, and optionally the others of `uses`, `train_rows` and `test_rows`; `label_column` names
                the column of masks.

        Raises:
            InputError: a file is missing or broken, columns are ambiguous, or a picture or mask is broken.
        """
        if options.train is None:
            raise InputError(
                "source 'parquet_masks' needs data.train, the training file, folder, pattern or list of files"
            )
        files = find_shards({"train": options.train, "val": options.val, "test": options.test})
        rows = {"train": options.train_rows, "test": options.test_rows}

        def choose(path: Path, schema: Any) -> Columns:
            return find_mask_columns(path, schema, options.image_column, options.label_column)

        shards = {split: shards_of(found, rows.get(split), choose, options) for split, found in files.files.items()}
        pictures = {split: ParquetPictures(parts, None) for split, parts in shards.items()}
        size, why = chosen_size(options.image_size, islice(pictures["train"].encoded(), N_EXAMPLES))
        masks, left_out = MaskReader(size, options, None), LeftOut()
        usable = {
            split: SomePictures(found, tuple(masks.check(_pairs(found), split))) for split, found in pictures.items()
        }
        reader = PictureReader(size, why, options)
        read = {split: reader.read(some, split) for split, some in usable.items()}
        splits, notes = with_same_channels(read)
        kept = {split: [usable[split].places[row] for row in one.rows] for split, one in read.items()}
        with_masks = {
            split: Arrays(arrays.x, masks.read(_masks(pictures[split], set(kept[split])), len(kept[split])))
            for split, arrays in splits.items()
        }
        left_out.include(masks.left_out)
        left_out.include(reader.left_out)
        said = left_out.summary()
        chosen = dict.fromkeys(shard.columns.note for parts in shards.values() for shard in parts)
        more = (*files.notes, *filter(None, chosen), *([f"left out: {said}"] if said else []))
        return RawData(
            name=data_name(files.files["train"], self.name),
            train=with_masks["train"],
            val=with_masks.get("val"),
            test=with_masks.get("test"),
            classes=masks.classes,
            flip_safe=True,
            pictures=True,
            notes=(*reader.notes(), *notes, *masks.notes(), *more),
            skipped=left_out.counts,
            picture_steps=reader.steps(splits),
            groups=groups_of(shards, kept, options.group),
        )


def _pairs(pictures: ParquetPictures) -> Iterator[MaskedPicture]:
    """Pictures and masks of a split, in order."""
    for place, (picture, mask) in enumerate(zip(pictures.encoded(), pictures.encoded(1), strict=True)):
        yield MaskedPicture(picture, mask, pictures.name(place))


def _masks(pictures: ParquetPictures, places: set[int]) -> Iterator[EncodedImage]:
    return (mask for place, mask in enumerate(pictures.encoded(1)) if place in places)


PLUGIN = ParquetMasks()
