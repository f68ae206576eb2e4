"""A folder of images by class: `path/<class>/*.png`, or `path/train|val|test/<class>/*.png`."""

from pathlib import Path

from nas_kd.config.options import DataOptions
from nas_kd.data.image_decoding import DecodedImages, EncodedImage, decode_images, stack_splits
from nas_kd.data.picture_steps import PictureSteps
from nas_kd.data.source import SPLITS, RawData, error_summary, is_flip_safe
from nas_kd.errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
DEFAULT_SIZE = 32  # pixels
Skipped = dict[str, int]  # reason -> number of entries that were skipped


class ImageFolder:
    """Images of any size and 8-bit mode; the centre square is resized to `image_size` (32) pixels."""

    name = "image_folder"
    summary = "a folder of images, one sub-folder a class, optionally below train, val and test"
    uses = frozenset({"path", "image_size"})

    def load(self, options: DataOptions) -> RawData:
        """Decode every image; links that lead out of the folder are skipped and noted.

        Args:
            options: `path`, and optionally `image_size`, `train_rows`, `test_rows`.

        Raises:
            InputError: there is no such folder, no class folder, or a broken image.
        """
        if options.path is None:
            raise InputError("source 'image_folder' needs data.path, the folder")
        if not options.path.is_dir():
            raise InputError(f"no such folder: {options.path}")
        size = options.image_size or DEFAULT_SIZE
        skipped: Skipped = {}
        try:
            files = list_splits(options.path, skipped)
        except OSError as error:
            raise InputError(f"cannot list {options.path}: {error_summary(error)}") from error
        classes = _classes(files)
        limits = {"train": options.train_rows, "test": options.test_rows}
        decoded = {split: _decode(by_class, limits.get(split), size) for split, by_class in files.items()}
        splits, notes = stack_splits(decoded)
        skips = [f"{what}: {count:,}" for what, count in skipped.items()]
        return RawData(
            name=options.path.resolve().name or self.name,
            train=splits["train"],
            val=splits.get("val"),
            test=splits.get("test"),
            classes=classes,
            flip_safe=is_flip_safe(classes),
            pictures=True,
            picture_steps=PictureSteps.of_arrays(splits["train"].x.shape[1:]),
            notes=(f"images: centre square, {size}x{size} pixels", *notes, *skips),
        )


def _decode(by_class: dict[str, list[Path]], rows: int | None, size: int) -> DecodedImages:
    samples = interleave(by_class)[:rows]
    return decode_images((EncodedImage(file, name, str(file)) for name, file in samples), len(samples), size)


def list_splits(root: Path, skipped: Skipped) -> dict[str, dict[str, list[Path]]]:
    """List image files by split and class, sorted by name.

    Args:
        root: the folder of class folders, or of train, val and test.
        skipped: counts entries that were left out, by reason; updated in place.

    Raises:
        InputError: there is no class folder, or one without images.
    """
    inside = root.resolve()
    if not (root / "train").is_dir():
        return {"train": _list_classes(root, inside, skipped)}
    for entry in _entries(root, inside, skipped):
        if entry.name not in SPLITS:
            _skip(skipped, "entries beside train, val and test were not read")
    folders = {split: root / split for split in SPLITS if (root / split).is_dir()}
    for folder in folders.values():
        if not _leads_inside(folder, inside):
            raise InputError(f"{folder} is a link that leads out of data.path; copy the folder there")
    return {split: _list_classes(folder, inside, skipped) for split, folder in folders.items()}


def _list_classes(folder: Path, inside: Path, skipped: Skipped) -> dict[str, list[Path]]:
    found = {}
    for entry in _entries(folder, inside, skipped):
        if not entry.is_dir():
            _skip(skipped, "files outside the class folders were not read")
            continue
        found[entry.name] = _list_images(entry, inside, skipped)
        if not found[entry.name]:
            raise InputError(f"class folder {entry} has no images ({' '.join(sorted(SUFFIXES))})")
    if not found:
        raise InputError(f"{folder} has no class folders; want {folder.name}/<class>/*.png")
    return found


def _list_images(folder: Path, inside: Path, skipped: Skipped) -> list[Path]:
    files = []
    for entry in _entries(folder, inside, skipped):
        if entry.is_file() and entry.suffix.lower() in SUFFIXES:
            files.append(entry)
        else:
            _skip(skipped, "entries of class folders are not image files and were not read")
    return files


def _entries(folder: Path, inside: Path, skipped: Skipped) -> list[Path]:
    """Visible entries, sorted; a link out of the data set is skipped, as it could expose other files."""
    entries = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if _leads_inside(entry, inside):
            entries.append(entry)
        else:
            _skip(skipped, "links that lead out of the folder were not followed")
    return entries


def _leads_inside(entry: Path, inside: Path) -> bool:
    try:
        return entry.resolve().is_relative_to(inside)
    except (OSError, RuntimeError):  # circular links
        return False


def _skip(skipped: Skipped, what: str) -> None:
    skipped[what] = skipped.get(what, 0) + 1


def _classes(files: dict[str, dict[str, list[Path]]]) -> tuple[str, ...]:
    classes = tuple(files["train"])
    for split, by_class in files.items():
        extra = sorted(set(by_class) - set(classes))
        if extra:
            raise InputError(f"class {extra[0]!r} of {split} does not occur in train ({', '.join(classes)})")
    return classes


def interleave(by_class: dict[str, list[Path]]) -> list[tuple[str, Path]]:
    """Order files as the first of each class, then the second of each: the first N rows are a balanced subset."""
    ranked = [(rank, name, file) for name, files in by_class.items() for rank, file in enumerate(files)]
    return [(name, file) for _, name, file in sorted(ranked, key=lambda item: item[:2])]


PLUGIN = ImageFolder()
