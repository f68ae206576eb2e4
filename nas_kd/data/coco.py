"""Boxes in COCO's JSON (Lin et al. 2014, arXiv:1405.0312): one file a split, and a folder of pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_kd.config.options import DataOptions
from nas_kd.data.box_pictures import BOX_OPTIONS, BoxPicture, FoundPictures, load_box_pictures
from nas_kd.data.box_rules import Box, BoxRules
from nas_kd.data.file_kind import describe_file
from nas_kd.data.source import RawData, error_summary
from nas_kd.data.split_names import SPLITS
from nas_kd.errors import InputError, printable

MISSING, STRANGE = "picture that is not there", "of no picture or class of the file"


class Coco:
    """`train`, and optionally `val` and `test`: JSON files; `images`: the folder of the pictures that they name."""

    name = "coco"
    summary = "pictures with boxes: COCO JSON files, and the folder of the pictures that they name"
    uses = BOX_OPTIONS | {"images", "train", "val", "test"}

    def load(self, options: DataOptions) -> RawData:
        """Read boxes and decode pictures; what is left out is counted and said.

        Args:
            options: `train`, `images`, and optionally `val`, `test`, `image_size`, `on_error`, `cache`, `cache_gb`.

        Raises:
            InputError: a file is missing or is not COCO's, or pictures or boxes are broken.
        """
        files = {split: path for split in SPLITS if (path := _single_file(options, split)) is not None}
        if "train" not in files:
            raise InputError("source 'coco' needs data.train, a JSON file with images, annotations and categories")
        folder = options.images or files["train"].parent
        if not folder.is_dir():
            raise InputError(f"data.images: no such folder: {folder}")
        rules = BoxRules(skips=options.on_error == "skip")
        documents = {split: _read(path) for split, path in files.items()}
        classes = {split: _classes(document, files[split]) for split, document in documents.items()}
        splits = {
            split: _pictures(document, classes[split], folder, files[split].name, rules)
            for split, document in documents.items()
        }
        names = tuple(dict.fromkeys(name for split in classes.values() for name in split.values()))
        name = files["train"].parent.resolve().name or self.name
        return load_box_pictures(FoundPictures(name, splits, names, rules), options)


def _single_file(options: DataOptions, split: str) -> Path | None:
    given = getattr(options, split)
    if isinstance(given, tuple):
        raise InputError(f"source 'coco' takes one file as data.{split}, got {len(given)}")
    if given is not None and not given.is_file():
        raise InputError(f"data.{split}: no such file: {given}")
    return given if given is None else Path(given)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON file, it is {describe_file(path)} ({error_summary(error)})") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(isinstance(document.get(part), list) for part in parts):
        raise InputError(f"{path} is not COCO's: want an object with the lists images, annotations and categories")
    if not document["images"]:
        raise InputError(f"{path} names no images")
    return document


def _classes(document: Mapping[str, Any], path: Path) -> dict[Any, str]:
    """Names by category number."""
    try:
        found = {category["id"]: str(category["name"]) for category in document["categories"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: a category lacks id or name ({error_summary(error)})") from error
    if len(set(found.values())) < len(document["categories"]):
        raise InputError(f"{path}: names or numbers of categories occur twice")
    return found


def _pictures(
    document: Mapping[str, Any], classes: Mapping[Any, str], folder: Path, where: str, rules: BoxRules
) -> list[BoxPicture]:
    boxes: dict[Any, list[Box]] = {}
    try:
        images = {image["id"]: (str(image["file_name"]), _size(image)) for image in document["images"]}
        for annotation in document["annotations"]:
            box, of, label = annotation.get("bbox"), annotation["image_id"], classes.get(annotation["category_id"])
            if of not in images or label is None or box is None:
                told = (
                    f"{where}: annotation {annotation.get('id')!r} is of an image or category that is not in the file"
                )
                rules.refuse_or_skip(told if box is not None else f"{told}, or has no bbox", STRANGE, where)
                continue
            x, y, width, height = map(float, box)
            crowd = bool(annotation.get("iscrowd", 0))
            boxes.setdefault(of, []).append(Box(label, x, y, x + width, y + height, crowd))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        wanted = "images want id and file_name; annotations want image_id, category_id and bbox [x, y, width, height]"
        raise InputError(f"{where}: {wanted} ({error_summary(error)})") from error
    found, inside = [], folder.resolve()
    for number, (name, size) in images.items():
        file = folder / name
        if not file.is_file() or not file.resolve().is_relative_to(inside):
            rules.refuse_or_skip(f"{where} names {name!r}, which is not in {folder}", MISSING, printable(name))
            continue
        found.append(BoxPicture(file, printable(name), boxes.get(number, []), size=size))
    if not found:
        raise InputError(f"{where}: none of its {len(images):,} images is in {folder}; data.images is their folder")
    return found


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if height and width else None


PLUGIN = Coco()
