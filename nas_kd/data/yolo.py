"""Boxes in YOLO's text files: a line `class column row width height` for each box, in shares of the picture's sides."""

from pathlib import Path
from typing import Any

from nas_kd.config.options import DataOptions
from nas_kd.data.box_pictures import BOX_OPTIONS, BoxPicture, FoundPictures, load_box_pictures
from nas_kd.data.box_rules import Box, BoxRules
from nas_kd.data.folder_listing import SUFFIXES
from nas_kd.data.source import RawData, error_summary, optional_module
from nas_kd.data.split_names import SPLITS, split_named
from nas_kd.errors import InputError, printable

PICTURES, TEXTS = "images", "labels"
NAME_FILES = ("classes.txt", "obj.names")
BROKEN = "line that cannot be read"


class Yolo:
    """`path`: a folder with images/train and labels/train (or train/images and train/labels), val and test alike.

    Names of the classes are those of data.yaml, classes.txt or obj.names, else numbers. Pictures without a text file
    have no boxes.
    """

    name = "yolo"
    summary = "pictures with boxes: YOLO's folders images and labels, a text file a picture"
    uses = BOX_OPTIONS | {"path"}

    def load(self, options: DataOptions) -> RawData:
        """Read boxes and decode pictures; what is left out is counted and said.

        Args:
            options: `path`, and optionally `image_size`, `on_error`, `cache`, `cache_gb`.

        Raises:
            InputError: a folder is missing, or lines, pictures or boxes are broken.
        """
        path = options.path
        if path is None or not path.is_dir():
            raise InputError(f"source 'yolo' needs data.path, a folder with {PICTURES}/ and {TEXTS}/; got {path}")
        names, rules = _names(path), BoxRules(skips=options.on_error == "skip")
        splits = {split: _pictures(*folders, names, rules) for split, folders in _folders(path).items()}
        found = sorted({box.label for pictures in splits.values() for one in pictures for box in one.boxes})
        classes = tuple(names.values()) if names else tuple(sorted(found, key=int))
        return load_box_pictures(FoundPictures(path.resolve().name or self.name, splits, classes, rules), options)


def _folders(path: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of pictures and of text files by split."""
    found: dict[str, tuple[Path, Path]] = {}
    for folder in sorted(p for p in (*path.iterdir(), *path.glob(f"{PICTURES}/*")) if p.is_dir()):
        if (split := split_named(folder.name)) is None:
            continue
        inner = folder.parent.name == PICTURES
        pair = (folder, path / TEXTS / folder.name) if inner else (folder / PICTURES, folder / TEXTS)
        if pair[0].is_dir():
            found[split] = pair
    if not found and (path / PICTURES).is_dir():
        found["train"] = path / PICTURES, path / TEXTS
    if "train" not in found:
        raise InputError(f"{path} has neither {PICTURES}/train nor train/{PICTURES}, the folder of the pictures")
    return {split: found[split] for split in SPLITS if split in found}


def _names(path: Path) -> dict[int, str]:
    """Names by class number; empty: nothing names them."""
    for file in (path / name for name in NAME_FILES):
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            return _unique(file, dict(enumerate(line.strip() for line in lines if line.strip())))
    if (file := path / "data.yaml").is_file():
        return _unique(file, _names_of_yaml(file))
    return {}


def _names_of_yaml(file: Path) -> dict[int, str]:
    yaml: Any = optional_module("yaml", "pyyaml", "yolo")
    try:
        listed = yaml.safe_load(file.read_text(encoding="utf-8"))["names"]
        given = listed if isinstance(listed, dict) else dict(enumerate(listed))
        return {int(number): str(name) for number, name in given.items()}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{file}: want names, a list of the classes ({error_summary(error)})") from error


def _unique(file: Path, names: dict[int, str]) -> dict[int, str]:
    if len(set(names.values())) < len(names):
        raise InputError(f"{file} names a class twice")
    return dict(sorted(names.items()))


def _pictures(pictures: Path, texts: Path, names: dict[int, str], rules: BoxRules) -> list[BoxPicture]:
    files = sorted(file for file in pictures.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{pictures} has no pictures")
    return [BoxPicture(f, printable(f.name), _boxes(texts / f"{f.stem}.txt", names, rules), shares=True) for f in files]


def _boxes(file: Path, names: dict[int, str], rules: BoxRules) -> list[Box]:
    if not file.is_file():
        return []
    boxes = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not (words := line.split()):
            continue
        try:
            label, column, row, width, height = int(words[0]), *map(float, words[1:])
            name = names[label] if names else str(label)
        except (ValueError, KeyError):
            wanted = "class column row width height, shares of the sides" + (", class a named one" if names else "")
            rules.refuse_or_skip(f"{file}, line {number}: {line.strip()!r}; want {wanted}", BROKEN, file.name)
            continue
        boxes.append(Box(name, column - width / 2, row - height / 2, column + width / 2, row + height / 2))
    return boxes


PLUGIN = Yolo()
