"""Fits tensors from a file to a network: prefixes that wrappers add, tied weights, number formats; and says so."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

COUNTER = "num_batches_tracked"  # of batch normalisation; older files do not have it
NEARLY_ALL = 0.9  # of a network's weights: below a prefix with fewer, the file's are not taken for the network's
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class FittedWeights:
    """Weights that a network can load.

    Attributes:
        tensors: by the network's own names, in its number formats.
        notes: what was changed, for people.
    """

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]


def fit_weights(network: nn.Module, given: Mapping[str, Tensor]) -> FittedWeights:
    """Fit tensors to a network.

    A prefix before all of the network's names (`module.`, `_orig_mod.`, `state_dict.model.`, any other) is stripped
    from the file's, or from the network's where that is the one that is wrapped. A tensor that the network uses under
    several names may be stored under one of them. Number formats of the same kind are converted.

    Args:
        network: that is to load them.
        given: by their names in the file.

    Raises:
        ValueError: they do not fit; the message says what is missing, unexpected or of another shape.
    """
    wanted = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    if any(is_lazy(value) for value in wanted.values()):
        raise ValueError("the network has lazy layers: run it once on a sample before it is returned")
    named, notes = _renamed(wanted, given)
    named = named | _tied(wanted, named)
    named |= {name: tensor for name, tensor in wanted.items() if name.endswith(COUNTER) and name not in named}
    if problems := _problems(wanted, named):
        raise ValueError("; ".join(problems))
    return FittedWeights(*_converted(wanted, named, notes))


def classes_in_file(network: nn.Module, given: Mapping[str, Tensor]) -> int | None:
    """Number of classes of the network that tensors are of, where only its head differs in that; None: it does not.

    Args:
        network: whose last layer has another number of outputs.
        given: by their names in the file.
    """
    wanted = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    try:
        named, _ = _renamed(wanted, given)
    except ValueError:  # it is raised again when the weights are loaded
        return None
    shapes = [name for name in wanted if name in named and named[name].shape != wanted[name].shape]
    numbers = _class_numbers(wanted, named, shapes)
    return None if numbers is None else numbers[0]


def shared_prefix(names: Iterable[str], allowed: Sequence[str]) -> str:
    """The longest prefix of all names that is made of the allowed components, such as `module._orig_mod.`.

    Args:
        names: dotted; every one keeps at least its last component.
        allowed: components without dots.
    """
    rest, prefix = list(names), ""
    while rest:
        first = rest[0].partition(".")[0]
        if first not in allowed or not all(name.startswith(f"{first}.") for name in rest):
            break
        prefix, rest = f"{prefix}{first}.", [name.removeprefix(f"{first}.") for name in rest]
    return prefix


def _renamed(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The file's tensors by the network's names, as far as a prefix makes them fit."""
    plain = {_without_compiled(name): tensor for name, tensor in given.items()}
    targets = {_without_compiled(name): name for name in wanted}
    outer = _common_prefix(targets)
    found = [
        (prefix, inner)
        for inner in dict.fromkeys(("", outer))
        for prefix in _prefixes(plain, [{name.removeprefix(inner) for name in group} for group in _groups(wanted)])
    ]
    if not found or ("", "") in found:
        return {targets.get(name, name): tensor for name, tensor in plain.items()}, []
    if len({prefix for prefix, inner in found if inner == found[0][1]}) > 1:
        names = " and ".join(repr(prefix) for prefix, _ in found)
        raise ValueError(f"several sets of weights in the file fit, those below {names}; keep one of them")
    prefix, inner = found[0]
    named = {
        targets.get(inner + name.removeprefix(prefix), inner + name.removeprefix(prefix)): tensor
        for name, tensor in plain.items()
        if name.startswith(prefix)
    }
    others = [name for name in plain if not name.startswith(prefix)]
    notes = [f"the prefix {prefix!r} of their names was stripped"] if prefix else []
    notes += [f"the names of the network begin with {inner!r}, those in the file do not"] if inner else []
    return named, notes + ([f"{_counted(others, 'other tensor')} left out: {_some(others)}"] if others else [])


def _groups(wanted: Mapping[str, Tensor]) -> list[set[str]]:
    """The network's weights by what they are: names of the same tensor stand together."""
    groups: dict[tuple[object, ...], set[str]] = {}
    for name, tensor in wanted.items():
        if not name.endswith(COUNTER):
            place = _place(tensor) if tensor.numel() else (name,)
            groups.setdefault(place, set()).add(_without_compiled(name))
    return list(groups.values())


def _prefixes(given: Mapping[str, Tensor], groups: Sequence[set[str]]) -> list[str]:
    """Prefixes under which the file has the most of the network's weights, and nearly all."""
    found = {}
    for target in sorted(name for group in groups[:SHOWN] for name in group):
        for name in given:
            if name == target or name.endswith(f".{target}"):
                prefix = name.removesuffix(target)
                found[prefix] = sum(any(prefix + other in given for other in group) for group in groups)
    most = max(found.values(), default=0)
    return sorted(p for p, count in found.items() if count == most and count >= NEARLY_ALL * len(groups))


def _common_prefix(names: Iterable[str]) -> str:
    """The components that all names begin with."""
    every = list(names)
    prefix = ""
    while every and "." in every[0]:
        first = every[0].partition(".")[0] + "."
        if not all(name.startswith(first) for name in every):
            break
        prefix, every = prefix + first, [name.removeprefix(first) for name in every]
    return prefix


def _without_compiled(name: str) -> str:
    """The name without what `torch.compile` puts before the names of parts that it has compiled."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _tied(wanted: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is missing, and is the same tensor in the network as one that is there."""
    there = {_place(wanted[name]): tensor for name, tensor in named.items() if name in wanted}
    missing = {name: _place(tensor) for name, tensor in wanted.items() if name not in named and tensor.numel()}
    return {name: there[place] for name, place in missing.items() if place in there}


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _problems(wanted: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in wanted if name not in named]
    unexpected = [name for name in named if name not in wanted]
    both = [name for name in wanted if name in named]
    shapes = [name for name in both if named[name].shape != wanted[name].shape]
    kinds = [name for name in both if _kind(named[name]) != _kind(wanted[name])]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(wanted)} tensors are missing ({_some(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if shapes:
        pairs = [f"{n}: {_shape(named[n])} in the file, {_shape(wanted[n])} in the network" for n in shapes]
        problems.append(f"{len(shapes)} of another shape ({_some(pairs, '; ')})")
    if kinds and not shapes:
        pairs = [f"{n}: {_dtype(named[n])} in the file, {_dtype(wanted[n])} in the network" for n in kinds]
        problems.append(f"{len(kinds)} of another kind of number ({_some(pairs, '; ')})")
    return problems + _class_hint(wanted, named, shapes)


def _class_hint(wanted: Mapping[str, Tensor], named: Mapping[str, Tensor], shapes: Sequence[str]) -> list[str]:
    if (numbers := _class_numbers(wanted, named, shapes)) is None:
        return []
    return [f"the file seems to be of {numbers[0]} classes: build the network for as many, it has {numbers[1]}"]


def _class_numbers(
    wanted: Mapping[str, Tensor], named: Mapping[str, Tensor], shapes: Sequence[str]
) -> tuple[int, int] | None:
    """Where only the last layer differs, in its number of outputs: those of file and network, most likely classes."""
    layers = {name.rpartition(".")[0] for name in shapes}
    rows = {(named[name].shape[:1], wanted[name].shape[:1]) for name in shapes}
    same_inputs = all(named[name].shape[1:] == wanted[name].shape[1:] for name in shapes)
    last = list(wanted)[-1].rpartition(".")[0]
    if layers != {last} or len(rows) != 1 or not same_inputs:
        return None
    ((in_file, in_network),) = rows
    return (in_file[0], in_network[0]) if in_file and in_network else None


def _converted(
    wanted: Mapping[str, Tensor], named: Mapping[str, Tensor], notes: Sequence[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    changed = [name for name in wanted if named[name].dtype != wanted[name].dtype and not name.endswith(COUNTER)]
    formats = sorted({f"{_dtype(named[name])} to {_dtype(wanted[name])}" for name in changed})
    said = [f"{_counted(changed, 'tensor')} converted from {' and '.join(formats)}"] if changed else []
    return {name: named[name].to(wanted[name].dtype) for name in wanted}, (*notes, *said)


def _kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    return "complex" if tensor.is_complex() else "float" if tensor.is_floating_point() else "int"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _counted(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}{'s' if len(items) > 1 else ''} {'were' if len(items) > 1 else 'was'}"


def _some(names: Sequence[str], between: str = ", ") -> str:
    return between.join(names[:SHOWN]) + (f"{between}..." if len(names) > SHOWN else "")
