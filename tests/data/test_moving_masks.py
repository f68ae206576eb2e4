"""Masks move as the pixels of their pictures do, whatever augmentation draws."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.config.options import Augmentation
from nas_kd.data.augment import augmented, mixed
from nas_kd.tasks.masks import VOID, Masks

N, SIDE = 12, 16
INDICES = torch.tensor([3, 0, 7, 11, 5])
# Pictures in which the value of a pixel is its class: what is shown says what the mask has to be.
PICTURES = (40 * torch.randint(1, 5, (N, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0))).to(torch.uint8)
MASKS = (PICTURES[:, 0] // 40).to(torch.uint8)
FILL = torch.tensor([0.0])  # of padding and blanks: no class has it

SHIFTS = {"crop": 4, "flip": True, "cutout": 5}
NOTHING = {"crop": 0, "flip": False, "cutout": 0}


@pytest.mark.parametrize(
    "changes",
    [
        NOTHING,
        NOTHING | {"flip": True},
        SHIFTS,
        SHIFTS | {"cutout": 0},
        SHIFTS | {"erase": 1.0},
        NOTHING | {"flip": True, "erase": 0.7, "colour": 0.0},
    ],
)
@pytest.mark.parametrize("mix", ["none", "cutmix"])
def test_masks_are_where_their_pixels_are(changes: dict[str, float], mix: str) -> None:
    view = mixed(augmented(PICTURES, FILL, Augmentation(**changes), seed=3), mix)
    for epoch in (0, 1, 5):
        shown = view.batch(epoch, INDICES)
        moved = view.targets(epoch, INDICES, MASKS, Masks())
        expected = torch.where(shown[:, 0] == 0, float(VOID), shown[:, 0] / 40)
        assert torch.equal(moved.float(), expected)
        assert moved.dtype == torch.uint8
    assert view.targets(0, INDICES[2:3], MASKS, Masks()).equal(view.targets(0, INDICES, MASKS, Masks())[2:3])


def test_masks_follow_resized_crops_and_turns() -> None:
    """Bilinear pixels are mixtures at the edges of classes; away from them, they and the masks agree."""
    coarse = torch.randint(1, 5, (N, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    pictures = (40 * coarse).repeat_interleave(8, 2).repeat_interleave(8, 3).to(torch.uint8)
    masks = (pictures[:, 0] // 40).to(torch.uint8)
    augment = Augmentation(crop=0, flip=True, cutout=0, resized_crop=0.4, operations=2, colour=0.0, erase=0.5)
    view = augmented(pictures, FILL, augment, seed=4)
    geometric = augment.model_copy(update={"operations": 0})
    for which, seen in ((view, False), (augmented(pictures, FILL, geometric, seed=4), True)):
        shown, moved = which.batch(2, INDICES)[:, 0], which.targets(2, INDICES, masks, Masks())
        if not seen:  # operations paint, too: only that the mask moved can be told
            assert not moved.equal(masks[INDICES])
            continue
        blank = shown == 0
        assert bool((moved[blank] == VOID).all())
        even = flat_places(shown) & ~blank
        assert float((moved[even].float() == shown[even] / 40).float().mean()) == 1
        assert float(even.float().mean()) > 0.3


def flat_places(shown: Tensor) -> Tensor:
    """Pixels whose neighbours have the same value, so that no interpolation took part."""
    padded = torch.nn.functional.pad(shown[:, None], (1, 1, 1, 1), mode="replicate")
    around = torch.nn.functional.unfold(padded, 3).view(len(shown), 9, *shown.shape[1:])
    return (around.amax(1) == around.amin(1)) & (shown % 40 == 0)


def test_a_view_without_changes_gives_masks_as_they_are() -> None:
    view = augmented(PICTURES, FILL, Augmentation(**NOTHING), seed=3)
    assert view.targets(4, INDICES, MASKS, Masks()).equal(MASKS[INDICES])


def test_the_same_masks_come_with_every_array_type() -> None:
    """Masks are moved by numbers, not by what their pictures are stored as."""
    small, large = (
        augmented(x, FILL, Augmentation(**SHIFTS), seed=3) for x in (PICTURES, PICTURES.float().repeat(1, 3, 1, 1))
    )
    assert small.targets(1, INDICES, MASKS, Masks()).equal(large.targets(1, INDICES, MASKS, Masks()))
    assert np.asarray(MASKS).dtype == np.uint8
