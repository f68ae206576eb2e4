"""Data of the user's own: a function or a `Source` at `package.module:name`.

A function is called without arguments. Besides the samples, the arrays it returns may hold a teacher's view,
`x_teacher_*` and `pairs_*`, named as in an .npz file (`nas_kd.data.npz`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nas_kd.config.options import DataOptions
from nas_kd.data.npz import from_mapping
from nas_kd.data.source import RawData, Source, error_summary
from nas_kd.errors import InputError
from nas_kd.plugins import load
from nas_kd.user_code import unchanged_settings


@dataclass
class FunctionSource:
    """Data source that calls a user's function.

    Attributes:
        name: `package.module:function`.
        function: returns a mapping with the arrays that an .npz file has, or a `RawData`.
        summary: one line for lists.
        uses: the options of `[data]` that apply.
    """

    name: str
    function: Callable[[], Any]
    summary: str = "your own function: package.module:function"
    uses: frozenset[str] = frozenset({"layout", "group"})

    def load(self, options: DataOptions) -> RawData:
        """Call the function and convert what it returns.

        Args:
            options: the `[data]` section; only `layout` and `group` apply.

        Raises:
            InputError: the function raised an error, or returned something else.
        """
        try:
            with unchanged_settings():
                returned = self.function()
        except (Exception, SystemExit) as error:  # a user's function may raise anything
            raise InputError(f"{self.name!r} failed: {error_summary(error)}") from error
        if isinstance(returned, RawData):
            return returned
        if isinstance(returned, Mapping):
            name = self.name.rpartition(":")[2]
            return from_mapping(returned, options.layout, repr(self.name), name, options.group)
        raise InputError(
            f"{self.name!r} returned {type(returned).__name__}; want a mapping with x_train, y_train "
            "(and x_val, y_val, x_test, y_test), or nas_kd.data.source.RawData"
        )


def load_user_source(name: str) -> Source:
    """Import the user's data source: a function, or a `Source` (an instance, or a class without arguments).

    Args:
        name: `package.module:name`.

    Raises:
        InputError: there is no such object, or it is neither.
    """
    found = load("dataset", name)
    if isinstance(found, type) and hasattr(found, "load"):
        with unchanged_settings():
            found = found()
    if isinstance(found, Source):
        return found
    if not callable(found):
        raise InputError(f"{name!r} is {type(found).__name__}; want a function that returns the arrays")
    return FunctionSource(name, found)
