"""Embedding matching (Yu et al. 2019, "Learning Metrics from Teachers", arXiv:1904.03624, the absolute teacher, eq. 2).

L = label loss + mean over the batch of ||s / |s| - t / |t| ||^2, which is 2 - 2 cos(s, t). Where the teacher's vectors
have another width, s is W s with a trained linear W; where they have the same, the student's vectors can be compared
with a gallery of the teacher's.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs


class EmbeddingMatching(Method):
    """The student's vectors point where the teacher's do; weight 1."""

    name = "embedding"
    source = "Yu 2019, arXiv:1904.03624"
    summary = "squared distance between the vectors of student and teacher, of length 1"
    decisions = frozenset({"vectors"})
    standardizes = False

    def __init__(self, temperature: float | None = None, strength: float = 1.0) -> None:
        """See `Method`; vectors are of one width until networks are known."""
        super().__init__(temperature, strength)
        self.projection: nn.Module = nn.Identity()

    def attach(self, context: MethodContext) -> None:
        """Create a projection to the teacher's width where the student's is another."""
        width, wanted = context.student_outputs.logits.shape[1], context.teacher_outputs[0].logits.shape[1]
        self.projection = nn.Identity() if width == wanted else nn.Linear(width, wanted, bias=False)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `embedding`: the mean squared distance of vectors (B, d) and (B, e)."""
        ours, theirs = (F.normalize(v, dim=1) for v in (self.projection(student.logits), teachers[0].logits))
        return {"embedding": (ours - theirs).square().sum(dim=1).mean()}


PLUGIN = EmbeddingMatching
