"""The distillation loop that most papers' code has: fp32, NCHW, one DataLoader, teacher and student live on each batch.

Losses are written from the papers' formulas in their usual, direct form. Nothing is slowed down on purpose: samples are
normalised and padded before the first epoch, so that augmentation is a slice and a flip.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nas_kd.models.blocks import ConvNet

TEMPERATURE = 4.0
PADDING = 4


class Shown(NamedTuple):
    """What a network with features returned. `features`: one map a stage; `embedding`: what the classifier reads."""

    features: list[Tensor]
    embedding: Tensor
    logits: Tensor


def with_features(net: ConvNet, x: Tensor) -> Shown:
    """The forward pass, feature maps kept."""
    features = []
    x = net.stem(x)
    for stage in net.stages:
        x = stage(x)
        features.append(x)
    embedding = F.adaptive_avg_pool2d(x, 1).flatten(1)
    return Shown(features, embedding, net.classifier(embedding))


Criterion = Callable[[Shown, Shown, Tensor], Tensor]


def soft_targets(student: Shown, teacher: Shown, y: Tensor) -> Tensor:
    """0.1 CE + 0.9 T^2 KL (Hinton 2015)."""
    divergence = nn.KLDivLoss(reduction="batchmean")
    log_q = F.log_softmax(student.logits / TEMPERATURE, dim=1)
    p = F.softmax(teacher.logits / TEMPERATURE, dim=1)
    soft: Tensor = divergence(log_q, p)
    return 0.1 * F.cross_entropy(student.logits, y) + 0.9 * TEMPERATURE**2 * soft


def similarity(student: Shown, teacher: Shown, y: Tensor) -> Tensor:
    """CE + 3000 |G_s - G_t|^2 / B^2 (Tung 2019)."""

    def gram(f: Tensor) -> Tensor:
        flat = f.view(f.shape[0], -1)
        return F.normalize(flat @ flat.t(), dim=1)

    difference = gram(student.features[-1]) - gram(teacher.features[-1])
    return F.cross_entropy(student.logits, y) + 3000 * (difference * difference).sum() / len(y) ** 2


def attention_transfer(student: Shown, teacher: Shown, y: Tensor) -> Tensor:
    """CE + 1000 sum over stages of mean (Q_s - Q_t)^2 (Zagoruyko 2017)."""

    def attention(f: Tensor) -> Tensor:
        return F.normalize(f.pow(2).mean(1).view(f.shape[0], -1))

    stages = zip(student.features, teacher.features, strict=True)
    distance = [(attention(s) - attention(t)).pow(2).mean() for s, t in stages]
    return F.cross_entropy(student.logits, y) + 1000 * torch.stack(distance).sum()


class FitNet(nn.Module):
    """CE + 100 mean (r(f_s) - f_t)^2 at the middle stage, r a trained 1x1 convolution and norm (Romero 2015)."""

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(student_channels, teacher_channels, 1, bias=False)
        self.adapter = nn.Sequential(convolution, nn.BatchNorm2d(teacher_channels))

    def forward(self, student: Shown, teacher: Shown, y: Tensor) -> Tensor:
        """The total loss of a batch."""
        hint = F.mse_loss(self.adapter(student.features[1]), teacher.features[1])
        return F.cross_entropy(student.logits, y) + 100 * hint


def rkd(student: Shown, teacher: Shown, y: Tensor) -> Tensor:
    """CE + 25 huber of distances over their mean + 50 huber of angles (Park 2019)."""

    def distances(e: Tensor) -> Tensor:
        squares = e.pow(2).sum(dim=1)
        d = (squares[:, None] + squares[None, :] - 2 * e @ e.t()).clamp(min=1e-12).sqrt()
        d = d * (1 - torch.eye(len(e)))
        return d / d[d > 0].mean()

    def angles(e: Tensor) -> Tensor:
        direction = F.normalize(e.unsqueeze(0) - e.unsqueeze(1), p=2, dim=2)
        return torch.bmm(direction, direction.transpose(1, 2)).view(-1)

    with torch.no_grad():
        d_t, a_t = distances(teacher.embedding), angles(teacher.embedding)
    by_distance = F.smooth_l1_loss(distances(student.embedding), d_t)
    by_angle = F.smooth_l1_loss(angles(student.embedding), a_t)
    return F.cross_entropy(student.logits, y) + 25 * by_distance + 50 * by_angle


CRITERIA: dict[str, Criterion] = {
    "soft_targets": soft_targets,
    "similarity": similarity,
    "attention_transfer": attention_transfer,
    "rkd": rkd,
}


class Images(Dataset[tuple[Tensor, int]]):
    """Random crops of padded, normalised images (N, C, H, W) float32, and mirror images."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.size = x.shape[2]
        self.x, self.y = F.pad(x, (PADDING,) * 4), y.tolist()

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One augmented sample."""
        top, left = torch.randint(2 * PADDING + 1, (2,)).tolist()
        image = self.x[index, :, top : top + self.size, left : left + self.size]
        return (image.flip(2) if torch.rand(()) < 0.5 else image), self.y[index]


def correct(logits: Tensor, y: Tensor, k: int) -> float:
    """Share of samples with the label among the k largest logits."""
    return float((logits.topk(k, dim=1).indices == y[:, None]).any(dim=1).float().mean())


def epochs_of(
    student: ConvNet, teacher: ConvNet, criterion: Criterion, images: Images, batch_size: int
) -> Iterator[float]:
    """Train; each item is the mean loss of one epoch."""
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=0, drop_last=True)
    extra = list(criterion.parameters()) if isinstance(criterion, nn.Module) else []
    optimizer = torch.optim.SGD([*student.parameters(), *extra], lr=0.01, momentum=0.9, weight_decay=5e-4)
    while True:
        student.train()
        teacher.eval()
        losses, top1, top5 = [], [], []
        for x, labels in loader:
            shown = with_features(student, x)
            with torch.no_grad():
                taught = with_features(teacher, x)
            loss = criterion(shown, taught, labels)
            losses.append(loss.item())
            top1.append(correct(shown.logits, labels, 1))
            top5.append(correct(shown.logits, labels, 5))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield sum(losses) / len(losses)
