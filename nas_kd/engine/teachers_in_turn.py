"""A teacher that changes over the schedule: its checkpoints from early to late, then the final network.

With n checkpoints the schedule is cut into n + 1 equal shares; the k-th checkpoint teaches in the k-th share, the final
teacher in the last one (route constrained optimisation, Jin et al. 2019, arXiv:1904.09149: a student follows the route
that the teacher's weights took; here in equal shares of one schedule, there in one schedule for each).
"""

from collections.abc import Sequence
from contextlib import ExitStack

from nas_kd.data.view import View
from nas_kd.engine.teacher_outputs import LiveTeacher, TeacherReader
from nas_kd.methods.base import Batch, Need, Outputs
from nas_kd.results.teaching import share_at


class TeachersInTurn(LiveTeacher):
    """Gives a method the outputs of one network after another; the method is attached to the last."""

    def __init__(self, outputs: Sequence[LiveTeacher]) -> None:
        """Take turns.

        Args:
            outputs: of networks that the same samples are shown to, in their order; each has an equal share.
        """
        last = outputs[-1]
        super().__init__(last.teacher, last.example(), last.numerics)
        self._outputs = tuple(outputs)

    def reader(self, needs: frozenset[Need], view: View | None, stack: ExitStack) -> TeacherReader:
        """Prepare to give a method the outputs of the network whose turn it is; see `LiveTeacher.reader`."""
        readers = [outputs.reader(needs, view, stack) for outputs in self._outputs]

        def read(epoch: int, batch: Batch) -> Outputs:
            return readers[share_at(batch.progress, len(readers))](epoch, batch)

        return read
