"""A user's own data: `package.module:function`, called without arguments, or a `Source` of their own.

The arrays may have a teacher's view beside them, `x_teacher_*` and `pairs_*`, as those of an .npz (`nas_kd.data.npz`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nas_kd.config.options import DataOptions
from nas_kd.data.npz import from_mapping
from nas_kd.data.source import RawData, Source, reason
from nas_kd.errors import InputError
from nas_kd.plugins import import_object


@dataclass
class Factory:
    """`function` returns a mapping with the arrays that an .npz has, or a `RawData`."""

    name: str
    function: Callable[[], Any]
    summary: str = "your own function: package.module:function"
    uses: frozenset[str] = frozenset({"layout"})

    def load(self, options: DataOptions) -> RawData:
        """Call the function."""
        try:
            returned = self.function()
        except Exception as error:  # a user's function may raise anything
            raise InputError(f"{self.name!r} failed: {reason(error)}") from error
        if isinstance(returned, RawData):
            return returned
        if isinstance(returned, Mapping):
            return from_mapping(returned, options.layout, repr(self.name), self.name.rpartition(":")[2])
        raise InputError(
            f"{self.name!r} returned {type(returned).__name__}; want a mapping with x_train, y_train "
            "(and x_val, y_val, x_test, y_test), or nas_kd.data.source.RawData"
        )


def load_user_source(name: str) -> Source:
    """The source at `package.module:name`: a function, or a `Source` (an instance, or a class without arguments).

    Raises:
        InputError: there is none, or it is something else.
    """
    found = import_object(name)
    if isinstance(found, type) and hasattr(found, "load"):
        found = found()
    if isinstance(found, Source):
        return found
    if not callable(found):
        raise InputError(f"{name!r} is {type(found).__name__}; want a function that returns the arrays")
    return Factory(name, found)
