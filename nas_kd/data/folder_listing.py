"""Finds train, val and test and their classes in a folder of pictures, and says what was found where it cannot."""

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas_kd.data.notes import LeftOut
from nas_kd.data.split_names import SPLITS, split_named
from nas_kd.errors import InputError, few, printable

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
HIDDEN = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})  # what systems put beside, besides names with a dot
NOT_A_PICTURE = "not a picture by suffix"
OUTSIDE = "link that leads out of the folder (data.follow_links = true follows it)"
MOST_WRAPPERS = 3  # folders that hold nothing but one folder, as unpacking leaves them
WANTED = "want <class>/*.png, or the same in train/, val/ and test/ (or training, valid, validation, dev, testing)"

ByClass = dict[str, list[Path]]


@dataclass(frozen=True)
class Entries:
    """What is in one folder: folders and pictures, sorted by name, and what else there is."""

    folders: tuple[Path, ...]
    pictures: tuple[Path, ...]
    left_out: LeftOut

    def found(self) -> str:
        """Count folders and pictures, for messages."""
        parts = [
            f"{len(self.folders):,} folders" * bool(self.folders),
            f"{len(self.pictures):,} pictures" * bool(self.pictures),
            self.left_out.summary(),
        ]
        return f"found {'; '.join(filter(None, parts)) or 'nothing'}"


@dataclass(frozen=True)
class FolderContent:
    """Picture files by split and class.

    Attributes:
        splits: files by split and class, sorted by name.
        left_out: entries of the folders that were read.
        notes: which folders were taken for what, where that is not plain.
    """

    splits: dict[str, ByClass]
    left_out: LeftOut
    notes: tuple[str, ...]


def list_folder(root: Path, follow_links: bool, *, grouped: bool = False) -> FolderContent:
    """List picture files by split and class.

    Args:
        root: the folder of class folders, or of train, val and test in any of their spellings.
        follow_links: read what links out of the folder lead to.
        grouped: class folders hold folders of pictures that belong together.

    Raises:
        InputError: there are no class folders, one has no pictures, or the splits cannot be told.
        OSError: a folder cannot be listed.
    """
    return _Reader(root, follow_links, grouped=grouped).content()


def list_pictures(root: Path, follow_links: bool) -> tuple[list[Path], LeftOut]:
    """List all pictures below a folder, however deep, sorted by folder and name; and count what else there is.

    Args:
        root: the folder.
        follow_links: read what links out of the folder lead to.

    Raises:
        OSError: a folder cannot be listed.
    """
    return _Reader(root, follow_links).pictures()


class _Reader:
    def __init__(self, path: Path, follow_links: bool, *, grouped: bool = False) -> None:
        self._path, self._inside, self._follows, self._grouped = path, path.resolve(), follow_links, grouped
        self._listed: dict[Path, Entries] = {}
        self._left_out, self._notes = LeftOut(), list[str]()

    def content(self) -> FolderContent:
        root = self._path
        named = self._split_folders(root)
        for _ in range(MOST_WRAPPERS):
            inner = self._wrapped(root)
            if "train" in named or inner is None or split_named(inner.name):
                break
            root = inner
            named = self._split_folders(root)
        if root != self._path:
            self._notes.append(f"read from {self._name(root)}/: the only folder there is")
        if "train" not in named:
            splits = {"train": self._classes("train", root)}
        else:
            self._note_unread(root, named)
            splits = {split: self._split(split, named[split]) for split in SPLITS if split in named}
        return FolderContent(splits, self._left_out, tuple(self._notes))

    def pictures(self) -> tuple[list[Path], LeftOut]:
        found, waiting, seen = list[Path](), [self._path], set[Path]()
        while waiting:
            folder = waiting.pop(0)
            if (real := folder.resolve()) in seen:  # a link that leads back
                continue
            seen.add(real)
            entries = self._list(folder)
            self._left_out.include(entries.left_out)
            found += entries.pictures
            waiting += entries.folders
        return found, self._left_out

    def _split_folders(self, root: Path) -> dict[str, Path]:
        """Folders by the split that their name says; none if there is no train, or if it is a class of that name."""
        self._refuse_linked_splits(root)
        folders = self._list(root).folders
        named: dict[str, list[Path]] = {}
        for folder in folders:
            if split := split_named(folder.name):
                named.setdefault(split, []).append(folder)
        classes = [folder for folder in folders if self._is_class(folder)]
        trains = named.get("train", [])
        if not trains or (all(f in classes for f in trains) and any(split_named(f.name) is None for f in classes)):
            return {}
        for split, found in named.items():
            if len(found) > 1:
                both = " and ".join(f"{printable(folder.name)}/" for folder in found)
                raise InputError(f"{printable(root)} has {both}, all for {split}: keep one of them")
            if found[0] in classes:
                raise self._without_classes(split, found[0])
        return {split: found[0] for split, found in named.items()}

    def _refuse_linked_splits(self, root: Path) -> None:
        for path in sorted(root.iterdir()):
            if split_named(path.name) and not self._leads_inside(path):
                raise InputError(
                    f"{printable(path)} is a link that leads out of data.path; data.follow_links = true follows it"
                )

    def _is_class(self, folder: Path) -> bool:
        """Whether it holds pictures and no folders."""
        entries = self._list(folder)
        return bool(entries.pictures) and not entries.folders

    def _without_classes(self, split: str, folder: Path) -> InputError:
        way = "" if split == "train" else f"; or move it elsewhere, and {split} is carved from train"
        return InputError(
            f"{printable(folder)} has {len(self._list(folder).pictures):,} pictures and no class folders, which would "
            f"be their labels; want {printable(folder.name)}/<class>/*.png{way}"
        )

    def _wrapped(self, folder: Path) -> Path | None:
        """The only folder in this one, if it holds folders and neither holds pictures."""
        entries = self._list(folder)
        if len(entries.folders) != 1 or entries.pictures:
            return None
        inner = self._list(entries.folders[0])
        return entries.folders[0] if inner.folders and not inner.pictures else None

    def _note_unread(self, root: Path, named: Mapping[str, Path]) -> None:
        entries = self._list(root)
        for path in (*entries.folders, *entries.pictures):
            if path not in named.values():
                self._left_out.add("beside the splits", path.name)
        self._left_out.include(entries.left_out)

    def _split(self, split: str, folder: Path) -> ByClass:
        inner = self._wrapped(folder)
        if inner is not None:
            self._notes.append(f"{split} was read from {self._name(inner)}/: the only folder there is")
        return self._classes(split, inner or folder)

    def _classes(self, split: str, folder: Path) -> ByClass:
        entries = self._list(folder)
        if not entries.folders:
            way = "" if split == "train" else f"; remove it, and {split} is carved from train"
            raise InputError(f"{printable(folder)} has no class folders: {entries.found()}; {WANTED}{way}")
        by_class = {_utf8_name(path): self._of_class(path) for path in entries.folders}
        self._check_empty(split, folder, by_class)
        self._left_out.include(entries.left_out)
        for picture in entries.pictures:
            self._left_out.add("picture outside the class folders", picture.name)
        for name, found in by_class.items():
            self._left_out.include(found.left_out)
            for inner in found.folders:
                self._left_out.add("folder inside a class folder", f"{name}/{inner.name}")
        return {name: list(found.pictures) for name, found in by_class.items() if found.pictures}

    def _of_class(self, folder: Path) -> Entries:
        """What is in a class folder; where pictures are grouped, what is in the folders there."""
        own = self._list(folder)
        if not self._grouped:
            return own
        left_out, groups = LeftOut(), [self._list(group) for group in own.folders]
        for entries in (own, *groups):
            left_out.include(entries.left_out)
        for path in (*own.pictures, *(deeper for entries in groups for deeper in entries.folders)):
            left_out.add("not in a group folder, or a folder inside of one", self._name(path))
        return Entries((), tuple(picture for entries in groups for picture in entries.pictures), left_out)

    def _check_empty(self, split: str, folder: Path, by_class: Mapping[str, Entries]) -> None:
        """Refuse class folders without pictures; a class that val or test lacks is only said."""
        empty = [name for name, found in by_class.items() if not found.pictures]
        nested = [name for name in empty if by_class[name].folders]
        if nested:
            what = "is this a split" if len(nested) == 1 else "are these splits"
            found = "; ".join(
                f"{printable(n)} has {len(by_class[n].folders)} folders and no images" for n in nested[:3]
            )
            raise InputError(f"in {printable(folder)}, {found}: {what}? {WANTED}")
        if empty and split == "train":
            raise InputError(
                f"class folder {printable(folder / empty[0])} has no images ({by_class[empty[0]].found()}); "
                "add some, or remove the folder"
            )
        if len(empty) == len(by_class):
            raise InputError(
                f"{printable(folder)} has no pictures in any of its {len(empty)} class folders; "
                f"remove it, and {split} is carved from train"
            )
        if empty:
            self._notes.append(f"classes without pictures in {split}: {few(empty)}")

    def _list(self, folder: Path) -> Entries:
        if folder not in self._listed:
            self._listed[folder] = self._read(folder)
        return self._listed[folder]

    def _read(self, folder: Path) -> Entries:
        folders, pictures, left_out = list[Path](), list[Path](), LeftOut()
        with os.scandir(folder) as found:  # which knows kinds of entries without asking for each
            entries = sorted(found, key=lambda entry: os.path.normcase(entry.name))
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name in HIDDEN:
                left_out.add("hidden", entry.name)
            elif entry.is_symlink() and not path.exists():
                left_out.add("link to nothing", self._name(path))
            elif entry.is_symlink() and not self._leads_inside(path):
                left_out.add(OUTSIDE, self._name(path))
            elif entry.is_dir():
                folders.append(path)
            elif not entry.is_file():
                left_out.add("neither a file nor a folder", self._name(path))
            elif path.suffix.lower() in SUFFIXES:
                pictures.append(path)
            else:
                left_out.add(NOT_A_PICTURE, self._name(path))
        return Entries(tuple(folders), tuple(pictures), left_out)

    def _leads_inside(self, entry: Path) -> bool:
        """Whether an entry is inside of the data set; a link out of it could expose other files."""
        if self._follows or not entry.is_symlink():
            return True
        try:
            return entry.resolve().is_relative_to(self._inside)
        except (OSError, RuntimeError):  # circular links
            return False

    def _name(self, path: Path) -> str:
        return printable(path.relative_to(self._path))


def _utf8_name(folder: Path) -> str:
    """Name of a class folder, which goes into records and cards."""
    try:
        folder.name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"the name of class folder {printable(folder)} is not UTF-8; rename it") from error
    return folder.name


def same_classes(splits: dict[str, ByClass]) -> dict[str, ByClass]:
    """Call the classes of val and test as train does; names may differ in how accents are stored, as on macOS.

    Raises:
        InputError: train lacks a class of another split.
    """
    spelled = {unicodedata.normalize("NFC", name): name for name in splits["train"]}
    called = {
        split: {spelled.get(unicodedata.normalize("NFC", name), name): files for name, files in by_class.items()}
        for split, by_class in splits.items()
    }
    for split, by_class in called.items():
        if extra := sorted(set(by_class) - set(called["train"])):
            known = few(tuple(called["train"]))
            raise InputError(f"class {printable(extra[0])!r} of {split} does not occur in train ({known})")
    return called
