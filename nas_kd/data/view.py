"""What networks are shown of a split: its samples as a pure function of (seed, epoch, sample)."""

from typing import NamedTuple, Protocol

from torch import Tensor

from nas_kd.tasks.moving import MovingTargets


class Mixture(NamedTuple):
    """What B samples are mixed with in an epoch.

    Attributes:
        partner: (B,) int64 positions of the other samples in the split.
        share: (B,) float32, what is left of the sample itself, 1/2..1.
    """

    partner: Tensor
    share: Tensor


class View(Protocol):
    """The samples of a split as networks are shown them, alone, in any batch and in any order alike."""

    def __len__(self) -> int:
        """Number of samples."""

    @property
    def key(self) -> str:
        """Content key: sha256 (hex) of all that the batches follow from."""

    @property
    def identity(self) -> bool:
        """Whether samples are shown as stored, so that all epochs are alike."""

    def example(self) -> Tensor:
        """Two made-up samples, (2, ...) float32 in stored units."""

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        """Samples of the split as in one epoch.

        Args:
            epoch: its number, which decides all that is random.
            indices: (B,) int64 positions in the split.

        Returns:
            (B, ...) float32, in stored units.
        """

    def targets(self, epoch: int, indices: Tensor, y: Tensor, moving: MovingTargets) -> Tensor:
        """Targets of samples as in one epoch: where their pixels are.

        Args:
            epoch: its number.
            indices: (B,) int64 positions in the split.
            y: (N, ...) of all samples, as stored.
            moving: how they move.

        Returns:
            (B, ...) targets.
        """

    def mixture(self, epoch: int, indices: Tensor) -> Mixture | None:
        """What these samples are mixed with in an epoch; None: with nothing.

        Args:
            epoch: its number.
            indices: (B,) int64 positions in the split.
        """
