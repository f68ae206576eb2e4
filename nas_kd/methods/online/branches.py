"""Branches: the student's last layers again, with other initial weights, on the features that it computes anyway."""

from torch import nn

from nas_kd.methods.base import MethodContext, Network, Outputs


class Branches(nn.Module):
    """`count` fresh copies of the student's layers behind stage `stage`; the trunk before it is the student's own."""

    def __init__(self, context: MethodContext, count: int) -> None:
        """Build them.

        Raises:
            InputError: the student has no feature map, or cannot be cut there.
        """
        super().__init__()
        self.stage = context.branch_stage
        self.tails = nn.ModuleList(context.branch(1 + i) for i in range(count))
        example = context.student_outputs.features[self.stage]
        self._run: tuple[Network, ...] = tuple(context.observe(tail, example) for tail in self.tails)

    def forward(self, student: Outputs) -> list[Outputs]:
        """What each branch makes of the student's features; gradients reach the trunk."""
        # Copies: a tail that starts with an operation in place would change the features under everybody else's hands.
        return [run(student.features[self.stage].clone()) for run in self._run]
