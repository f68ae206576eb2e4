"""Contrastive representation distillation (Tian et al. 2020, arXiv:1910.10699), eq. 17-19 in the memory-bank form.

L = CE + 0.8 (NCE(v_s against the teacher's bank) + NCE(v_t against the student's bank)). v = W e / |W e| has 128
dimensions, W is trained for each network, a bank holds the v of all N training samples (momentum 0.5), and

  NCE = -log h(own) - sum over K negatives of log(1 - h(negative)),  h = x / (x + K/N),  x = exp(v . bank / 0.07) / Z,

mean over the batch; Z is N times the mean of the exponentials in the first batch and constant afterwards. The second
NCE trains only the teacher's projection, at any strength.

Negatives are drawn, with replacement, from the samples of other classes (of mixed samples, that of the larger share). A
sample's class is unknown until training has seen it once, so in the first epoch a few negatives are of the own class.
Published K: 16384 of 50,000; here min(4096, N), which a CPU can do. A batch is multiplied with a whole bank and the
negatives are picked from the products: 4 B N bytes per bank instead of the 512 B K of gathered vectors.
"""

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs

UNKNOWN = -1  # label of a sample that training has not seen yet
UNSET = torch.inf  # logarithm of Z before the first batch


class ContrastiveKD(Method):
    """Contrastive loss that pulls a sample's embedding to the teacher's, away from other classes'; weight 0.8."""

    name = "crd"
    source = "Tian 2020, arXiv:1910.10699"
    summary = "contrast with the teacher's embeddings of other classes' samples, from a memory bank"
    target_grad_ratio = 0.42
    needs = frozenset({"embedding", "indices", "labels"})
    decisions = frozenset({"sample", "vectors"})
    unscaled_terms = frozenset({"crd_teacher"})
    weight = 0.8
    dimensions = 128
    negatives = 4096
    tau = 0.07
    momentum = 0.5
    student_projection: nn.Linear
    teacher_projection: nn.Linear
    student_bank: Tensor  # (N, 128), rows of unit length
    teacher_bank: Tensor
    labels: Tensor  # (N,) of the training split; UNKNOWN until seen
    by_label: Tensor  # (N,) positions sorted by label
    log_z: Tensor  # (2,) for the student's and the teacher's bank

    def attach(self, context: MethodContext) -> None:
        """Create the two projections and the two memory banks."""
        n = context.n_samples
        self.student_projection = nn.Linear(context.student_outputs.embedding.shape[1], self.dimensions)
        self.teacher_projection = nn.Linear(context.teacher_outputs[0].embedding.shape[1], self.dimensions)
        self.register_buffer("student_bank", F.normalize(torch.randn(n, self.dimensions), dim=1))
        self.register_buffer("teacher_bank", F.normalize(torch.randn(n, self.dimensions), dim=1))
        self.register_buffer("labels", torch.full((n,), UNKNOWN))
        self.register_buffer("by_label", torch.arange(n))
        self.register_buffer("log_z", torch.full((2,), UNSET))

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `crd` and `crd_teacher`; in training mode, also update the banks and the known labels.

        Raises:
            InputError: the batch has no indices into the training split.
        """
        if len(batch.indices) == 0:
            raise InputError("crd remembers training samples: it cannot be combined with made-up ones")
        v_s = F.normalize(self.student_projection(student.embedding), dim=1)
        v_t = F.normalize(self.teacher_projection(teachers[0].embedding), dim=1)
        if self.training:
            self._learn_labels(batch)
        candidates = torch.cat([batch.indices[:, None], self._draw(batch)], dim=1)
        against_student, z_s = self._contrast(v_t, self.student_bank, candidates, self.log_z[0])
        against_teacher, z_t = self._contrast(v_s, self.teacher_bank, candidates, self.log_z[1])
        if self.training:
            self.log_z = torch.stack([z_s, z_t])
            self.student_bank = self._moved(self.student_bank, batch.indices, v_s)
            self.teacher_bank = self._moved(self.teacher_bank, batch.indices, v_t)
        return {"crd": self.weight * against_teacher, "crd_teacher": self.weight * against_student}

    def _learn_labels(self, batch: Batch) -> None:
        if not torch.equal(self.labels[batch.indices], batch.y):
            self.labels[batch.indices] = batch.y
            self.by_label = self.labels.argsort(stable=True)

    def _draw(self, batch: Batch) -> Tensor:
        """Draw (B, K) positions of samples that are not known to be of the same class, uniformly.

        Sorted by label, a class is one contiguous run: a draw at or after its start is moved past its end.
        """
        n = len(self.labels)
        sizes = torch.bincount(self.labels - UNKNOWN, minlength=int(batch.y.max()) + 1 - UNKNOWN)
        mine = batch.y - UNKNOWN
        start, size = (sizes.cumsum(0) - sizes)[mine, None], sizes[mine, None]
        drawn = (torch.rand(len(mine), min(self.negatives, n)) * (n - size)).long()
        place = torch.where(drawn < start, drawn, drawn + size)
        return self.by_label[place.clamp_max(n - 1)]  # past the end only if all samples are of one class

    def _contrast(self, v: Tensor, bank: Tensor, candidates: Tensor, log_z: Tensor) -> tuple[Tensor, Tensor]:
        """Contrast projections with a bank.

        Args:
            v: (B, 128) projections.
            bank: (N, 128) projections by the other network.
            candidates: (B, 1 + K) positions in the bank, the own sample first.
            log_z: () logarithm of Z; infinite before the first batch.

        Returns:
            NCE, mean over the batch, and the logarithm of Z.
        """
        n, k = len(bank), candidates.shape[1] - 1
        exponent = (v @ bank.T).gather(1, candidates) / self.tau
        if torch.isinf(log_z):
            log_z = exponent.detach().logsumexp(dim=(0, 1)) - log(exponent.numel()) + log(n)
        odds = exponent - log_z - log(k / n)  # of h: h = sigmoid(odds)
        return (F.softplus(-odds[:, 0]) + F.softplus(odds[:, 1:]).sum(dim=1)).mean(), log_z

    @torch.no_grad()
    def _moved(self, bank: Tensor, indices: Tensor, v: Tensor) -> Tensor:
        """Return an updated copy of the bank: the backward pass still needs the old one."""
        rows = self.momentum * bank[indices] + (1 - self.momentum) * v
        return bank.index_copy(0, indices, F.normalize(rows, dim=1))


PLUGIN = ContrastiveKD
