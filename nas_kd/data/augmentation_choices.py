"""Which augmentation suits samples: shifts for pictures, resized crops for photographs, none for unknown arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from nas_kd.config.options import Augmentation
from nas_kd.errors import InputError

NONE = Augmentation(strength="none", crop=0, flip=False, cutout=0)
COLOUR_CHANNELS = 3
SHIFT_SHARE = 8  # shifts go up to an eighth of the side: 4 pixels of 32 (He et al. 2015, arXiv:1512.03385)
PHOTOGRAPH_SIDE = 96  # pictures of fewer pixels show what they show in one place, and are shifted instead
# ImageNet's long trainings keep 8 % of the area at least, short ones more; RandAugment draws two operations for a
# ResNet-50, and smaller networks need less.
OF_PHOTOGRAPHS: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "standard": {"resized_crop": 0.35},
    "strong": {"resized_crop": 0.35, "colour": 0.2, "operations": 1, "erase": 0.25},
}
CUTOUT_SHARE = 4  # strong: a square of a quarter of the side is blanked (DeVries & Taylor 2017, arXiv:1708.04552: half)


@dataclass(frozen=True)
class AugmentationChoices:
    """What is known of the augmentation of one data set before its strength is chosen.

    Attributes:
        given: the user's options; those that are None follow the strength.
        shape: of one sample.
        flip_safe: whether a mirror image keeps its class.
        pictures: whether samples are pictures rather than arrays of unknown meaning.
        photographs: whether they are 8-bit colour pictures of `PHOTOGRAPH_SIDE` and more.
    """

    given: Augmentation
    shape: tuple[int, ...]
    flip_safe: bool
    pictures: bool
    photographs: bool = False

    @property
    def usual_strength(self) -> str:
        """The one of `strengths` that the user asked for, else that suits most data of this kind."""
        return self._by_effect[self._effect(self.given.strength or ("standard" if self.pictures else "none"))]

    @property
    def strengths(self) -> tuple[str, ...]:
        """The strengths that make a difference, the weakest first."""
        return tuple(self._by_effect.values())

    @property
    def _by_effect(self) -> dict[Augmentation, str]:
        """The weakest strength that has each effect."""
        found: dict[Augmentation, str] = {}
        for strength in ("none", "standard", "strong") if self.given.strength is None else (self.given.strength,):
            found.setdefault(self._effect(strength), strength)
        return found

    def _effect(self, strength: str) -> Augmentation:
        return self.at(strength).model_copy(update={"strength": None})

    def at(self, strength: str) -> Augmentation:
        """Fill in the options that are None as the strength says.

        Args:
            strength: none, standard or strong.
        """
        if len(self.shape) != 3:
            return NONE
        given, side, any_change = self.given, min(self.shape[1:]), strength != "none"
        chosen = self._of_photographs(strength)
        flips = any_change and self.pictures and self.flip_safe and self.shape[0] == COLOUR_CHANNELS
        shifts = any_change and chosen["resized_crop"] in (None, 1)
        squares = strength == "strong" and not self.photographs
        return Augmentation.model_validate(
            {
                "strength": strength,
                "crop": (side // SHIFT_SHARE if shifts else 0) if given.crop is None else given.crop,
                "flip": flips if given.flip is None else given.flip,
                "cutout": (side // CUTOUT_SHARE if squares else 0) if given.cutout is None else given.cutout,
                **chosen,
            }
        )

    def _of_photographs(self, strength: str) -> dict[str, float | None]:
        """What is done to photographs alone, unless the user asks for it."""
        by_strength = OF_PHOTOGRAPHS[strength] if self.photographs else {}
        names = OF_PHOTOGRAPHS["strong"]
        given = {name: getattr(self.given, name) for name in names}
        return {name: by_strength.get(name) if given[name] is None else given[name] for name in names}


def check_augmentation(given: Augmentation, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse an augmentation that these samples cannot have.

    Args:
        given: the user's options.
        shape: of one sample.
        dtype: number type of the samples, such as "uint8".

    Raises:
        InputError: samples are not images (C, H, W), something exceeds the image, or colours are to be changed of what
            are no 8-bit colour pictures.
    """
    if len(shape) != 3:
        asked = given.crop or given.flip or given.cutout or given.resamples or given.paints or given.erase
        if asked or given.strength not in (None, "none"):
            raise InputError(f"data.augment needs images (C, H, W), samples have shape {shape}; leave it out")
        return
    side = min(shape[1:])
    for name, value in (("crop", given.crop), ("cutout", given.cutout)):
        if value is not None and value >= side:
            raise InputError(f"data.augment.{name} must be below the image's side of {side} pixels, got {value}")
    if given.paints and not look_like_pictures(dtype, shape):
        name = "colour" if given.colour else "operations"
        raise InputError(
            f"data.augment.{name} needs colour pictures, uint8 (3, H, W), samples are {dtype} {shape}; leave it out"
        )


def look_like_pictures(dtype: DTypeLike, shape: tuple[int, ...]) -> bool:
    """Whether samples are pictures for sure: 8-bit values in three channels. Grey ones may be spectra.

    Args:
        dtype: of the samples.
        shape: of one sample.
    """
    return np.dtype(dtype) == np.uint8 and len(shape) == 3 and shape[0] == COLOUR_CHANNELS


def are_photographs(pictures: bool, dtype: DTypeLike, shape: tuple[int, ...]) -> bool:
    """Whether samples are pictures that are large enough to crop and resize.

    Args:
        pictures: whether they are pictures at all.
        dtype: of the samples.
        shape: of one sample.
    """
    return pictures and look_like_pictures(dtype, shape) and min(shape[1:]) >= PHOTOGRAPH_SIDE


def matching_augmentation(augment: Augmentation, student: tuple[int, ...], teacher: tuple[int, ...]) -> Augmentation:
    """Choose the augmentation of the teacher's samples that matches the student's; both use the same random numbers.

    Args:
        augment: the student's augmentation, resolved.
        student: shape of the student's samples.
        teacher: shape of the teacher's samples.

    Returns:
        The same augmentation where height and width agree; where they differ, all that is done in shares of a picture:
        no shifts and squares in pixels. None for samples that are not images (C, H, W).
    """
    if len(teacher) != 3:
        return NONE
    if student[1:] == teacher[1:]:
        return augment
    return augment.model_copy(update={"crop": 0, "cutout": 0})
