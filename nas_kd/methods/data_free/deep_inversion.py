"""DeepInversion (Yin et al. 2020, arXiv:1912.08795), section 3: images optimised to look like given classes.

Noise x is optimised (Adam) for classes y drawn at random: L_x = CE(z_t, y) + D(x) + 0.01 TV(x) + 0.01 mean x^2 + a (1 -
JS(p_t, p_s)), D is the distance from the teacher's batch normalisation statistics (`run_with_bn_distance`), TV the mean
squared difference of neighbouring pixels, JS the Jensen-Shannon divergence (base e) of teacher's and student's softmax;
a = 0 in the first round, when the student is untrained, then 1. All images are shifted at random in each step. The
weights belong to means; the paper's (CIFAR-10: D 1 to 100, TV 2.5e-5, L2 3e-8, a 10) belong to sums. L = T^2 KL(p || q)
on these images, shifted at random; T = 4.

1,024 images are made in rounds of 128, one round every 20 steps, each of 60 steps of Adam: 480 forward and backward
passes of the teacher in all, for a training of any length. On 8x8 digits, after 540 steps, the student's test accuracy
is 96.0 % (mean over 3 seeds; 93.9 % with a = 0). With three times the weight of D, the teacher assigns a third of the
images to another class than y.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.data_free.synthetic_images import CriticOutput, ImageBank, TeacherCritic, random_roll
from nas_kd.methods.losses import kl_divergence


class DeepInversion(Method):
    """Images recovered from the teacher and its batch normalisation statistics; ce_weight 0, kd_weight 1."""

    name = "deep_inversion"
    source = "Yin 2020, arXiv:1912.08795"
    summary = "no training images: noise is optimised until the teacher recognises it"
    needs = frozenset({"logits", "network"})
    tunable = ("temperature",)
    ce_weight = 0.0
    target_grad_ratio = None
    batch_size = 64
    bank_size = 1024
    images_per_round = 128
    draws_per_round = 20
    iterations = 60
    learning_rate = 0.1
    statistics_weight = 1.0
    variation_weight = 0.01
    l2_weight = 0.01
    disagreement_weight = 1.0
    bank: ImageBank
    draws: Tensor  # () number of batches drawn so far

    def attach(self, context: MethodContext) -> None:
        """Create the image bank, still empty.

        Raises:
            InputError: the samples are not images, or the teacher has no batch normalisation or passes no gradient.
        """
        self._critic = TeacherCritic(context, self.name)
        if not self._critic.has_batchnorm:
            raise InputError(
                f"method {self.name!r} needs a teacher with batch normalisation (and running statistics); use 'dafl'"
            )
        self._student = (context.student,)  # in a tuple: not a module of this method
        self._see_student = context.observe(context.student, context.example)
        self._n_classes = context.n_classes
        self.bank = ImageBank(self.bank_size, self._critic.shape)
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def draw(self, real: Callable[[], Batch]) -> Batch:
        """Return a batch drawn from the bank; every `draws_per_round` calls, add a round of images first."""
        due = int(self.draws) % self.draws_per_round == 0
        if due and int(self.bank.added) < len(self.bank):
            self.bank.put(*self._invert(min(self.images_per_round, len(self.bank))))
        self.draws += 1
        x, y = self.bank.draw(self.batch_size)
        return self._critic.batch(random_roll(x), y)

    def _invert(self, n: int) -> tuple[Tensor, Tensor]:
        """Optimise `n` normalised images (n, C, H, W) for random classes (n,)."""
        first = int(self.bank.added) == 0
        y = torch.randint(self._n_classes, (n,))
        x = torch.randn(n, *self._critic.shape, requires_grad=True)
        adam = torch.optim.Adam([x], lr=self.learning_rate, betas=(0.5, 0.9))
        for _ in range(self.iterations):
            moved = random_roll(x)
            seen = self._critic(moved)
            loss = self.image_loss(moved, y, seen)
            if not first:
                loss = loss + self.disagreement_weight * agreement(seen.outputs.logits, self._student_logits(moved))
            (x.grad,) = torch.autograd.grad(loss, x)
            adam.step()
        return x.detach(), y

    def image_loss(self, x: Tensor, y: Tensor, seen: CriticOutput) -> Tensor:
        """Compute L_x without the student's part, a scalar.

        Args:
            x: (B, C, H, W) normalised images.
            y: (B,) int64 target classes.
            seen: the teacher's reaction to `x`.
        """
        rows, columns = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
        variation = sum((d.square().mean() for d in (rows, columns) if d.numel()), torch.zeros(()))
        return (
            F.cross_entropy(seen.outputs.logits, y)
            + self.statistics_weight * seen.distance
            + self.variation_weight * variation
            + self.l2_weight * x.square().mean()
        )

    def _student_logits(self, x: Tensor) -> Tensor:
        """Run the student on normalised images without updating its running statistics."""
        student = self._student[0]
        was_training = student.training
        student.eval()
        logits = self._see_student(self._critic.to_stored_units(x)).logits
        student.train(was_training)
        return logits

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return `deep_inversion`: T^2 KL to the teacher's probabilities (B, C) on synthetic images."""
        return {"deep_inversion": kl_divergence(student.logits, teachers[0].logits, self.temperature)}


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """1 - Jensen-Shannon divergence (base e) of the softmax of two logits (B, C), mean over the batch."""
    log_p, log_q = a.log_softmax(dim=1), b.log_softmax(dim=1)
    log_middle = torch.logaddexp(log_p, log_q) - torch.tensor(2.0).log()
    to_p, to_q = (F.kl_div(log_middle, side, reduction="batchmean", log_target=True) for side in (log_p, log_q))
    return 1 - (to_p + to_q) / 2


PLUGIN = DeepInversion
