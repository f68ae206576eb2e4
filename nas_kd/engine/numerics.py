"""How training uses the processor: number format, memory layout, threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from nas_kd.config.options import EngineOptions

# Below this many input values a network is bound by the overhead of its operators: casts and threads only add to it.
SMALL_INPUT = 500
IMAGE_DIMS = 3


@dataclass(frozen=True)
class Numerics:
    """`bf16`: autocast; `channels_last`: memory format of images."""

    bf16: bool
    channels_last: bool

    @staticmethod
    def choose(options: EngineOptions, input_shape: tuple[int, ...]) -> "Numerics":
        """By what this CPU can do and the size of a sample; the same on every start."""
        pays = _has_bf16() and prod(input_shape) >= SMALL_INPUT
        bf16 = options.precision == "bf16" or (options.precision == "auto" and pays)
        return Numerics(bf16=bf16, channels_last=len(input_shape) == IMAGE_DIMS)

    def autocast(self) -> torch.autocast:
        """The context in which networks run."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=True)

    def place(self, model: nn.Module) -> nn.Module:
        """The model in this memory format (in place)."""
        return model.to(memory_format=torch.channels_last) if self.channels_last else model  # type: ignore[call-overload]

    def to_layout(self, x: Tensor) -> Tensor:
        """A batch in this memory format."""
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x


def _has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def threads_for(options: EngineOptions, input_shape: tuple[int, ...]) -> int:
    """Training threads: as asked; else one where operators are too small to share, every usable core elsewhere."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return options.threads or (usable if prod(input_shape) >= SMALL_INPUT else 1)


@contextmanager
def training_threads(threads: int) -> Iterator[None]:
    """So many threads, and denormals flushed to zero, inside; afterwards as torch has them by default."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Torch's global generator seeded from these numbers inside, as it was outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix_seeds(*seed))
        yield


def mix_seeds(*seed: int) -> int:
    """One 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
