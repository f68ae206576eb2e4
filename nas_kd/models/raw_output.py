"""Turns whatever a network returns into logits: a tensor, a tuple, a mapping or an object with `.logits`.

A `LogitsReader` is found once, on real samples, and says where the logits are in everything that the network returns.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError

Path = tuple[str | int, ...]  # keys, attributes and places that lead from what is returned to a tensor
MAX_DEPTH = 3  # of nested containers that are looked into
MAX_SHOWN = 8  # tensors named in a message
LOGITS = "logits"
OTHER_CLASSES = '; if it was trained on other classes, label_set = "other" says so'
SUM_TOLERANCE = 1e-3  # of probabilities, which may come in half precision
SMALLEST = 1e-12  # probability whose logarithm is still taken as it is


@dataclasses.dataclass(frozen=True)
class LogitsReader:
    """Where a network's logits are in what it returns.

    Attributes:
        path: of the tensor; empty: what is returned is the tensor.
        flattened: whether dimensions of size 1 are dropped, as those of (B, C, 1, 1).
        probabilities: whether the tensor holds probabilities, whose logarithm then stands for the logits.
    """

    path: Path = ()
    flattened: bool = False
    probabilities: bool = False

    def __call__(self, raw: Any) -> Tensor:
        """Read the logits (B, C) in what the network returned for B samples."""
        found: Tensor = _follow(raw, self.path)
        if self.flattened:
            found = found.reshape(len(found), -1)
        return found.float().clamp_min(SMALLEST).log() if self.probabilities else found

    @property
    def is_plain(self) -> bool:
        """Whether the network returns its logits and nothing else."""
        return self == LogitsReader()


def find_logits(raw: Any, n_samples: int, n_classes: int | None, what: str) -> LogitsReader:
    """Find the logits in what a network returned.

    Logits are what is returned, or stands under "logits", or comes first; else the one tensor of the right shape.

    Args:
        raw: what the network returned.
        n_samples: B, that it was run on.
        n_classes: C; None: any number from two.
        what: the network with a verb before it, for messages, such as "teacher:".

    Raises:
        InputError: there is no tensor (B, C), or several; the message says what was returned and what to do.
    """
    tensors = dict(_tensors(raw))
    fitting = {path: value for path, value in tensors.items() if _fits(value, n_samples, n_classes)}
    chosen = _preferred(raw, list(fitting), (LOGITS,))
    if chosen and all(fitting[path] is fitting[chosen[0]] for path in chosen):
        return LogitsReader(chosen[0], flattened=fitting[chosen[0]].ndim != 2)
    wanted, returned = f"({n_samples}, {n_classes or 'n_classes'})", _described(raw, tensors)
    if chosen:
        raise InputError(
            f"{what} returns {returned}: which of them the logits {wanted} are cannot be known; return them first in a "
            f"tuple, or under the key or attribute {LOGITS!r}"
        )
    raise InputError(
        f"{what} must give logits of shape {wanted} for {n_samples} samples, got {returned}"
        f"{_hint(tensors, n_samples, n_classes, OTHER_CLASSES if what.startswith('teacher') else '')}"
    )


def find_output(raw: Any, n_samples: int, shape: Sequence[int | None], what: str) -> LogitsReader:
    """Find what a task asks for in what a network returned.

    Args:
        raw: what the network returned.
        n_samples: B, that it was run on.
        shape: of the output for one sample; None: a side of any length. With a single side, see `find_logits`.
        what: the network with a verb before it, for messages, such as "teacher:".

    Raises:
        InputError: there is no such tensor, or there are several.
    """
    if len(shape) == 1:
        return find_logits(raw, n_samples, shape[0], what)
    tensors = dict(_tensors(raw))
    fitting = {path: value for path, value in tensors.items() if _has_shape(value, n_samples, shape)}
    named = _preferred(raw, list(fitting), (LOGITS, "out"))
    wanted = ", ".join("any" if side is None else str(side) for side in (n_samples, *shape))
    if len(named) == 1:
        return LogitsReader(named[0])
    if named:
        raise InputError(f"{what} returns several tensors of shape ({wanted}): {_described(raw, tensors)}")
    raise InputError(f"{what} must give an output of shape ({wanted}), got {_described(raw, tensors)}")


def _preferred(raw: Any, fitting: list[Path], names: Sequence[str]) -> list[Path]:
    """Of the tensors that fit, those of these names; else the first of a tuple; else all."""
    first = next((key for key, _ in _parts(raw)), None) if isinstance(raw, tuple | list) else None
    by_name = [path for path in fitting if path[-1:] and path[-1] in names]
    return by_name or [path for path in fitting if path == (first,)] or fitting


def _has_shape(value: Tensor, n_samples: int, shape: Sequence[int | None]) -> bool:
    if value.ndim != 1 + len(shape) or len(value) != n_samples or not value.is_floating_point():
        return False
    return all(wanted in (None, side) for wanted, side in zip(shape, value.shape[1:], strict=True))


def are_probabilities(values: Tensor) -> bool:
    """Whether rows (B, C) are probabilities rather than logits: within 0..1, with a sum of 1.

    Args:
        values: of at least a few samples; logits that happen to be like this for all of them do not exist in practice.
    """
    rows = values.double()
    inside = bool(((rows >= 0) & (rows <= 1)).all())
    return inside and bool(((rows.sum(dim=1) - 1).abs() < SUM_TOLERANCE).all())


class LogitsOnly(nn.Module):
    """A network reduced to its logits, which leaves its input and the random state as they are."""

    def __init__(self, body: nn.Module, reader: LogitsReader, *, keeps_input: bool = True, draws: bool = False) -> None:
        """Wrap a network.

        Args:
            body: the network.
            reader: finds the logits in what it returns.
            keeps_input: whether it leaves its input as it is; if not, it gets a copy.
            draws: whether it draws random numbers in evaluation mode; they are then the same in every call.
        """
        super().__init__()
        self.body, self._reader, self._keeps_input, self._draws = body, reader, keeps_input, draws

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on x (B, ...) and return its logits (B, C)."""
        given = x if self._keeps_input else x.clone()
        if not self._draws:
            return self._reader(self.body(given))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return self._reader(self.body(given))


class FixedBatch(nn.Module):
    """A network that takes batches of one size only, as one traced with that size, run batch by batch."""

    def __init__(self, body: nn.Module, size: int) -> None:
        """Wrap a network that takes x (size, ...) and returns a tensor (size, C)."""
        super().__init__()
        self.body, self.size = body, size

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on x (B, ...), the last samples repeated to fill a batch: (B, C)."""
        missing = -len(x) % self.size
        full = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
        return torch.cat([self.body(part) for part in torch.split(full, self.size)])[: len(x)]


def _tensors(raw: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """All tensors in what a network returned, by path, in their order."""
    if isinstance(raw, Tensor):
        yield path, raw
    elif len(path) < MAX_DEPTH:
        for key, value in _parts(raw):
            yield from _tensors(value, (*path, key))


def _parts(raw: Any) -> list[tuple[str | int, Any]]:
    if isinstance(raw, Mapping):
        return list(raw.items())
    if isinstance(raw, tuple) and hasattr(raw, "_fields"):
        return list(zip(raw._fields, raw, strict=True))
    if isinstance(raw, tuple | list):
        return list(enumerate(raw))
    if dataclasses.is_dataclass(raw) and not isinstance(raw, type):
        return [(field.name, getattr(raw, field.name)) for field in dataclasses.fields(raw)]
    if raw is None or isinstance(raw, str | bytes | int | float):
        return []
    own = dict(getattr(raw, "__dict__", {}))
    if hasattr(raw, LOGITS):  # it may be computed
        own[LOGITS] = getattr(raw, LOGITS)
    return list(own.items())


def _follow(raw: Any, path: Path) -> Any:
    for key in path:
        by_key = isinstance(raw, Mapping) or isinstance(key, int)
        raw = raw[key] if by_key else getattr(raw, str(key))
    return raw


def _fits(value: Tensor, n_samples: int, n_classes: int | None) -> bool:
    if value.ndim < 2 or value.shape[0] != n_samples or not value.is_floating_point():
        return False
    sizes = [size for size in value.shape[1:] if size != 1]
    if n_classes == 1:
        return not sizes
    return len(sizes) == 1 and n_classes in (None, *sizes)


def _described(raw: Any, tensors: Mapping[Path, Tensor]) -> str:
    if isinstance(raw, Tensor):
        kind = "" if raw.is_floating_point() else f" of {raw.dtype}"
        return f"{tuple(raw.shape)}{kind}"
    shown = [f"{_name(path)} {tuple(value.shape)}" for path, value in list(tensors.items())[:MAX_SHOWN]]
    more = ["..."] if len(tensors) > MAX_SHOWN else []
    inside = f" with {', '.join([*shown, *more])}" if shown else " without tensors"
    return f"a {type(raw).__name__}{inside}"


def _name(path: Path) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f"[{key!r}]" for key in path)


def _hint(tensors: Mapping[Path, Tensor], n_samples: int, n_classes: int | None, other: str) -> str:
    """What to do about the one tensor that is nearly right."""
    rows = [value for value in tensors.values() if value.ndim == 2 and value.shape[0] == n_samples]
    if n_classes == 2 and any(value.shape[1] == 1 for value in rows):
        return "; a single output for two classes is not supported: return torch.cat([-z / 2, z / 2], 1) of it"
    if n_classes and len(rows) == 1 and rows[0].is_floating_point():
        advice = "replace its last layer, or return the logits of these classes only"
        return f"; the data has {n_classes} classes: {advice}{other}"
    return ""
