"""Methods by name: one of them, or `a+b`, the sum of the terms of several.

The best results in the surveys combine a response-based method with a feature- or relation-based one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Generator, Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import OF_LABELLED_SAMPLES, Batch, Method, MethodContext, Outputs
from nas_kd.plugins import load
from nas_kd.user_code import describe_error, unchanged_settings

TEACHERS = ("none", "one", "several")


class Combined(Method):
    """Sum of several methods' terms, each at its own weight; `ce_weight` is the smallest of theirs."""

    name = "combined"
    source = "the parts' own"
    summary = "the terms of two or more methods summed"

    def __init__(self, parts: Sequence[Method]) -> None:
        """Combine methods that have not been attached yet.

        Args:
            parts: two methods or more; the first one's temperature and strength apply to all.
        """
        super().__init__(parts[0].temperature, parts[0].strength)
        self._parts = nn.ModuleList(parts)
        self.methods = tuple(parts)
        self.ce_weight = min(p.ce_weight for p in parts)
        self.needs = frozenset(need for part in parts for need in part.needs)
        self.optional = self.needs - frozenset(need for part in parts for need in part.needs - part.optional)
        self.teachers = max((p.teachers for p in parts), key=TEACHERS.index)
        self.tunable = tuple(sorted({t for part in parts for t in part.tunable}))
        self.unscaled_terms = frozenset(term for part in parts for term in part.unscaled_terms)
        self.train_cost_factor = 1 + sum(p.train_cost_factor - 1 for p in parts)
        self.generations = max(p.generations for p in parts)

    def attach(self, context: MethodContext) -> None:
        """Attach every part, in the order of the name."""
        for part in self.methods:
            part.attach(context)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return the terms of all parts in one dictionary."""
        return {name: term for part in self.methods for name, term in part(student, teachers, batch).items()}

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """Use the order of the first part that overrides `order`."""
        asking = [p for p in self.methods if p.has_own_order]
        return (asking or self.methods)[0].order(labels, generator)

    @property
    def has_own_order(self) -> bool:
        """Whether one of the parts orders samples."""
        return any(p.has_own_order for p in self.methods)

    def draw(self, real: Callable[[], Batch]) -> Batch:
        """Pass the batch through every part's `draw`, in the order of the name."""
        for part in self.methods:
            real = partial(part.draw, real)
        return real()

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizers of all parts, named `part.optimizer`."""
        return {f"{part.name}.{name}": o for part in self.methods for name, o in part.optimizers().items()}

    def peers(self) -> Sequence[nn.Module]:
        """The deployable peers of all parts, in order."""
        return tuple(chain.from_iterable(p.peers() for p in self.methods))

    def parts(self) -> Sequence[Method]:
        """The parts of the summed methods, each calibrated by itself."""
        return tuple(chain.from_iterable(part.parts() for part in self.methods))


def uses_unlabelled(method: Method) -> bool:
    """Whether a method learns from samples without a label: it has a teacher and shows it real samples.

    A sum does if one of its parts does; parts that need labels or numbers of samples are given the labelled ones.

    Args:
        method: one method, or a sum.
    """
    if method.teachers == "none" or any(type(p).draw is not Method.draw for p in method.parts()):
        return False
    return any(p.teachers != "none" and not p.needs & OF_LABELLED_SAMPLES for p in method.parts())


def method_class(name: str) -> type[Method]:
    """Find the class of one method, built in (`fitnet`) or a user's (`package.module:Name`).

    Raises:
        InputError: the name is unknown (with a suggestion), or the object is not a `Method` class.
    """
    found = load("method", name)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InputError(f"{name!r} is not a nas_kd.methods.base.Method class")
    return found


def _created(kind: type[Method], temperature: float | None, strength: float) -> Method:
    """An instance of a method; a user's own may change settings or raise anything on the way."""
    if kind.__module__.startswith(f"{Method.__module__.rpartition('.')[0]}."):
        return kind(temperature, strength)
    try:
        with unchanged_settings():
            return kind(temperature, strength)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"method {kind.__name__} cannot be created from temperature and strength: {describe_error(error)}"
        ) from error


def make_method(name: str, temperature: float | None = None, strength: float = 1.0) -> Method:
    """Create the method of this name, or the sum of several.

    Args:
        name: a method's name, or names joined by `+`.
        temperature: softmax temperature; None: each method's published one.
        strength: factor on the terms.

    Raises:
        InputError: a name is unknown or given twice, or two parts make up their own samples.
    """
    names = name.split("+")
    if len(set(names)) < len(names):
        raise InputError(f"method {name!r} names a part twice")
    parts = [_created(method_class(n), temperature, strength) for n in names]
    synthesisers = [p for p in parts if type(p).draw is not Method.draw]
    if len(synthesisers) > 1:
        raise InputError(f"method {name!r}: two parts make up their own samples; keep one of them")
    if synthesisers and any("indices" in p.needs for p in parts):
        raise InputError(f"method {name!r}: one part remembers training samples, another makes up its own")
    return parts[0] if len(parts) == 1 else Combined(parts)


def method_facts(*methods: Method, calibrated: bool) -> dict[str, Any]:
    """Collect versions of methods and of their parts, and what they are calibrated to: for fingerprints of trainings.

    First versions are left out, and so is calibration where a method has none, so that keys stay valid where nothing
    changed.

    Args:
        methods: single ones or sums.
        calibrated: `distill.calibrate`.
    """
    parts = [(method, part) for method in methods for part in method.parts()]
    versions = {part.name: part.version for _, part in parts if part.version > 1}
    ratios = {p.name: p.target_grad_ratio for m, p in parts if calibrated and p.is_calibrated and m.ce_weight > 0}
    facts = {"versions": versions, "target_grad_ratios": ratios}
    return {name: values for name, values in facts.items() if values}
