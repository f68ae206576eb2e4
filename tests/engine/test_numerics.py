"""Threads, denormals and random numbers are put back, and seeds stay what they were."""

import random
from contextlib import suppress

import numpy as np
import pytest
import torch

from nas_kd.engine.numerics import is_out_of_memory, mix_seeds, seeded, training_threads
from nas_kd.engine.random_stream import RandomStream


def flushed() -> bool:
    return float(torch.tensor(1e-310, dtype=torch.float64) * 1) == 0


@pytest.mark.parametrize("before", [False, True])
def test_threads_and_denormals_are_put_back(before: bool) -> None:
    threads = torch.get_num_threads()
    torch.set_flush_denormal(before)
    with suppress(KeyboardInterrupt), training_threads(threads + 1):
        assert torch.get_num_threads() == threads + 1
        assert flushed()
        raise KeyboardInterrupt
    assert torch.get_num_threads() == threads
    assert flushed() == before


def test_seeds_are_the_same_on_every_machine() -> None:
    """Stored weights depend on them."""
    assert mix_seeds(0) == 7896617691693857887
    assert mix_seeds(3, 2, 1) == 4404663168949438663
    with seeded(5, 1):
        assert torch.randint(1000, (4,)).tolist() == [420, 60, 583, 140]


def test_a_seeded_block_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7):
        torch.rand(100)
    assert torch.equal(torch.rand(3), expected)


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_stream_goes_on_where_it_was_whatever_happens_outside() -> None:
    streams = RandomStream(1, 2), RandomStream(1, 2), RandomStream(1, 3)
    values: list[list[tuple[float, float, float]]] = [[], [], []]
    for i in range(3):
        for stream, found in zip(streams, values, strict=True):
            with stream.active():
                found.append(drawn())
            random.seed(i)
            np.random.seed(i)
            torch.manual_seed(i)
    assert values[0] == values[1]
    assert len({v for found in (values[0], values[2]) for numbers in found for v in numbers}) == 18


def test_a_stream_changes_nothing_outside() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with suppress(KeyError), RandomStream(4).active():
        drawn()
        raise KeyError
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("unsupported memory format option ChannelsLast"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_only_a_failed_allocation_is_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
