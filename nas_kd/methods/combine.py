"""`a+b`: the terms of two or more methods summed (the surveys' best results join response with feature or relation)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Generator, Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.plugins import load

TEACHERS = ("none", "one", "several")


class Combined(Method):
    """The parts' terms, each at its own weight; cross-entropy has the smallest weight that a part gives it."""

    name = "combined"
    source = "the parts' own"
    summary = "the terms of two or more methods summed"

    def __init__(self, parts: Sequence[Method]) -> None:
        super().__init__(parts[0].temperature, parts[0].strength)
        self._parts = nn.ModuleList(parts)
        self.methods = tuple(parts)
        self.ce_weight = min(p.ce_weight for p in parts)
        self.needs = frozenset(need for part in parts for need in part.needs)
        self.teachers = max((p.teachers for p in parts), key=TEACHERS.index)
        self.tunable = tuple(sorted({t for part in parts for t in part.tunable}))
        self.unscaled_terms = frozenset(term for part in parts for term in part.unscaled_terms)
        self.networks = 1 + sum(p.networks - 1 for p in parts)
        self.generations = max(p.generations for p in parts)

    def attach(self, context: MethodContext) -> None:
        """Attach every part."""
        for part in self.methods:
            part.attach(context)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """All parts' terms."""
        return {name: term for part in self.methods for name, term in part(student, teachers, batch).items()}

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """That of the first part that asks for one of its own."""
        asking = [p for p in self.methods if type(p).order is not Method.order]
        return (asking or self.methods)[0].order(labels, generator)

    def draw(self, real: Callable[[], Batch]) -> Batch:
        """Let every part in turn put its own in the place of the batch before."""
        for part in self.methods:
            real = partial(part.draw, real)
        return real()

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Those of all parts."""
        return {f"{part.name}.{name}": o for part in self.methods for name, o in part.optimizers().items()}

    def peers(self) -> Sequence[nn.Module]:
        """Those of all parts."""
        return tuple(chain.from_iterable(p.peers() for p in self.methods))

    def parts(self) -> Sequence[Method]:
        """The methods that were summed."""
        return self.methods


def method_class(name: str) -> type[Method]:
    """The class behind one name.

    Raises:
        InputError: unknown (with a suggestion), or not a `Method`.
    """
    found = load("method", name)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InputError(f"{name!r} is not a nas_kd.methods.base.Method class")
    return found


def make_method(name: str, temperature: float | None = None, strength: float = 1.0) -> Method:
    """The method called `name`, or the sum of several (`a+b`).

    Raises:
        InputError: a name is unknown or given twice, or two parts make up their own samples.
    """
    names = name.split("+")
    if len(set(names)) < len(names):
        raise InputError(f"method {name!r} names a part twice")
    parts = [method_class(n)(temperature, strength) for n in names]
    made_up = [p for p in parts if type(p).draw is not Method.draw]
    if len(made_up) > 1:
        raise InputError(f"method {name!r}: two parts make up their own samples; take one of them")
    if made_up and any("indices" in p.needs for p in parts):
        raise InputError(f"method {name!r}: one part remembers training samples, another makes up its own")
    return parts[0] if len(parts) == 1 else Combined(parts)
