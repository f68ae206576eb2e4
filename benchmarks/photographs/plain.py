"""What a user writes without nas-kd: a thin MobileNetV2 (x0.35), distilled until time is over.

    python -m benchmarks.photographs.plain SPLITS TEACHER.safetensors --seconds 180 --out student.onnx

Random resized crops, and plain torch with what its performance guide advises on CPUs (bfloat16, channels last).
The schedule follows the clock: reading the pictures and everything after it count. Pictures and the teacher's network
are those of nas-kd.
"""

import argparse
import json
import math
import time
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.photographs.pictures import CLASSES, SIDE, load_pictures
from benchmarks.photographs.teacher import network as teacher_network

STEM, HEAD, BATCH, WARMUP, RESERVE_S = 16, 160, 64, 0.05, 4.0
STAGES = ((1, 8, 1, 1), (6, 8, 2, 2), (6, 16, 3, 2), (6, 24, 4, 2), (6, 32, 3, 1), (6, 48, 1, 2))  # t, c, n, s


def layer(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Make a convolution with normalisation and ReLU6."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out), nn.ReLU6()]


class Block(nn.Module):
    """Inverted residual (Sandler et al. 2018)."""

    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = c_in * expansion
        first = layer(c_in, wide, 1) if expansion > 1 else []
        self.body = nn.Sequential(*first, *layer(wide, wide, 3, stride, wide), *layer(wide, c_out, 1)[:2])
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, h, w) -> (B, c_out, h / stride, w / stride)."""
        return x + self.body(x) if self.shortcut else self.body(x)  # type: ignore[no-any-return]


class Student(nn.Module):
    """Pixels 0..255 (B, 3, SIDE, SIDE) -> logits (B, CLASSES)."""

    def __init__(self) -> None:
        super().__init__()
        blocks, c_in = [], STEM
        for expansion, width, n, stride in STAGES:
            for place in range(n):
                blocks.append(Block(c_in, width, expansion, 1 if place else stride))
                c_in = width
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(HEAD, CLASSES)]
        self.body = nn.Sequential(*layer(3, STEM, 3, 2), *blocks, *layer(c_in, HEAD, 1), *pool)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on pixels (B, 3, H, W): logits (B, C)."""
        return self.body((x - 118.0) / 64.0)  # type: ignore[no-any-return]


def random_crops(x: Tensor) -> Tensor:
    """Crop 35 % to all of the area, 3:4 to 4:3, resize, and mirror half of them: (B, 3, H, W) -> the same."""
    count = len(x)
    area, ratio = torch.empty(count).uniform_(0.35, 1), torch.exp(torch.empty(count).uniform_(-1, 1) * math.log(4 / 3))
    size = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)  # width and height
    place = (torch.rand(count, 2) * 2 - 1) * (1 - size)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = size[:, 0] * mirror, size[:, 1], place
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def train(student: nn.Module, teacher: nn.Module, data: tuple[Tensor, Tensor], given: argparse.Namespace) -> int:
    """Distil until the time is over; returns the number of steps."""
    born, (x, y), steps = psutil.Process().create_time(), data, 0
    optimizer = torch.optim.AdamW(student.parameters(), lr=given.learning_rate, weight_decay=0.05)
    order: Tensor = torch.empty(0, dtype=torch.int64)
    begun, size = time.time() - born, min(BATCH, len(x))
    duration = max(given.seconds - RESERVE_S - begun, 1.0)
    while (progress := (time.time() - born - begun) / duration) < 1:
        if len(order) < size:
            order = torch.randperm(len(x))
        rows, order = order[:size], order[size:]
        rate = given.learning_rate * min(progress / WARMUP, 0.5 * (1 + math.cos(math.pi * progress)))
        optimizer.param_groups[0]["lr"] = rate
        batch = random_crops(x[rows].float()).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                taught = F.log_softmax(teacher(batch).float() / given.temperature, dim=1)
            logits = student(batch).float()
        said = F.log_softmax(logits / given.temperature, dim=1)
        soft = F.kl_div(said, taught, reduction="batchmean", log_target=True) * given.temperature**2
        loss = (1 - given.alpha) * F.cross_entropy(logits, y[rows]) + given.alpha * soft
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return steps


def main() -> None:
    """Train one student and export it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("splits", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--alpha", type=float, default=0.9, help="share of the soft targets in the loss")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    pictures, teacher = load_pictures(given.splits / "train"), teacher_network()
    teacher.load_state_dict(load_file(given.teacher))
    student = Student().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = train(student, teacher, (pictures.x, pictures.y), given)
    student.eval().to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        student,
        (torch.zeros(1, 3, SIDE, SIDE),),
        str(given.out),
        dynamo=False,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )
    print(json.dumps({"steps": steps, "epochs": round(steps * BATCH / len(pictures.y), 2)}))


if __name__ == "__main__":
    main()
