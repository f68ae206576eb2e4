"""Finds what stands for full intensity in stored samples, so that `unit` means 0..1 whatever they are stored as."""

from dataclasses import dataclass
from typing import Any

import torch

from nas_kd.data.mapped_array import remembered
from nas_kd.data.samples import Samples, chunks
from nas_kd.errors import InputError

BYTE, WORD = 255.0, 65535.0
DARKEST_BYTE = 128.0  # pixels 0..255 use the upper half of their range somewhere; what does not may be anything
SLACK = 1e-3  # by which interpolation and rounding may leave 0..1, as a share of the range


@dataclass(frozen=True)
class PixelRange:
    """The type in which samples were given, and the range of their values in the training split.

    Attributes:
        dtype: number type, such as "uint8".
        low: smallest value.
        high: largest value.
        whole: whether all values are whole numbers.
    """

    dtype: str
    low: float
    high: float
    whole: bool = False

    @staticmethod
    def of(x: Samples, dtype: str = "") -> "PixelRange":
        """Look at samples.

        Args:
            x: (N, ...) training samples, as stored.
            dtype: the type in which they were given, where `x` was converted from it.
        """
        return PixelRange(
            dtype or str(x.dtype).removeprefix("torch."), **remembered("range", [x], lambda: _range_of(x))
        )

    @property
    def scale(self) -> float | None:
        """What divides the values into 0..1; None if they are no pixels.

        255 for uint8. For every other type the values decide: 1 where all lie in 0..1, 255 where they lie in 0..255 and
        some reach 128, and 65,535 for uint16 with larger ones.
        """
        if self.dtype == "uint8":
            return BYTE
        scale = 1.0 if self.high <= 1 + SLACK else BYTE if self.high <= BYTE * (1 + SLACK) else WORD
        known = scale == 1 or (self.high >= DARKEST_BYTE if scale == BYTE else self.dtype == "uint16")
        return scale if known and self.low >= -SLACK * scale else None

    def require_scale(self, option: str) -> float:
        """What divides the values into 0..1.

        Args:
            option: that needs it, for the message.

        Raises:
            InputError: the values are no pixels.
        """
        if self.scale is None:
            raise InputError(
                f"{option} takes pixels, but the training samples are {self.dtype} from {self.low:g} to {self.high:g}: "
                "neither 0..1 nor 0..255 (with some of 128 or more) nor uint16; store them so, or use "
                'preprocessing = "raw" or "normalized"'
            )
        return self.scale


def _range_of(x: Samples) -> dict[str, Any]:
    limits, whole = list[torch.Tensor](), True
    for part in chunks(x):
        limits.append(torch.stack(part.aminmax()))
        whole = whole and (not x.is_floating_point() or bool((part == part.round()).all()))
    low, high = torch.stack(limits).aminmax()
    return {"low": float(low), "high": float(high), "whole": whole}
