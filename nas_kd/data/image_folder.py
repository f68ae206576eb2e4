"""A folder of images by class: `path/<class>/*.png`, or `path/train|val|test/<class>/*.png`.

With `data.group = "folder"` pictures that belong together lie in a folder of their own: `path/<class>/<group>/*.png`. A
group has one name in all classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import DataOptions
from nas_kd.data.encoded_pictures import FolderPictures, Label, chosen_size
from nas_kd.data.file_kind import describe_file
from nas_kd.data.folder_listing import ByClass, list_folder, same_classes
from nas_kd.data.image_decoding import PictureReader
from nas_kd.data.notes import LeftOut
from nas_kd.data.source import RawData, error_summary, is_flip_safe
from nas_kd.data.stacked_pictures import with_same_channels
from nas_kd.errors import InputError

BY_FOLDER = "folder"  # what `data.group` may be
N_EXAMPLES = 500  # training pictures whose headers decide the size of samples


class ImageFolder:
    """Images of any size and 8-bit mode, brought to one size."""

    name = "image_folder"
    summary = "a folder of images, one sub-folder a class, optionally below train, val and test"
    uses = frozenset({"path", "image_size", "resize", "follow_links", "on_error", "group", "cache", "cache_gb"})

    def load(self, options: DataOptions) -> RawData:
        """Decode every image; what is left out is counted and said.

        Args:
            options: `path`, and optionally `image_size`, `resize`, `follow_links`, `on_error`, `group`, `train_rows`,
                `test_rows`, `cache`, `cache_gb`.

        Raises:
            InputError: there is no such folder, no class folder, or a broken image.
        """
        return read_folders(options, self.name, closed=True)


def read_folders(options: DataOptions, source: str, *, closed: bool) -> RawData:
    """Decode the pictures of a folder of folders, whose names are the labels.

    Args:
        options: see `ImageFolder.load`.
        source: its name, for messages.
        closed: whether labels are classes, so that those of validation and test have to occur in train.

    Raises:
        InputError: there is no such folder, no folder of pictures in it, or a broken image.
    """
    path = _folder(options.path, source)
    try:
        content = list_folder(path, options.follow_links, grouped=_is_grouped(options.group))
    except OSError as error:
        raise InputError(f"cannot list {path}: {error_summary(error)}") from error
    by_split = same_classes(content.splits) if closed else content.splits
    limits = {"train": options.train_rows, "test": options.test_rows}
    files = {split: interleave(by_class)[: limits.get(split)] for split, by_class in by_split.items()}
    train = files["train"]
    size, why = chosen_size(options.image_size, _pictures(train[:: -(-len(train) // N_EXAMPLES)]).encoded())
    reader = PictureReader(size, why, options)
    read = {split: reader.read(_pictures(f), split) for split, f in files.items()}
    splits, notes = with_same_channels(read)
    classes = tuple(by_split["train"])
    return RawData(
        name=path.resolve().name or source,
        train=splits["train"],
        val=splits.get("val"),
        test=splits.get("test"),
        classes=classes if closed else None,
        flip_safe=is_flip_safe(classes) if closed else True,
        pictures=True,
        notes=(*reader.notes(), *notes, *content.notes, *_left_out(content.left_out)),
        skipped=content.left_out.counts + reader.left_out.counts,
        picture_steps=reader.steps(splits),
        groups={s: _groups(files[s], read[s].rows) for s in files} if options.group is not None else {},
    )


def _is_grouped(group: str | None) -> bool:
    """Whether `data.group` asks for folders; of a folder of pictures nothing else is known.

    Raises:
        InputError: it names anything else.
    """
    if group not in (None, BY_FOLDER):
        raise InputError(
            f'data.group = {group!r}: pictures in folders are grouped by "{BY_FOLDER}" alone, as path/CLASS/GROUP/*.png'
        )
    return group is not None


def _groups(files: Sequence[tuple[Label, Path]], rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """The folder that each picture lies in, below that of its class."""
    return np.array([files[row][1].parent.name for row in rows.tolist()])


def _folder(path: Path | None, source: str) -> Path:
    if path is None:
        raise InputError(f"source {source!r} needs data.path, the folder")
    if path.is_file():
        raise InputError(f"{path} is {describe_file(path)}; data.path must be the folder (unpack an archive first)")
    if not path.is_dir():
        raise InputError(f"no such folder: {path}")
    return path


def _left_out(left_out: LeftOut) -> list[str]:
    return [f"entries that were not read: {left_out.summary()}"] if left_out.counts else []


def _pictures(samples: Sequence[tuple[Label, Path]]) -> FolderPictures:
    return FolderPictures(samples, lambda name, file: f"{name}/{file.name}")


def interleave(by_class: ByClass) -> list[tuple[Label, Path]]:
    """Order files as the first of each class, then the second of each: the first N rows are a balanced subset."""
    ranked = [(rank, name, file) for name, files in by_class.items() for rank, file in enumerate(files)]
    return [(name, file) for _, name, file in sorted(ranked, key=lambda item: item[:2])]


PLUGIN = ImageFolder()
