"""Arrays as tensors that share their memory where they can, and as samples."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.data.mapped_array import MappedArray, MappedSamples, StoredArray
from nas_kd.data.samples import Samples


def as_tensor(values: NDArray[Any]) -> Tensor:
    """Make a tensor of an array; one that is read-only or not contiguous is copied."""
    array = np.ascontiguousarray(values)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def as_samples(values: StoredArray) -> Samples:
    """Make samples of an array: a tensor, unless it is mapped from a file."""
    return MappedSamples(values) if isinstance(values, MappedArray) else as_tensor(values)
