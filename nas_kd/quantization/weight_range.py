"""The range of 8-bit weights, which is that of 7 bits where this processor adds products in 16 bits.

Without VNNI, x86 multiplies 8-bit activations and weights by VPMADDUBSW, which adds two products in 16 bits and
saturates: 2 x 255 x 127 is too much, 2 x 255 x 63 is not. ONNX Runtime's `reduce_range` is the same remedy.
"""

import platform
from functools import cache
from typing import Any

import torch

WHOLE, REDUCED = 127, 63
X86 = {"x86_64", "amd64", "i386", "i686", "x86"}


@cache
def weight_limit() -> int:
    """Largest whole number of a weight on this machine."""
    saturates = platform.machine().lower() in X86 and not torch.cpu._is_vnni_supported()
    return REDUCED if saturates else WHOLE


def weight_facts() -> dict[str, Any]:
    """What keys of quantised networks need to have of it; empty for the whole range."""
    return {} if weight_limit() == WHOLE else {"weight_limit": weight_limit()}
