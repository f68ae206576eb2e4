"""How training uses the processor: number format, memory layout, threads, random numbers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from nas_kd.config.options import EngineOptions
from nas_kd.models.strided_pointwise import avoid_faulty_gradients

# Below this many input values a network is bound by the overhead of its operators: casts and threads only add to it.
SMALL_INPUT = 500
IMAGE_DIMS = 3
OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory")  # in messages of torch and the system


@dataclass(frozen=True)
class Numerics:
    """Number format and memory layout in which networks run.

    Attributes:
        bf16: forward passes use bfloat16 where autocast allows; weights stay float32.
        channels_last: images and convolutions are laid out channels last.
    """

    bf16: bool
    channels_last: bool

    @staticmethod
    def choose(options: EngineOptions, input_shape: tuple[int, ...]) -> "Numerics":
        """Choose by what this CPU can do and by the size of a sample; the same on every start.

        Args:
            options: the precision asked for.
            input_shape: of one sample, (C, H, W) for images.
        """
        pays = _has_bf16() and prod(input_shape) >= SMALL_INPUT
        bf16 = options.precision == "bf16" or (options.precision == "auto" and pays)
        return Numerics(bf16=bf16, channels_last=len(input_shape) == IMAGE_DIMS)

    def autocast(self) -> torch.autocast:
        """Return the context in which networks run."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=True)

    def place(self, model: nn.Module) -> nn.Module:
        """Bring the model into this memory layout, in place, and return it."""
        if not self.channels_last:
            return model
        avoid_faulty_gradients(model)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def to_layout(self, x: Tensor) -> Tensor:
        """Return a batch (B, ...) in this memory layout."""
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x


PLAIN = Numerics(bf16=False, channels_last=False)  # works with any network


def _has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def threads_for(options: EngineOptions, input_shape: tuple[int, ...]) -> int:
    """Choose the number of training threads.

    Args:
        options: the number asked for, if any.
        input_shape: of one sample.

    Returns:
        The number asked for; else one where operators are too small to share, and every usable core elsewhere.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return options.threads or (usable if prod(input_shape) >= SMALL_INPUT else 1)


@contextmanager
def training_threads(threads: int) -> Iterator[None]:
    """Use this many threads, and flush denormals to zero, inside; both are put back afterwards."""
    threads_before, flushed_before = torch.get_num_threads(), _flushes_denormals()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(flushed_before)


def _flushes_denormals() -> bool:
    return float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0.0


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator from these numbers inside; its state is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mix_seeds(*seed))
        yield


def mix_seeds(*seed: int) -> int:
    """Derive one 63-bit seed from several numbers, none of them negative."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be allocated."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)
