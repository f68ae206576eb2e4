"""Pictures with a mask each: `path/{train,val,test}/{images,masks}`, or `path/{images,masks}`.

A mask has the name of its picture, with any suffix, and its size. It is a grey or a palette picture whose values are
classes; `data.void_value` does not count. `path/classes.txt` may name the classes, one a line, from value 0 on.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas_kd.config.options import DataOptions
from nas_kd.data.encoded_pictures import EncodedImage, FolderPictures, Label, chosen_size
from nas_kd.data.folder_listing import list_pictures
from nas_kd.data.image_decoding import PictureReader
from nas_kd.data.mask_files import MaskedPicture, MaskReader
from nas_kd.data.notes import LeftOut
from nas_kd.data.source import Arrays, RawData, error_summary
from nas_kd.data.split_names import SPLITS, split_named
from nas_kd.data.stacked_pictures import ReadPictures, with_same_channels
from nas_kd.errors import InputError, few, printable

IMAGES, MASKS, CLASSES = "images", "masks", "classes.txt"
N_EXAMPLES = 500  # training pictures whose headers decide the size of samples
WANTED = f"want {IMAGES}/ and {MASKS}/, or train/, val/ and test/ with these in each"


class MaskFolder:
    """Pictures and masks in folders, brought to one size: masks by their nearest pixel."""

    name = "mask_folder"
    summary = "a folder of images/ and masks/ (PNG, values are classes), optionally below train, val and test"
    uses = frozenset({"path", "image_size", "resize", "follow_links", "on_error", "cache", "cache_gb", "void_value"})

    def load(self, options: DataOptions) -> RawData:
        """Read every picture that has a mask; what is left out is counted and said.

        Args:
            options: `path`, and optionally the others of `uses`, `train_rows` and `test_rows`.

        Raises:
            InputError: there are no such folders, or a picture or mask is broken.
        """
        root = _folder(options.path)
        rows = {"train": options.train_rows, "test": options.test_rows}
        left_out, pairs = LeftOut(), dict[str, list[_Pair]]()
        for split, folder in _splits(root).items():
            pairs[split] = _pairs(folder, options, left_out)[: rows.get(split)]
        train = pairs["train"]
        size, why = chosen_size(options.image_size, _pictures(train[:: -(-len(train) // N_EXAMPLES)]).encoded())
        masks = MaskReader(size, options, _class_names(root))
        usable = {
            split: [files[place] for place in masks.check((f.masked for f in files), split)]
            for split, files in pairs.items()
        }
        reader = PictureReader(size, why, options)
        read = {split: reader.read(_pictures(files), split) for split, files in usable.items()}
        splits, notes = with_same_channels(read)
        with_masks = {
            split: Arrays(
                arrays.x,
                masks.read((usable[split][row].masked.mask for row in _rows(read[split])), len(_rows(read[split]))),
            )
            for split, arrays in splits.items()
        }
        left_out.include(masks.left_out)
        left_out.include(reader.left_out)
        said = left_out.summary()
        return RawData(
            name=root.resolve().name or self.name,
            train=with_masks["train"],
            val=with_masks.get("val"),
            test=with_masks.get("test"),
            classes=masks.classes,
            flip_safe=True,
            pictures=True,
            notes=(*reader.notes(), *notes, *masks.notes(), *([f"left out: {said}"] if said else [])),
            skipped=left_out.counts,
            picture_steps=reader.steps(splits),
        )


@dataclass(frozen=True)
class _Pair:
    """A picture's file, and that of its mask."""

    picture: Path
    mask: Path

    @property
    def masked(self) -> MaskedPicture:
        """Both files, as masks and pictures are read."""
        picture, mask = (EncodedImage(path, 0, str(path)) for path in (self.picture, self.mask))
        return MaskedPicture(picture, mask, self.mask.name)


def _folder(path: Path | None) -> Path:
    if path is None:
        raise InputError("source 'mask_folder' needs data.path, the folder")
    if not path.is_dir():
        raise InputError(
            f"{path} is a file; data.path must be the folder" if path.exists() else f"no such folder: {path}"
        )
    return path


def _splits(root: Path) -> dict[str, Path]:
    """Folders with images/ and masks/ by split."""
    if (root / IMAGES).is_dir():
        return {"train": root}
    named = {split_named(p.name): p for p in sorted(root.iterdir()) if p.is_dir() and split_named(p.name)}
    if "train" not in named:
        found = few([p.name for p in sorted(root.iterdir())]) or "nothing"
        raise InputError(f"{printable(root)} has {found}; {WANTED}")
    return {split: named[split] for split in SPLITS if split in named}


def _pairs(folder: Path, options: DataOptions, left_out: LeftOut) -> list[_Pair]:
    """Pictures and their masks by name; what lacks the other one is refused, or left out and counted."""
    for inner in (IMAGES, MASKS):
        if not (folder / inner).is_dir():
            raise InputError(f"{printable(folder)} has no folder {inner}/; {WANTED}")
    try:
        images, others = list_pictures(folder / IMAGES, options.follow_links)
        masks, more = list_pictures(folder / MASKS, options.follow_links)
    except OSError as error:
        raise InputError(f"cannot list {printable(folder)}: {error_summary(error)}") from error
    left_out.include(others)
    left_out.include(more)
    of_images, of_masks = (
        {_key(folder / inner, p): p for p in found} for inner, found in ((IMAGES, images), (MASKS, masks))
    )
    for here, there, lacking in ((of_images, of_masks, "a mask"), (of_masks, of_images, "a picture")):
        for key in [key for key in here if key not in there]:
            if options.on_error == "fail":
                raise InputError(
                    f"{printable(here[key])}: has no {lacking[2:]} of its name; "
                    'data.on_error = "skip" leaves such files out'
                )
            left_out.add(f"without {lacking}", here[key].name)
    found = [_Pair(of_images[key], of_masks[key]) for key in of_images if key in of_masks]
    if not found:
        raise InputError(
            f"{printable(folder)} has {len(images):,} pictures and {len(masks):,} masks, no two of one name"
        )
    return found


def _key(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder).with_suffix(""))


def _class_names(root: Path) -> tuple[str, ...] | None:
    path = root / CLASSES
    if not path.is_file():
        return None
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {printable(path)}: {error_summary(error)}") from error
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"{printable(path)} must name two classes or more, each once, one a line; it has {few(names)}")
    return names


def _pictures(files: list[_Pair]) -> FolderPictures:
    """The pictures, whose labels are their places in the list."""
    rows: list[tuple[Label, Path]] = [(row, file.picture) for row, file in enumerate(files)]
    return FolderPictures(rows, lambda _, path: f"{path.parent.parent.name}/{path.name}")


def _rows(read: ReadPictures) -> list[int]:
    """Places of the pictures that were not broken."""
    return [int(row) for row in np.asarray(read.labels, dtype=np.int64)]


PLUGIN = MaskFolder()
