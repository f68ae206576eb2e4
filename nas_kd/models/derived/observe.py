"""Runs a network once and notes of every layer when it is called, how often, and what it takes and returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BATCH_AND_CHANNELS = 2
VECTOR = 2  # sides of a batch of vectors
Hook = Callable[..., None]


@dataclass
class Call:
    """What was seen of a module: `order` of its first call, number of `calls`, first argument's and result's shape."""

    order: int
    calls: int
    taken: tuple[int, ...] | None
    returned: tuple[int, ...] | None
    as_tuple: bool


def observe(model: nn.Module, example: Tensor) -> dict[str, Call]:
    """Note the calls of all modules of a network that are called, by path.

    Args:
        model: in evaluation mode.
        example: (B, ...) what it takes.
    """
    calls: dict[str, Call] = {}

    def note_of(path: str) -> Hook:
        def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if path in calls:
                calls[path].calls += 1
                return
            first = output[0] if isinstance(output, tuple) and output else output
            calls[path] = Call(
                len(calls), 1, _shape(inputs[0] if inputs else None), _shape(first), isinstance(output, tuple)
            )

        return note

    run_with_hooks(model, example, {path: note_of(path) for path, _ in model.named_modules()})
    return calls


def run_with_hooks(model: nn.Module, example: Tensor, hooks: Mapping[str, Hook]) -> None:
    """Run a network once without gradients, with forward hooks that are gone afterwards.

    Args:
        model: any.
        example: (B, ...) what it takes.
        hooks: of modules, by path.
    """
    handles = [model.get_submodule(path).register_forward_hook(hook) for path, hook in hooks.items()]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def resolution(module: nn.Module, call: Call) -> int:
    """Places that a layer's result has per channel: pixels, tokens, or 1 for a vector."""
    shape = call.returned
    if shape is None or len(shape) <= VECTOR:
        return 1
    places = shape[1:-1] if isinstance(module, nn.Linear) else shape[BATCH_AND_CHANNELS:]
    return int(torch.Size(places).numel())
