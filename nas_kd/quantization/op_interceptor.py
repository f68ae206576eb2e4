"""Intercepts a network's operations while it runs, to round values where 8-bit kernels read and write them.

Operands and results of convolutions, matrix products, sums, products and averages are quantised: the operations that
ONNX Runtime computes in integers. A result is rounded after the batch normalisation and ReLU that follow it, as these
are fused into the kernel.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

RoundFn = Callable[[int, Tensor], Tensor]  # (number of the value in the order of calls, value) -> rounded value
# "pending": a kernel's result, not rounded yet; "rounded": on a grid; "free": rounded only if a kernel reads it.
State = Literal["pending", "rounded", "free"]
# "fused": an operation fused into the kernel that made the value; "kernel": another kernel; "other": anything else.
Reader = Literal["fused", "other", "kernel"]

# Operations by name, without leading and trailing underscores (`relu_`, `__iadd__`).
WEIGHT_OPS = frozenset({"conv1d", "conv2d", "conv3d", "linear"})
TWO_OPERAND_OPS = frozenset(
    {"add", "iadd", "radd", "sub", "isub", "mul", "imul", "rmul", "matmul", "bmm", "cat", "concat"}
)
ONE_OPERAND_OPS = frozenset({"adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d"})
FUSED_OPS = frozenset({"batch_norm", "relu", "relu6", "hardtanh"})
VALUE_PRESERVING_OPS = frozenset({"to", "float", "contiguous", "clone", "detach"})
GRID_PRESERVING_OPS = frozenset(
    {"flatten", "reshape", "view", "permute", "transpose", "t", "squeeze", "unsqueeze", "movedim", "getitem"}
    | {"max_pool1d", "max_pool2d", "max_pool3d", "chunk", "split", "expand"}
)
METADATA_OPS = frozenset({"get", "set", "size", "dim", "numel", "stride", "len", "ndimension", "is_floating_point"})


class OpInterceptor(TorchFunctionMode):
    """While active, passes every value to be rounded to a callback, numbered in the order of calls.

    Attributes:
        unquantized: names of operations seen whose weights are not quantised.
    """

    def __init__(self, x: Tensor, activation: RoundFn, weight: RoundFn) -> None:
        """Prepare to intercept one call of a network.

        Args:
            x: the network's input; only values that depend on it are rounded.
            activation: returns an activation rounded.
            weight: returns the weight of a layer rounded.
        """
        super().__init__()
        self._activation, self._weight = activation, weight
        self._activations = self._weights = 0
        self._state = WeakTensorKeyDictionary()  # of all values that depend on the input
        self._rounded = WeakTensorKeyDictionary()
        self._changed = WeakTensorKeyDictionary()  # value -> result of an in-place operation on it
        self._state[x] = "free"
        self.unquantized: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation on its operands, rounded where needed."""
        options, name = dict(kwargs or {}), getattr(func, "__name__", "").strip("_")
        read = [self._state[t] for t in tensors_in((args, options)) if t in self._state]
        if not read or name in METADATA_OPS:
            return func(*args, **options)
        if name in VALUE_PRESERVING_OPS or (name in FUSED_OPS and read[0] == "pending"):
            return self._run(func, args, options, "fused", read[0])
        layer = name in WEIGHT_OPS
        known = len(read) == len(list(tensors_in((args, options))))
        kernel = layer or (name in ONE_OPERAND_OPS and known) or (name in TWO_OPERAND_OPS and known and len(read) > 1)
        if layer:
            args, options = self._with_rounded_weight(args, options)
        elif any(isinstance(t, torch.nn.Parameter) and t.ndim > 1 for t in tensors_in((args, options))):
            self.unquantized.append(name)
        result: State = "pending" if kernel else "rounded" if name in GRID_PRESERVING_OPS else "free"
        return self._run(func, args, options, "kernel" if kernel else "other", result)

    def _run(self, func: Any, args: tuple[Any, ...], options: dict[str, Any], reader: Reader, result: State) -> Any:
        given = self._read(args, reader)
        in_place = _in_place(func, options)
        replaced = in_place and given[0] is not args[0]
        if replaced:
            given = (given[0].clone(), *given[1:])  # other readers of the rounded value must not see the change
        made = func(*given, **{k: self._read(v, reader) for k, v in options.items()})
        for tensor in tensors_in(made):
            self._state[tensor] = result
            if in_place:
                self._rounded.pop(tensor, None)  # type: ignore[no-untyped-call]
        if replaced:
            self._changed[args[0]] = made  # for code that continues with the operand instead of the result
        return made

    def _with_rounded_weight(
        self, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        number, self._weights = self._weights, self._weights + 1
        if "weight" in options:
            return args, options | {"weight": self._weight(number, options["weight"])}
        return (args[0], self._weight(number, args[1]), *args[2:]), options

    def _read(self, value: Any, reader: Reader) -> Any:
        """Return a value as this reader sees it, also inside lists and tuples."""
        if isinstance(value, tuple | list):
            return type(value)(self._read(v, reader) for v in value)
        if not isinstance(value, Tensor) or value not in self._state:
            return value
        while value in self._changed:
            value = self._changed[value]
        state = self._state[value]
        if reader == "fused" or state == "rounded" or (state == "free" and reader == "other"):
            return value
        if value not in self._rounded:
            number, self._activations = self._activations, self._activations + 1
            self._rounded[value] = self._activation(number, value)
        return self._rounded[value]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield all tensors_in in nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def _in_place(func: Any, options: Mapping[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    return bool(options.get("inplace")) or name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
