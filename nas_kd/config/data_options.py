"""The options of `[data]`: where samples come from, and how they are augmented."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from nas_kd.config.key_facts import NotInKeysAtDefault
from nas_kd.config.section import Options
from nas_kd.config.value_types import AutoFloat, AutoIfNone, MayBeAuto

SMALLEST_SIDE, LARGEST_SIDE = 4, 1024  # pixels


def _checked_size(value: Any) -> Any:
    """A side, or (height, width); pydantic's own message would speak of the parts of a union."""
    if value is None:
        return None
    pair = isinstance(value, list | tuple)
    sides = value if pair else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or (pair and len(sides) != 2) or not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in sides):
        raise ValueError(
            f"must be a side in pixels from {SMALLEST_SIDE} to {LARGEST_SIDE}, or [height, width], got {value!r}"
        )
    return tuple(value) if pair else value


def _checked_files(value: Any) -> Any:
    """A path, or a tuple of paths."""
    given = value if isinstance(value, list | tuple) else [value]
    if value is not None and (not given or not all(isinstance(path, str | Path) and str(path) for path in given)):
        raise ValueError(f"must be a file, a folder or a pattern (a text), or a list of these, got {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _checked_cache(value: Any) -> Any:
    """A folder, or false."""
    if value is not None and value is not False and not (isinstance(value, str | Path) and str(value)):
        raise ValueError(f'must be a folder (a text), "auto" or false, got {value!r}')
    return value


ImageSize = Annotated[int | tuple[int, int] | None, BeforeValidator(_checked_size)]
Files = Annotated[Path | tuple[Path, ...] | None, BeforeValidator(_checked_files)]


class Augmentation(Options):
    """Random changes of training images; what is given is kept, the rest follows the strength."""

    strength: Annotated[Literal["none", "standard", "strong"] | None, MayBeAuto, AutoIfNone()] = Field(
        None,
        description="none | standard: shifts and mirroring | strong: cutout, too; photographs (96 pixels and more): "
        "random resized crops and mirroring | colours, operations and erasing, too; auto: standard for pictures, "
        "none for arrays, unless short trainings show better",
    )
    crop: int | None = Field(
        None,
        ge=0,
        description="largest random shift in pixels (default: an eighth of the side; 0 with resized_crop)",
    )
    flip: bool | None = Field(
        None, description="random left-right mirroring (default: colour pictures, not of symbols)"
    )
    cutout: int | None = Field(
        None,
        ge=0,
        description="side in pixels of a randomly placed square that is blanked (default: 0; strong: a quarter)",
    )
    resized_crop: Annotated[float | None, NotInKeysAtDefault()] = Field(
        None,
        gt=0,
        le=1,
        description="least share of the area that a random crop keeps, which is resized to the whole; 1: no crop "
        "(default: 1; photographs: 0.35)",
    )
    colour: Annotated[float | None, NotInKeysAtDefault()] = Field(
        None,
        ge=0,
        le=1,
        description="brightness, contrast and saturation change by up to this share (default: 0; photographs, strong: "
        "0.2)",
    )
    operations: Annotated[int | None, NotInKeysAtDefault()] = Field(
        None,
        ge=0,
        le=8,
        description="number of random operations of RandAugment on a picture (default: 0; photographs, strong: 1)",
    )
    erase: Annotated[float | None, NotInKeysAtDefault()] = Field(
        None,
        ge=0,
        le=1,
        description="probability that a random rectangle is blanked (default: 0; photographs, strong: 0.25)",
    )

    @property
    def resamples(self) -> bool:
        """Whether pictures are cropped and resized, or moved by random operations."""
        return self.resized_crop not in (None, 1) or bool(self.operations)

    @property
    def paints(self) -> bool:
        """Whether colours are changed, by jitter or by an operation."""
        return bool(self.colour or self.operations)


class DataOptions(Options):
    """Training, validation and test samples: where they come from."""

    source: str = Field(
        "digits",
        description="digits | parquet | image_folder | picture_table | mask_folder | parquet_masks | identity_folder | "
        "coco | voc | yolo | npz | package.module:function",
    )
    path: Path | None = Field(
        None,
        description="npz: the file; image_folder, identity_folder: the folder with one sub-folder per class or "
        "identity; picture_table: the folder of the pictures (default: that of the table); mask_folder: that of "
        "images/ and masks/; voc, yolo: the folder",
    )
    train: Files = Field(
        None,
        description="parquet: the training file; or a folder, a pattern (train-*.parquet) or a list of its shards; "
        "picture_table: a CSV or TSV table; coco: a JSON file",
    )
    val: Files = Field(None, description="the same for validation (default: carved from train)")
    test: Files = Field(None, description="the same for testing (default: carved from train)")
    images: Path | None = Field(
        None, description="coco: folder of the pictures that the files name (default: that of the training file)"
    )
    image_column: str | None = Field(
        None,
        description="parquet: column of the pictures (default: by name and type); picture_table: of their files",
    )
    label_column: str | None = Field(
        None, description="parquet, picture_table: column of the labels; parquet_masks: of the masks (default: by name)"
    )
    label_columns: Annotated[tuple[str, ...] | None, NotInKeysAtDefault()] = Field(
        None,
        min_length=2,
        description="parquet, picture_table: columns of several labels (1 or 0) or numbers, in place of label_column",
    )
    label_separator: Annotated[str | None, NotInKeysAtDefault()] = Field(
        None, min_length=1, description="picture_table: what separates the labels that a cell of label_column lists"
    )
    group: str | None = Field(
        None,
        description="what stays together when splits are carved, such as a patient: parquet, picture_table: a column | "
        "npz: an array, or one a split (patient_train) | image_folder: folder, of path/CLASS/GROUP/*.png (default: "
        "nothing)",
    )
    unlabelled: Files = Field(
        None,
        description="pictures or samples without labels; students learn from the teacher's outputs on them: a folder "
        "of pictures, Parquet files, or an .npy or .npz array",
    )
    unlabelled_share: AutoFloat = Field(
        None, gt=0, lt=1, description="share of a batch that is unlabelled; auto: as the data divide, at most 7/8"
    )
    train_rows: int | None = Field(None, ge=1, description="use only the first N training samples")
    test_rows: int | None = Field(None, ge=1, description="use only the first N test samples")
    val_fraction: float = Field(
        0.15, gt=0, lt=0.5, description="share of train used for validation where val is missing"
    )
    test_fraction: float = Field(0.2, gt=0, lt=0.5, description="share of train used for testing where test is missing")
    image_size: ImageSize = Field(
        None, description="pictures are resized to this side, or [height, width], pixels (default: theirs, at most 64)"
    )
    resize: Literal["crop", "letterbox", "stretch"] = Field(
        "crop",
        description="crop: the centre of the right shape | letterbox: the whole picture, with black bars | stretch: "
        "the whole picture, distorted; a teacher of your own needs what it was trained with",
    )
    layout: Literal["auto", "chw", "hwc", "hw", "ct", "tc"] = Field(
        "auto",
        description="npz: axes of a sample: chw or hwc: pictures with channels first or last | hw: grey pictures | "
        "ct, tc: series",
    )
    follow_links: bool = Field(
        False, description="image_folder, picture_table: read files that are outside of the folder"
    )
    on_error: Literal["fail", "skip"] = Field(
        "fail",
        description="broken pictures and missing labels: fail: refuse the data | skip: leave them out, and say so",
    )
    void_value: Annotated[int, NotInKeysAtDefault()] = Field(
        255,
        ge=-1,
        le=255,
        description="mask_folder, parquet_masks: value of pixels in masks that do not count; -1: none",
    )
    cache: Annotated[Path | Literal[False] | None, MayBeAuto, AutoIfNone(), BeforeValidator(_checked_cache)] = Field(
        None,
        description="where decoded pictures are kept for later runs, and read from without taking memory: a folder | "
        "false: in memory only; auto: the user's cache folder, for more than 256 MB of them",
    )
    cache_gb: float = Field(
        50.0, gt=0, description="GB of data.cache; beyond, what was not used for longest is removed"
    )
    task: str = Field(
        "classification",
        description="what the data ask of a network: classification (one class a sample) | multi_label (any number of "
        "labels) | regression (numbers) | segmentation (one class a pixel) | detection (boxes) | embedding (vectors of "
        "identities) | vectors (those of another network) | package.module:Name",
    )
    embedding_width: Annotated[int | None, MayBeAuto, AutoIfNone()] = Field(
        None,
        ge=2,
        le=4096,
        description="embedding: numbers of a vector; auto: 64. That of a teacher of your own, where a gallery of its "
        "vectors is kept",
    )
    score: Annotated[str | None, MayBeAuto, AutoIfNone()] = Field(
        None,
        description="what the search makes as good as it can on validation; auto: the task's own. Of classification: "
        "accuracy (auto) | balanced_accuracy | macro_f1 (where classes differ in size) | package.module:Name",
    )
    augment: Augmentation = Augmentation()
