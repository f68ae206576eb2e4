"""Finds the weights in what `torch.load` returns: a state dict, or a checkpoint that holds one.

Run by path in a process of its own; needs torch and the standard library only.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

# Where checkpoints keep their weights, in the order of preference.
KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *(
        "state_dict_ema",
        "ema_state_dict",
        "model_ema",
        "ema_model",
        "ema",
        "params_ema",
        "teacher",
        "student",
        "generator",
    ),
)
WRAPPERS = ("module", "_orig_mod", "_forward_module", "model", "net", "network", "state_dict")
MAX_DEPTH = 4


class NoWeightsError(ValueError):
    """There is no state dict."""


def find_weights(loaded: Any, key: str | None) -> tuple[dict[str, torch.Tensor], str, list[str], list[str]]:
    """Find the state dict in a loaded checkpoint.

    Args:
        loaded: what `torch.load` returned.
        key: where it is, dotted; None: look for it.

    Returns:
        The tensors; the key that they were found under, or ""; what else the checkpoint has; and which of that may be
        weights, too.

    Raises:
        NoWeightsError: says what there is.
    """
    if not isinstance(loaded, Mapping):
        raise NoWeightsError(f"holds {_kind(loaded)}, not a state dict")
    if key is not None:
        return _below(loaded, key.split("."), key)
    if (tensors := _tensors(loaded)) and not _holds_tables(loaded):
        return tensors, "", [f"{k} ({_kind(v)})" for k, v in loaded.items() if k not in tensors], []
    for path, value in _tables(loaded, ()):
        if found := _tensors(value):
            others = [f"{k} ({_kind(v)})" for k, v in loaded.items() if str(k) != path[0]]
            others += [f"{'.'.join(path)}.{k} ({_kind(v)})" for k, v in value.items() if k not in found]
            places = [".".join(p) for p, v in _tables(loaded, ()) if p != path and _tensors(v)]
            return found, ".".join(path), others, places
    if tensors := _tensors(loaded):
        return tensors, "", [f"{k} ({_kind(v)})" for k, v in loaded.items() if k not in tensors], []
    raise NoWeightsError(f"holds no state dict, but {_some(loaded)}; name it with --key")


def _below(
    loaded: Mapping[Any, Any], parts: list[str], key: str
) -> tuple[dict[str, torch.Tensor], str, list[str], list[str]]:
    place: Any = loaded
    for part in parts:
        if not isinstance(place, Mapping) or part not in place:
            raise NoWeightsError(f"has no {key!r}; it holds {_some(loaded)}")
        place = place[part]
    tensors = _tensors(place) if isinstance(place, Mapping) else {}
    if not tensors:
        raise NoWeightsError(f"{key!r} holds {_kind(place)} without tensors")
    others = [f"{k} ({_kind(v)})" for k, v in loaded.items() if str(k) != parts[0]]
    return tensors, key, others, []


def _tables(loaded: Mapping[Any, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Tables under the usual keys, the outer first."""
    for key in KEYS:
        value = loaded.get(key)
        if isinstance(value, Mapping) and len(path) < MAX_DEPTH:
            yield (*path, key), value
            yield from _tables(value, (*path, key))


def _holds_tables(loaded: Mapping[Any, Any]) -> bool:
    return any(isinstance(loaded.get(key), Mapping) for key in KEYS)


def _tensors(table: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in table.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"table of {len(value)}"
    return type(value).__name__ if not isinstance(value, list | tuple) else f"list of {len(value)}"


def _some(loaded: Mapping[Any, Any]) -> str:
    names = [f"{str(k)[:40]} ({_kind(v)})" for k, v in loaded.items()]
    return (", ".join(names[:5]) + (", ..." if len(names) > 5 else "")) or "nothing"


def storable(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], int]:
    """Copy tensors so that each has its own contiguous memory, as safetensors want it.

    Returns:
        The tensors, and how many of them were the same as another.

    Raises:
        NoWeightsError: one is sparse, quantised or on no device.
    """
    seen: set[tuple[Any, ...]] = set()
    tied = 0
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            kind = "sparse" if tensor.layout != torch.strided else "quantised" if tensor.is_quantized else "empty"
            raise NoWeightsError(f"tensor {name!r} is {kind}; convert it to a dense one before it is saved")
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        tied += tensor.numel() > 0 and place in seen
        seen.add(place)
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, tied


def shared_prefix(names: list[str]) -> str:
    """The prefix of all names that wrappers of networks have put there, such as `module._orig_mod.`; "" if none."""
    rest, prefix = names, ""
    while rest:
        first = rest[0].partition(".")[0]
        if first not in WRAPPERS or not all(name.startswith(f"{first}.") for name in rest):
            break
        prefix, rest = f"{prefix}{first}.", [name.removeprefix(f"{first}.") for name in rest]
    return prefix
