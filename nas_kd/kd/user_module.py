"""Makes a network of a user's module: whatever its forward returns and expects, logits (B, C) come out.

A teacher is only run. So its module may be scripted, traced or compiled, have weights of another precision, take one
size of batch only, change its input, or draw random numbers: what can be dealt with is, and what matters is said.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from nas_kd.errors import InputError
from nas_kd.models.raw_output import FixedBatch, LogitsOnly, LogitsReader, are_probabilities, find_output
from nas_kd.user_code import describe_error, unchanged_settings

FIRST_SAMPLES = 2
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # that a network may have been traced with
RELATIVE_TOLERANCE = 1e-3  # of the largest logit: rounding apart, two runs give the same
COMPILED = "_orig_mod"


@dataclass(frozen=True)
class UserNetwork:
    """A user's module as a network.

    Attributes:
        model: (B, ...) -> logits (B, C); the module itself where that is what it does.
        notes: what was found out about it that a user should know.
    """

    model: nn.Module
    notes: tuple[str, ...] = ()


def as_network(
    module: nn.Module, x: Tensor, output_shape: Sequence[int | None], what: str, *, one_class: bool = True
) -> UserNetwork:
    """Run a module on samples, and wrap it where it does anything but return logits (B, C).

    Global settings that it changes are put back. Weights of another precision than float32 are converted, in place, if
    it cannot run otherwise.

    Args:
        module: in evaluation mode, on the CPU.
        x: (N, ...) samples, N >= 2; unchanged.
        output_shape: of one sample: (C,); None: any number from two. Of some tasks with further sides.
        what: the module with a colon, for messages, such as "teacher:".
        one_class: whether it may return probabilities of a softmax in place of logits.

    Raises:
        InputError: it cannot be run on them, or gives no logits that can be told.
    """
    first = x[:FIRST_SAMPLES].clone()
    with unchanged_settings(), torch.no_grad():
        runnable, raw = _first_run(module, first.clone(), what)
        reader = find_output(raw, len(first), output_shape, what)
        return _wrapped(runnable, reader, x, what, one_class=one_class)


def _first_run(module: nn.Module, x: Tensor, what: str) -> tuple[nn.Module, Any]:
    """What can be run of the module, and what it returned."""
    try:
        return module, module(x.clone())
    except (Exception, SystemExit) as error:
        failure = error
    if any(t.is_floating_point() and t.dtype != torch.float32 for t in _tensors(module)):
        try:
            return module, module.float()(x.clone())
        except (Exception, SystemExit) as error:
            failure = error
    for size in BATCH_SIZES:
        fixed = FixedBatch(module, size)
        try:
            return fixed, fixed(x.clone())
        except (Exception, SystemExit):
            continue
    shape = tuple(x.shape[1:])
    raise InputError(f"{what} cannot take samples of shape {shape}: {describe_error(failure)}") from failure


def _wrapped(runnable: nn.Module, reader: LogitsReader, x: Tensor, what: str, *, one_class: bool) -> UserNetwork:
    notes = []
    if isinstance(runnable, FixedBatch):
        notes.append(f"takes batches of {runnable.size} only, so it is run batch by batch")
    given = x.clone()
    logits, again = reader(runnable(given)), reader(runnable(x.clone()))
    keeps_input = torch.equal(given, x)
    if not torch.isfinite(logits).all():
        wrong = int((~torch.isfinite(logits)).flatten(1).any(1).sum())
        raise InputError(f"{what} gives NaN or infinite logits for {wrong} of {len(x)} samples")
    if draws := not _alike(logits, again):
        notes.append(
            "gives other outputs for the same samples each time, as dropout that eval() does not switch off would; "
            "random numbers are held fixed"
        )
    elif not _alike(logits[:FIRST_SAMPLES], reader(runnable(x[:FIRST_SAMPLES].clone()))):
        notes.append("its outputs for a sample depend on the other samples of the batch, in evaluation mode too")
    if one_class and are_probabilities(logits):
        reader = LogitsReader(reader.path, reader.flattened, probabilities=True)
        notes.append("returns probabilities: their logarithms are used as logits")
    scripted = isinstance(runnable, torch.jit.ScriptModule)  # which lacks some of a module's methods
    if reader.is_plain and keeps_input and not draws and not scripted:
        return UserNetwork(runnable, tuple(notes))
    return UserNetwork(LogitsOnly(runnable, reader, keeps_input=keeps_input, draws=draws).eval(), tuple(notes))


def _alike(one: Tensor, other: Tensor) -> bool:
    largest = float(one.abs().max())
    return bool(((one - other).abs() <= RELATIVE_TOLERANCE * largest).all())


def prepared(module: nn.Module, what: str) -> nn.Module:
    """Bring a user's module to where and how networks run here: on the CPU, not compiled, in evaluation mode.

    Args:
        module: changed in place.
        what: the module with a colon, for messages.

    Raises:
        InputError: weights or buffers of it have no values.
    """
    network = uncompiled(module)
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            continue  # the first run gives it a shape
        if tensor.is_meta:
            raise InputError(f"{what} {name!r} is on the meta device: it has no values; create the module on the CPU")
    if any(tensor.device.type != "cpu" for tensor in _tensors(network)):
        network = network.cpu()
    network.eval()
    return network


def uncompiled(module: nn.Module) -> nn.Module:
    """The module that `torch.compile` was given, here and in all sub-modules: it computes the same."""
    while hasattr(module, COMPILED):
        module = getattr(module, COMPILED)
    if isinstance(module, torch.jit.ScriptModule):
        return module
    for parent in list(module.modules()):
        if not isinstance(parent, torch.jit.ScriptModule):
            for name, child in list(parent.named_children()):
                if hasattr(child, COMPILED):
                    setattr(parent, name, uncompiled(child))
    return module


def copied(module: nn.Module) -> nn.Module:
    """A copy of a module, or the module itself where Python cannot copy it."""
    try:
        return deepcopy(module)
    except Exception:  # as for tensors that are results of a computation, among its attributes
        return module


def _tensors(module: nn.Module) -> list[Tensor]:
    tensors = chain(module.parameters(), module.buffers())
    return [t for t in tensors if not isinstance(t, UninitializedParameter | UninitializedBuffer)]
