"""Be your own teacher (Zhang et al. 2019, arXiv:1905.08094); T = 3.

L = CE + sum over exits i of .7 CE_i + .3 T^2 KL(p || q_i) + .03 ||F_i - F||^2: an exit behind each stage but the last,
p and F the network's own final probabilities and embedding as constants; squared L2 norm per sample, mean over the
batch. An exit: the map pooled to the last stage's resolution, 3x3 convolution to the embedding's width, batch norm,
ReLU, global average pooling (F_i), a linear classifier.

The exits' terms on the labels keep their weight at any strength, and train the trunk too. Not calibrated: there is no
fixed teacher.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import as_feature_map
from nas_kd.methods.losses import kl_divergence


class BeYourOwnTeacher(Method):
    """Early-exit classifiers learn from the network's last layers; weights 0.7, 0.3 and 0.03."""

    name = "byot"
    source = "Zhang 2019, arXiv:1905.08094"
    summary = "early exits learn from the network's own last layers"
    needs = frozenset({"logits", "features", "embedding"})
    teachers = "none"
    tunable = ("temperature", "strength")
    target_grad_ratio = None
    unscaled_terms = frozenset({"byot_ce"})
    train_cost_factor = 1.2
    default_temperature = 3.0
    labels_weight, logits_weight, feature_weight = 0.7, 0.3, 0.03
    exits: nn.ModuleList

    def attach(self, context: MethodContext) -> None:
        """Build an exit behind each stage but the last.

        Raises:
            InputError: the student has fewer than two stages.
        """
        maps = [as_feature_map(f) for f in context.student_outputs.features]
        if len(maps) < 2:
            raise InputError(f"method {self.name!r} needs a student with two stages or more; this one has {len(maps)}")
        width, (height, breadth) = context.student_outputs.embedding.shape[1], maps[-1].shape[2:]
        self.exits = nn.ModuleList(Exit(f.shape[1], width, context.n_classes, (height, breadth)) for f in maps[:-1])

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Run the exits and return their losses, summed over the exits.

        Returns:
            `byot_ce`: towards the labels; `byot`: towards the last logits; `byot_feature`: towards the last embedding.
        """
        shown = [leave(f) for leave, f in zip(self.exits, student.features[:-1], strict=True)]
        last, embedding = student.logits.detach(), student.embedding.detach()
        labelled = [batch.label_loss(logits) for logits, _ in shown]
        softened = [kl_divergence(logits, last, self.temperature) for logits, _ in shown]
        hinted = [(feature - embedding).square().sum(dim=1).mean() for _, feature in shown]
        return {
            "byot_ce": self.labels_weight * torch.stack(labelled).sum(),
            "byot": self.logits_weight * torch.stack(softened).sum(),
            "byot_feature": self.feature_weight * torch.stack(hinted).sum(),
        }


class Exit(nn.Module):
    """Early exit: features (B, c, h, w) or (B, t, c) -> logits (B, n_classes) and embedding (B, width)."""

    def __init__(self, channels: int, width: int, n_classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, n_classes) and the embedding (B, width) that they are computed from."""
        pooled = F.adaptive_avg_pool2d(as_feature_map(features), self.size)
        embedding = F.relu(self.norm(self.convolution(pooled))).mean(dim=(2, 3))
        return self.classifier(embedding), embedding


PLUGIN = BeYourOwnTeacher
