"""DeepInversion (Yin et al. 2020, arXiv:1912.08795), section 3: pictures that the teacher takes for given classes.

Noise x is optimised (Adam) for classes y drawn at random:
L_x = CE(z_t, y) + D(x) + 0.01 TV(x) + 0.01 mean x^2 + a (1 - JS(p_t, p_s)), D the distance from the teacher's batch
normalisation statistics (`statistics.py`), TV the mean squared difference of neighbours, JS the Jensen-Shannon
divergence (base e) of teacher's and student's softmax: a = 0 for the first piece, when the student knows nothing, then
1. All pictures are shifted at random in each step. Weights are for means, the paper's (CIFAR-10: D 1 to 100, TV 2.5e-5,
L2 3e-8, a 10) for sums.
L = T^2 KL(p || q) on these pictures, shifted at random; T = 4.

1,024 pictures are made in pieces of 128, one every 20 steps, 60 steps of Adam each: 480 forward and backward passes of
the teacher in all, however long the training. On 8x8 digits, in 540 steps, the student reaches 96.0 % of the test set
(mean over 3 seeds; 93.9 % with a = 0). At three times the weight of D a third of the pictures are not of class y.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.data_free.pictures import Bank, Critic, Seen, shifted
from nas_kd.methods.divergence import kl_divergence


class DeepInversion(Method):
    """Pictures drawn out of the teacher itself, by its batch normalisation statistics; ce_weight 0, kd_weight 1."""

    name = "deep_inversion"
    source = "Yin 2020, arXiv:1912.08795"
    summary = "no training images: pictures are optimised until the teacher recognises them"
    needs = frozenset({"logits", "network"})
    tunable = ("temperature",)
    ce_weight = 0.0
    target_grad_ratio = None
    batch_size = 64
    bank_size = 1024
    piece = 128
    draws_a_piece = 20
    iterations = 60
    learning_rate = 0.1
    statistics_weight = 1.0
    variation_weight = 0.01
    l2_weight = 0.01
    disagreement_weight = 1.0
    bank: Bank
    draws: Tensor  # batches drawn so far

    def attach(self, context: MethodContext) -> None:
        """Create the bank, still empty."""
        self._critic = Critic(context, self.name)
        if not self._critic.has_norms:
            raise InputError(
                f"method {self.name!r} needs a teacher with batch normalisation (and running statistics); use 'dafl'"
            )
        self._student = (context.student,)  # in a tuple: not a module of this method
        self._see_student = context.observe(context.student, context.example)
        self._n_classes = context.n_classes
        self.bank = Bank(self.bank_size, self._critic.shape)
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def draw(self, real: Callable[[], Batch]) -> Batch:
        """Pictures of the bank, after making another piece of it if it is time to."""
        due = int(self.draws) % self.draws_a_piece == 0
        if due and int(self.bank.added) < len(self.bank):
            self.bank.put(*self._invert(min(self.piece, len(self.bank))))
        self.draws += 1
        x, y = self.bank.draw(self.batch_size)
        return self._critic.batch(shifted(x), y)

    def _invert(self, n: int) -> tuple[Tensor, Tensor]:
        """`n` pictures (n, C, H, W), normalised, and the classes (n,) that they were made for."""
        first = int(self.bank.added) == 0
        y = torch.randint(self._n_classes, (n,))
        x = torch.randn(n, *self._critic.shape, requires_grad=True)
        adam = torch.optim.Adam([x], lr=self.learning_rate, betas=(0.5, 0.9))
        for _ in range(self.iterations):
            moved = shifted(x)
            seen = self._critic(moved)
            loss = self.picture_loss(moved, y, seen)
            if not first:
                loss = loss + self.disagreement_weight * agreement(seen.outputs.logits, self._student_logits(moved))
            (x.grad,) = torch.autograd.grad(loss, x)
            adam.step()
        return x.detach(), y

    def picture_loss(self, x: Tensor, y: Tensor, seen: Seen) -> Tensor:
        """L_x without the student's part."""
        rows, columns = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
        variation = sum((d.square().mean() for d in (rows, columns) if d.numel()), torch.zeros(()))
        return (
            F.cross_entropy(seen.outputs.logits, y)
            + self.statistics_weight * seen.distance
            + self.variation_weight * variation
            + self.l2_weight * x.square().mean()
        )

    def _student_logits(self, x: Tensor) -> Tensor:
        """Of normalised pictures; the student's running statistics are left as they are."""
        student = self._student[0]
        was_training = student.training
        student.eval()
        logits = self._see_student(self._critic.stored(x)).logits
        student.train(was_training)
        return logits

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """One term."""
        return {"deep_inversion": kl_divergence(student.logits, teachers[0].logits, self.temperature)}


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """1 - Jensen-Shannon divergence (base e) of the softmax of two logits (B, C), mean over the batch."""
    log_p, log_q = a.log_softmax(dim=1), b.log_softmax(dim=1)
    log_middle = torch.logaddexp(log_p, log_q) - torch.tensor(2.0).log()
    to_p, to_q = (F.kl_div(log_middle, side, reduction="batchmean", log_target=True) for side in (log_p, log_q))
    return 1 - (to_p + to_q) / 2


PLUGIN = DeepInversion
