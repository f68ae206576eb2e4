"""Watches a network's operations while it runs, and has values rounded where 8-bit kernels read and write them.

Quantised are the operands and results of convolutions, matrix products, sums, products and averages: what ONNX Runtime
computes in integers. A result is rounded after the batch normalisation and ReLU behind it, as these are part of the
kernel.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Round = Callable[[int, Tensor], Tensor]  # number of the place in the order of calls, value
State = Literal[
    "pending", "rounded", "free"
]  # a kernel's result, to be rounded; on a grid; rounded if a kernel reads it
Reader = Literal["part", "any", "kernel"]  # part of the kernel that the value comes from; anything else; another kernel

# By name, without underscores at either end: `relu_`, `__iadd__`.
LAYERS = frozenset({"conv1d", "conv2d", "conv3d", "linear"})
OF_TWO = frozenset({"add", "iadd", "radd", "sub", "isub", "mul", "imul", "rmul", "matmul", "bmm", "cat", "concat"})
OF_ONE = frozenset({"adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d"})
PARTS = frozenset({"batch_norm", "relu", "relu6", "hardtanh"})
SAME_VALUES = frozenset({"to", "float", "contiguous", "clone", "detach"})
SAME_GRID = frozenset(
    {"flatten", "reshape", "view", "permute", "transpose", "t", "squeeze", "unsqueeze", "movedim", "getitem"}
    | {"max_pool1d", "max_pool2d", "max_pool3d", "chunk", "split", "expand"}
)
METADATA = frozenset({"get", "set", "size", "dim", "numel", "stride", "len", "ndimension", "is_floating_point"})


class OpInterceptor(TorchFunctionMode):
    """Inside of it, `activation` and `weight` are given every value to be rounded, numbered in the order of calls."""

    def __init__(self, x: Tensor, activation: Round, weight: Round) -> None:
        """`x`: the network's input."""
        super().__init__()
        self._activation, self._weight = activation, weight
        self._activations = self._weights = 0
        self._state = WeakTensorKeyDictionary()  # of all that depends on the input
        self._rounded = WeakTensorKeyDictionary()
        self._changed = WeakTensorKeyDictionary()  # what operations in place have made of a value
        self._state[x] = "free"
        self.left: list[str] = []  # operations whose weights are not quantised

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation."""
        options, name = dict(kwargs or {}), getattr(func, "__name__", "").strip("_")
        read = [self._state[t] for t in tensors((args, options)) if t in self._state]
        if not read or name in METADATA:
            return func(*args, **options)
        if name in SAME_VALUES or (name in PARTS and read[0] == "pending"):
            return self._run(func, args, options, "part", read[0])
        layer = name in LAYERS
        known = len(read) == len(list(tensors((args, options))))
        kernel = layer or (name in OF_ONE and known) or (name in OF_TWO and known and len(read) > 1)
        if layer:
            args, options = self._with_rounded_weight(args, options)
        elif any(isinstance(t, torch.nn.Parameter) and t.ndim > 1 for t in tensors((args, options))):
            self.left.append(name)
        result: State = "pending" if kernel else "rounded" if name in SAME_GRID else "free"
        return self._run(func, args, options, "kernel" if kernel else "any", result)

    def _run(self, func: Any, args: tuple[Any, ...], options: dict[str, Any], reader: Reader, result: State) -> Any:
        given = self._read(args, reader)
        in_place = _in_place(func, options)
        replaced = in_place and given[0] is not args[0]
        if replaced:
            given = (given[0].clone(), *given[1:])  # who else reads the rounded value must not see the change
        made = func(*given, **{k: self._read(v, reader) for k, v in options.items()})
        for tensor in tensors(made):
            self._state[tensor] = result
            if in_place:
                self._rounded.pop(tensor, None)  # type: ignore[no-untyped-call]
        if replaced:
            self._changed[args[0]] = made  # for whoever goes on with the operand instead of the result
        return made

    def _with_rounded_weight(
        self, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        number, self._weights = self._weights, self._weights + 1
        if "weight" in options:
            return args, options | {"weight": self._weight(number, options["weight"])}
        return (args[0], self._weight(number, args[1]), *args[2:]), options

    def _read(self, value: Any, reader: Reader) -> Any:
        """The value as this reader sees it, inside of lists and tuples too."""
        if isinstance(value, tuple | list):
            return type(value)(self._read(v, reader) for v in value)
        if not isinstance(value, Tensor) or value not in self._state:
            return value
        while value in self._changed:
            value = self._changed[value]
        state = self._state[value]
        if reader == "part" or state == "rounded" or (state == "free" and reader == "any"):
            return value
        if value not in self._rounded:
            number, self._activations = self._activations, self._activations + 1
            self._rounded[value] = self._activation(number, value)
        return self._rounded[value]


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def _in_place(func: Any, options: Mapping[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    return bool(options.get("inplace")) or name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
