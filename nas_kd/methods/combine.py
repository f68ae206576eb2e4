"""`a+b`: the terms of two or more methods summed (the surveys' best results join response with feature or relation)."""

from collections.abc import Sequence

from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.plugins import load


class Combined(Method):
    """The parts' terms, each at its own weight; cross-entropy has the smallest weight that a part gives it."""

    name = "combined"

    def __init__(self, parts: Sequence[Method]) -> None:
        super().__init__(parts[0].temperature, parts[0].strength)
        self.parts = nn.ModuleList(parts)
        self.methods = tuple(parts)
        self.ce_weight = min(p.ce_weight for p in parts)
        self.needs = frozenset(need for part in parts for need in part.needs)
        self.tunable = tuple(sorted({t for part in parts for t in part.tunable}))

    def attach(self, student: Outputs, teachers: Sequence[Outputs]) -> None:
        """Attach every part."""
        for part in self.methods:
            part.attach(student, teachers)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """All parts' terms."""
        return {name: term for part in self.methods for name, term in part(student, teachers, batch).items()}

    def detach(self, student: nn.Module) -> nn.Module:
        """Let every part in turn choose what is deployed."""
        for part in self.methods:
            student = part.detach(student)
        return student


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
        InputError: a name is unknown or given twice.
    """
    names = name.split("+")
    if len(set(names)) < len(names):
        raise InputError(f"method {name!r} names a part twice")
    parts = [method_class(n)(temperature, strength) for n in names]
    return parts[0] if len(parts) == 1 else Combined(parts)
