"""Low rank alone: large layers of the teacher as products of two smaller ones, not trained again.

Denton et al. 2014 (arXiv:1404.0736), Jaderberg et al. 2014 (arXiv:1405.3866).
"""

from collections.abc import Callable, Iterator
from functools import partial

from nas_kd.errors import TrialError
from nas_kd.export.network_costs import count_parameters
from nas_kd.kd.baselines.base import Baseline, BaselineInputs, CompressedNetwork
from nas_kd.kd.baselines.untrained import as_compressed
from nas_kd.models.derived.low_rank import low_rank

SHARES = (0.5, 0.25)  # of a layer's weights that its two parts have together


class LowRank(Baseline):
    """Every layer of 32 inputs and outputs or more by truncated singular value decomposition."""

    name = "low_rank"
    summary = "the teacher's large layers as products of two of low rank, not trained again"
    techniques = ("low rank",)

    def variants(self, inputs: BaselineInputs) -> Iterator[Callable[[], CompressedNetwork]]:
        """One for each share of the large layers' weights.

        Raises:
            TrialError: the teacher is no module.
        """
        if inputs.teacher.record.origin == "onnx":
            raise TrialError("the teacher is an ONNX file, and has no layers that could be factorised")
        for share in SHARES:
            yield partial(_factorised, share, inputs)


def _factorised(share: float, inputs: BaselineInputs) -> CompressedNetwork:
    teacher = inputs.teacher.teacher.model
    network = low_rank(teacher, share)
    if count_parameters(network) >= count_parameters(teacher):
        raise TrialError("no layer of the teacher is large enough to be factorised")
    percent = round(100 * share)
    description = f"the teacher with large layers of low rank, {percent} % of their weights"
    return as_compressed(network, f"rank {percent} %", description, inputs)


PLUGIN = LowRank()
