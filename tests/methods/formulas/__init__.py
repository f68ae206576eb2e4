"""The published formula of every method, in plain, slow torch: what the fast losses are compared with.

One sample, class, channel or position at a time, on scalars. Nothing is shared with `nas_kd`: all that is taken from a
method are the weights that it trains, and the networks that it runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from nas_kd.methods.base import Batch, Outputs

from . import feature, networks, relation, response

# (attached method, student, teachers, batch) -> terms by name, each at its published weight
Formula = Callable[[Any, Outputs, Sequence[Outputs], Batch], Mapping[str, Tensor]]

FORMULAS: dict[str, Formula] = {
    name: formula for module in (response, feature, relation, networks) for name, formula in module.FORMULAS.items()
}
