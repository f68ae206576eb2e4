"""Random numbers of a user's data set or loader, kept apart from those of the networks."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nas_kd.engine.numerics import mix_seeds


class RandomStream:
    """A state of its own for the global generators of Python, NumPy and torch, which transforms of data draw from.

    What is drawn inside depends on the seed and on earlier draws from this stream alone, and changes nothing outside.
    """

    def __init__(self, *seed: int) -> None:
        """Start the stream; `seed`: several numbers, none of them negative."""
        self._seed = mix_seeds(*seed)
        self._state: Any = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draw from this stream inside."""
        outside = _state()
        if self._state is None:
            _seed(self._seed)
        else:
            _restore(self._state)
        try:
            yield
        finally:
            self._state = _state()
            _restore(outside)


def _state() -> Any:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore(state: Any) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
