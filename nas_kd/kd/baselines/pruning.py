"""Pruning alone: the teacher's own network with its least important channels, heads and blocks left out, not trained.

Li et al. 2017 (arXiv:1608.08710) on groups of channels that belong together (Fang et al. 2023, arXiv:2301.12900).
"""

from collections.abc import Callable, Iterator
from functools import partial

from torch import nn

from nas_kd.data.dataset import as_input
from nas_kd.errors import InputError, TrialError
from nas_kd.kd.baselines.base import Baseline, BaselineInputs, CompressedNetwork
from nas_kd.kd.baselines.untrained import as_compressed
from nas_kd.models.derived.derived_space import DerivedSpace
from nas_kd.results.candidate import Architecture

SHARES = (0.5, 0.25)  # of the teacher's weights
EXAMPLES = 64  # samples that blocks are ranked on
SIZES = 32  # among which the nearest to a share is looked for


class Pruning(Baseline):
    """Cuts of a half and a quarter of the weights, and one of the size that the budget allows."""

    name = "pruning"
    summary = "the teacher without its least important channels, heads and blocks, not trained again"
    techniques = ("pruning",)

    def variants(self, inputs: BaselineInputs) -> Iterator[Callable[[], CompressedNetwork]]:
        """One for each share of the weights.

        Raises:
            TrialError: the teacher is no module, or cannot be cut.
        """
        if inputs.teacher.record.origin == "onnx":
            raise TrialError("the teacher is an ONNX file, and has no layers that could be cut")
        space = _space(inputs)
        sizes = space.size_ladder(SIZES)
        weights = [sum(p.numel() for p in _build(space, size, inputs).parameters()) for size in sizes]
        seen = set[int]()
        for share in _shares(inputs, weights[-1]):
            place = min(range(len(sizes)), key=lambda n: abs(weights[n] - share * weights[-1]))
            if place not in seen and place < len(sizes) - 1:
                seen.add(place)
                yield partial(_pruned, space, sizes[place], round(100 * weights[place] / weights[-1]), inputs)


def _space(inputs: BaselineInputs) -> DerivedSpace:
    """The teacher's own space, which the run has already where its students are cut out of the teacher."""
    found = inputs.context.space
    try:
        if isinstance(found, DerivedSpace):
            return found.of_whole_layers()
        return DerivedSpace(inputs.teacher.teacher.model, as_input(inputs.context.data.val.x[:EXAMPLES]), ranks=False)
    except InputError as error:
        raise TrialError(str(error)) from error


def _shares(inputs: BaselineInputs, weights: int) -> list[float]:
    limit = inputs.context.config.budget.max_size_bytes
    allowed = [] if limit is None else [limit / (4 * weights)]
    return [*SHARES, *(share for share in allowed if share < 1)]


def _build(space: DerivedSpace, size: Architecture, inputs: BaselineInputs) -> nn.Module:
    return space.build(size, inputs.context.data.input_shape, inputs.context.data.n_classes)


def _pruned(space: DerivedSpace, size: Architecture, percent: int, inputs: BaselineInputs) -> CompressedNetwork:
    description = f"the teacher pruned to {percent} % of its weights: {space.describe(size)}"
    return as_compressed(_build(space, size, inputs), f"{percent} %", description, inputs)


PLUGIN = Pruning()
