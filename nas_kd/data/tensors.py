"""Arrays as tensors that share their memory where they can."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_tensor(values: NDArray[Any]) -> Tensor:
    """Make a tensor of an array; one that is read-only or not contiguous is copied."""
    array = np.ascontiguousarray(values)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
