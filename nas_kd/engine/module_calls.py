"""What the modules of a network take and give in one forward pass, and the repeated blocks of transformers in it."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.export.eval_mode import without_fast_path
from nas_kd.methods.depth import place_at_depth

TOKEN_DIMS, MAP_DIMS = 3, 4  # tokens (B, t, d) and maps (B, c, h, w)
STAGES_BY_DEPTH = 3  # of a network whose resolution never changes
_NUMBERED = re.compile(r"\d+$")


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        path: of the module in the network.
        shape_in: resolution of its input: (h, w) of a map, (t,) of tokens; None: it is neither.
        shape_out: likewise of its output.
        tokens: (t, d) where it turns tokens (B, t, d) into as many of the same width; else None.
        sequence_first: whether it gives tokens as (t, B, d).
    """

    path: str
    shape_in: tuple[int, ...] | None
    shape_out: tuple[int, ...] | None
    tokens: tuple[int, int] | None = None
    sequence_first: bool = False


def is_closed(module: nn.Module) -> bool:
    """Whether what a module does inside cannot be seen: a scripted or traced one runs no hooks."""
    return isinstance(module, torch.jit.ScriptModule)


def record_calls(model: nn.Module, example: Tensor) -> list[Call]:
    """Every call of a submodule, in the order in which they end.

    Args:
        model: in any mode; left as it was.
        example: (B, ...) a batch that it takes.
    """
    calls: list[Call] = []

    def hook(path: str) -> Any:
        def record(_module: nn.Module, inputs: Any, output: Any) -> None:
            given = inputs[0] if inputs else None
            batch, first = len(example), first_output(output)
            tokens = _kept_tokens(given, first, batch)
            shapes = _resolution(given, batch), _resolution(output, batch)
            calls.append(Call(path, *shapes, tokens, isinstance(first, Tensor) and _is_sequence_first(first, batch)))

        return record

    handles = [m.register_forward_hook(hook(path)) for path, m in model.named_modules() if path and not is_closed(m)]
    was_training = model.training
    try:
        with torch.no_grad(), without_fast_path():
            model.eval()  # of a user's network may return nothing
            model(example)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return calls


def _is_sequence_first(tokens: Tensor, batch: int) -> bool:
    """Whether these are tokens (t, B, d), of another number than samples."""
    return tokens.dim() == TOKEN_DIMS and len(tokens) != batch == tokens.shape[1]


def first_output(output: Any) -> Any:
    """What a module gives, or the first of several things, which is the stream in blocks of transformers."""
    return output[0] if isinstance(output, tuple) and output else output


def _resolution(value: Any, batch: int) -> tuple[int, ...] | None:
    """(h, w) of a map, (t,) of tokens; None for anything else and for maps pooled to one point."""
    if not isinstance(value, Tensor) or value.dim() not in (TOKEN_DIMS, MAP_DIMS):
        return None
    value = value.transpose(0, 1) if _is_sequence_first(value, batch) else value
    if value.dim() == TOKEN_DIMS and len(value) != batch:  # windows of samples
        return None
    shape = tuple(value.shape[2:]) if value.dim() == MAP_DIMS else tuple(value.shape[1:2])
    return shape if max(shape) > 1 else None


def _kept_tokens(given: Any, output: Any, batch: int) -> tuple[int, int] | None:
    if not (isinstance(given, Tensor) and isinstance(output, Tensor)) or given.shape != output.shape:
        return None
    if output.dim() != TOKEN_DIMS:
        return None
    output = output.transpose(0, 1) if _is_sequence_first(output, batch) else output
    if len(output) != batch or output.shape[1] == 1:
        return None
    return output.shape[1], output.shape[2]


def stages_by_depth(model: nn.Module, calls: Sequence[Call]) -> tuple[str, ...]:
    """The blocks of a transformer after 1/3, 2/3 and all of its depth; empty if the network is something else.

    Its blocks are modules of one class under one name but for a number, with layers inside, that turn tokens into as
    many of the same width. Where tokens of several shapes go through such blocks the resolution changes, and stages are
    told by that. Blocks are read before the last normalisation, as in One-for-All (Hao et al. 2023, arXiv:2310.19444).

    Args:
        model: the network.
        calls: of all its modules.
    """
    called = Counter(call.path for call in calls)
    runs: dict[tuple[str, type], list[Call]] = defaultdict(list)
    for call in calls:
        name = _NUMBERED.sub("*", call.path)
        if call.tokens and called[call.path] == 1 and name != call.path and _is_token_block(model, call.path):
            runs[name, type(model.get_submodule(call.path))].append(call)
    repeated = [call for run in runs.values() if len(run) > 1 for call in run]
    outer = [c for c in calls if c in repeated and not any(c.path.startswith(f"{o.path}.") for o in repeated)]
    if len({call.tokens for call in outer}) != 1:
        return ()
    n = min(STAGES_BY_DEPTH, len(outer))
    return tuple(outer[place_at_depth(i, n, len(outer))].path for i in range(n))


def _is_token_block(model: nn.Module, path: str) -> bool:
    """Whether a module has layers inside, none of which reads (B, t, d) as channels of a signal."""
    inside = list(model.get_submodule(path).modules())[1:]
    return bool(inside) and not any(isinstance(m, nn.Conv1d | nn.BatchNorm1d) for m in inside)
