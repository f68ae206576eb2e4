"""The global random generators of torch, NumPy and Python, which plug-ins share with the rest of a program."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def generator_states() -> dict[str, bytes]:
    """The state of each global generator, for comparisons."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "NumPy": repr((kind, rest)).encode() + np.asarray(keys).tobytes(),
        "Python": repr(random.getstate()).encode(),
    }


def moved_generators(before: dict[str, bytes]) -> str | None:
    """Which generators are no longer in the state that `generator_states` gave, or None."""
    moved = [name for name, state in generator_states().items() if state != before[name]]
    return f"the global generator of {' and '.join(moved)} has moved" if moved else None


@contextmanager
def other_draws(seed: int = 12345) -> Iterator[None]:
    """Global generators in another state inside; afterwards as they were."""
    python, numpy = random.getstate(), np.random.get_state(legacy=True)
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch inside: on networks this small several are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
