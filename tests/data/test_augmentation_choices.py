"""What each strength of augmentation means for samples of any shape, and which strengths make a difference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_kd.config.options import Augmentation
from nas_kd.data.augmentation_choices import (
    AugmentationChoices,
    are_photographs,
    check_augmentation,
    look_like_pictures,
    matching_augmentation,
)
from nas_kd.errors import InputError

STRENGTHS = ("none", "standard", "strong")
Triple = tuple[int, bool, int]


def choices(
    shape: tuple[int, ...], *, flip_safe: bool = True, pictures: bool = True, **options: Any
) -> AugmentationChoices:
    return AugmentationChoices(Augmentation(**options), shape, flip_safe, pictures)


def triple(augment: Augmentation) -> Triple:
    assert augment.crop is not None
    assert augment.flip is not None
    assert augment.cutout is not None
    return augment.crop, augment.flip, augment.cutout


@pytest.mark.parametrize(
    ("shape", "flip_safe", "pictures", "standard", "strong"),
    [
        ((3, 32, 32), True, True, (4, True, 0), (4, True, 8)),
        ((3, 32, 32), False, True, (4, False, 0), (4, False, 8)),
        ((3, 32, 32), True, False, (4, False, 0), (4, False, 8)),  # a mirrored spectrum runs backwards
        ((1, 28, 28), True, True, (3, False, 0), (3, False, 7)),  # a mirrored digit is none
        ((1, 8, 8), False, True, (1, False, 0), (1, False, 2)),
        ((3, 4, 64), True, True, (0, True, 0), (0, True, 1)),  # the shorter side counts
        ((1, 1, 46), False, False, (0, False, 0), (0, False, 0)),
        ((16,), True, True, (0, False, 0), (0, False, 0)),
        ((2, 9, 9, 9), True, True, (0, False, 0), (0, False, 0)),
    ],
)
def test_strengths(shape: tuple[int, ...], flip_safe: bool, pictures: bool, standard: Triple, strong: Triple) -> None:
    found = choices(shape, flip_safe=flip_safe, pictures=pictures)
    assert [triple(found.at(strength)) for strength in STRENGTHS] == [(0, False, 0), standard, strong]


@pytest.mark.parametrize("strength", STRENGTHS)
def test_what_is_given_is_kept_at_every_strength(strength: str) -> None:
    assert triple(choices((1, 8, 8), crop=2, flip=True, cutout=3).at(strength)) == (2, True, 3)
    assert triple(choices((3, 32, 32), crop=0, flip=False, cutout=0).at(strength)) == (0, False, 0)


def test_the_rest_follows_the_strength() -> None:
    some = choices((3, 32, 32), crop=1)
    assert [triple(some.at(s)) for s in STRENGTHS] == [(1, False, 0), (1, True, 0), (1, True, 8)]


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (choices((3, 32, 32)), STRENGTHS),
        (choices((3, 32, 32), pictures=False), STRENGTHS),
        (choices((1, 1, 46)), ("none",)),
        (choices((16,)), ("none",)),
        (choices((3, 4, 4), flip_safe=False), ("none", "strong")),  # too small to shift
        (choices((1, 8, 8), crop=0), ("none", "strong")),
        (choices((3, 32, 32), cutout=0), ("none", "standard")),
        (choices((3, 32, 32), crop=2, flip=True, cutout=3), ("none",)),
        (choices((3, 32, 32), strength="strong"), ("strong",)),
        (choices((3, 32, 32), strength="none", crop=3), ("none",)),
    ],
)
def test_only_strengths_that_differ_are_listed(found: AugmentationChoices, want: tuple[str, ...]) -> None:
    assert found.strengths == want


def photographs(side: int, **options: Any) -> AugmentationChoices:
    shape = 3, side, side
    return AugmentationChoices(Augmentation(**options), shape, True, True, are_photographs(True, np.uint8, shape))


def test_photographs_are_cropped_and_resized_instead_of_shifted() -> None:
    found = photographs(96)
    assert triple(found.at("standard")) == (0, True, 0)
    assert triple(found.at("strong")) == (0, True, 0)
    assert found.at("none").model_copy(update={"strength": None}) == Augmentation(crop=0, flip=False, cutout=0)
    assert found.at("standard").resized_crop == found.at("strong").resized_crop == 0.35
    assert not found.at("standard").paints
    strong = found.at("strong")
    assert (strong.colour, strong.operations, strong.erase) == (0.2, 1, 0.25)
    assert found.strengths == STRENGTHS
    assert found.usual_strength == "standard"


def test_what_is_given_of_photographs_is_kept() -> None:
    assert triple(photographs(96, resized_crop=1).at("standard")) == (12, True, 0)  # shifts in its place
    still = photographs(96, resized_crop=1, colour=0, operations=0, erase=0, crop=0, flip=False)
    assert not still.at("strong").resamples
    assert triple(choices((3, 32, 32), resized_crop=0.5).at("standard")) == (0, True, 0)
    assert choices((3, 32, 32), resized_crop=0.5).at("none").resized_crop == 0.5


def test_smaller_pictures_have_nothing_of_photographs() -> None:
    assert photographs(95).at("strong") == Augmentation(strength="strong", crop=11, flip=True, cutout=23)
    assert not are_photographs(True, np.float32, (3, 128, 128))  # of unknown range
    assert not are_photographs(False, np.uint8, (3, 128, 128))
    assert not are_photographs(True, np.uint8, (1, 128, 128))


def test_pictures_get_the_standard_and_arrays_none_unless_a_strength_is_given() -> None:
    assert choices((3, 32, 32)).usual_strength == "standard"
    assert choices((3, 32, 32), pictures=False).usual_strength == "none"
    assert choices((3, 32, 32), pictures=False, strength="strong").usual_strength == "strong"
    assert choices((1, 1, 46)).usual_strength == "none"  # a name that would promise more than there is
    assert choices((1, 8, 8), crop=0).usual_strength == "none"
    assert choices((1, 8, 8), crop=0, strength="standard").usual_strength == "standard"


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 70)),
        st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    ),
    st.booleans(),
    st.booleans(),
    st.fixed_dictionaries(
        {
            "strength": st.sampled_from([None, *STRENGTHS]),
            "crop": st.sampled_from([None, 0, 3]),
            "flip": st.sampled_from([None, False, True]),
            "cutout": st.sampled_from([None, 0, 3]),
        }
    ),
)
def test_strengths_listed_differ_pairwise_and_hold_the_usual_one(
    shape: tuple[int, ...], flip_safe: bool, pictures: bool, options: dict[str, Any]
) -> None:
    found = choices(shape, flip_safe=flip_safe, pictures=pictures, **options)
    kinds = [triple(found.at(strength)) for strength in found.strengths]
    assert len(set(kinds)) == len(kinds)
    assert found.usual_strength in found.strengths
    assert list(found.strengths) == [s for s in STRENGTHS if s in found.strengths]  # the weakest first
    if options["strength"] is None:
        assert {triple(found.at(strength)) for strength in STRENGTHS} == set(kinds)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 300), st.integers(1, 300), st.sampled_from(STRENGTHS))
def test_no_strength_exceeds_the_image(channels: int, height: int, width: int, strength: str) -> None:
    shape = channels, height, width
    check_augmentation(choices(shape).at(strength), shape, "uint8")


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"crop": 8}, (1, 8, 9), r"data\.augment\.crop must be below the image's side of 8 pixels, got 8"),
        ({"cutout": 9}, (1, 9, 9), r"data\.augment\.cutout must be below the image's side of 9 pixels, got 9"),
        ({"crop": 1}, (9,), "needs images"),
        ({"flip": True}, (9,), "needs images"),
        ({"cutout": 1}, (9,), "needs images"),
        ({"resized_crop": 0.5}, (9,), "needs images"),
        ({"erase": 0.5}, (9,), "needs images"),
        ({"colour": 0.1}, (3, 9, 9), r"augment\.colour needs colour pictures, uint8 \(3, H, W\), samples are float32"),
        ({"operations": 1}, (1, 9, 9), r"augment\.operations needs colour pictures"),
        ({"strength": "standard"}, (9,), r"needs images \(C, H, W\), samples have shape \(9,\); leave it out"),
    ],
)
def test_mistakes(options: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_augmentation(Augmentation(**options), shape, "float32")


def test_samples_that_are_no_images_may_be_told_that_they_have_none() -> None:
    check_augmentation(Augmentation(), (50,), "uint8")
    check_augmentation(Augmentation(strength="none", crop=0, flip=False, cutout=0), (50,), "uint8")
    assert triple(choices((50,), crop=0, flip=False).at("standard")) == (0, False, 0)


@pytest.mark.parametrize(
    ("dtype", "shape", "want"),
    [
        (np.uint8, (3, 32, 32), True),
        (np.uint8, (1, 32, 32), False),  # may be a spectrum
        (np.uint8, (4, 32, 32), False),
        (np.float32, (3, 32, 32), False),
        (np.int8, (3, 32, 32), False),
        (np.uint8, (3,), False),
        (np.uint8, (3, 8, 8, 8), False),
    ],
)
def test_pictures_for_sure(dtype: Any, shape: tuple[int, ...], want: bool) -> None:
    assert look_like_pictures(dtype, shape) is want


@pytest.mark.parametrize(
    ("teacher", "want"),
    [((3, 8, 8), (2, True, 3)), ((1, 16, 16), (0, True, 0)), ((1, 8, 9), (0, True, 0)), ((64,), (0, False, 0))],
)
def test_the_teachers_view_is_augmented_in_step(teacher: tuple[int, ...], want: Triple) -> None:
    got = matching_augmentation(Augmentation(crop=2, flip=True, cutout=3), (1, 8, 8), teacher)
    assert triple(got) == want
