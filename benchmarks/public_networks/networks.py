"""Fifty networks of public collections, as their authors wrote them, by collection and name.

A line is an expression that makes the network for 3x32x32 pictures; what it imports is found in the collection's clone.
"""

from dataclasses import dataclass

N_CLASSES = 10


@dataclass(frozen=True)
class Collection:
    """Networks of one repository.

    Attributes:
        url: where to clone it from.
        path: the folder of the clone to put on Python's path.
        imports: statement before every expression.
        networks: name -> expression.
        n_classes: that all of them tell apart.
    """

    url: str
    path: str
    imports: str
    networks: dict[str, str]
    n_classes: int = N_CLASSES


PYTORCH_CIFAR = Collection(
    "https://github.com/kuangliu/pytorch-cifar",
    "pytorch-cifar",
    "from models import *",
    {
        "vgg16": "VGG('VGG16')",
        "dpn26": "DPN26()",
        "lenet": "LeNet()",
        "senet18": "SENet18()",
        "pnasnet_a": "PNASNetA()",
        "densenet_cifar": "densenet_cifar()",
        "googlenet": "GoogLeNet()",
        "shufflenet_v2": "ShuffleNetV2(1)",
        "resnet18": "ResNet18()",
        "resnext29_2x64d": "ResNeXt29_2x64d()",
        "preact_resnet18": "PreActResNet18()",
        "mobilenet": "MobileNet()",
        "mobilenet_v2": "MobileNetV2()",
        "efficientnet_b0": "EfficientNetB0()",
        "regnet_x_200mf": "RegNetX_200MF()",
        "simple_dla": "SimpleDLA()",
    },
)
PYTORCH_CIFAR100 = Collection(
    "https://github.com/weiaicunzai/pytorch-cifar100",
    "pytorch-cifar100",
    "import importlib\ndef of(module, name):\n    return getattr(importlib.import_module('models.' + module), name)()",
    {
        "mobilenet": "of('mobilenet', 'mobilenet')",
        "mobilenetv2": "of('mobilenetv2', 'mobilenetv2')",
        "resnet_in_resnet": "of('rir', 'resnet_in_resnet')",
        "seresnet18": "of('senet', 'seresnet18')",
        "shufflenet": "of('shufflenet', 'shufflenet')",
        "squeezenet": "of('squeezenet', 'squeezenet')",
        "stochastic_depth_resnet18": "of('stochasticdepth', 'stochastic_depth_resnet18')",
        "vgg11_bn": "of('vgg', 'vgg11_bn')",
        "xception": "of('xception', 'xception')",
    },
    n_classes=100,
)
MDISTILLER = Collection(
    "https://github.com/megvii-research/mdistiller",
    "mdistiller/mdistiller/models",
    "from cifar import *",
    {
        "resnet14": "resnet14(num_classes=10)",
        "resnet20": "resnet20(num_classes=10)",
        "resnet8x4": "resnet8x4(num_classes=10)",
        "resnet18": "ResNet18(num_classes=10)",
        "resnet50": "ResNet50(num_classes=10)",
        "wrn_16_1": "wrn_16_1(num_classes=10)",
        "wrn_16_2": "wrn_16_2(num_classes=10)",
        "wrn_40_1": "wrn_40_1(num_classes=10)",
        "vgg8_bn": "vgg8_bn(num_classes=10)",
        "vgg11_bn": "vgg11_bn(num_classes=10)",
        "mobile_half": "mobile_half(num_classes=10)",
        "shuffle_v1": "ShuffleV1(num_classes=10)",
        "shuffle_v2": "ShuffleV2(num_classes=10)",
    },
)
VIT_PYTORCH = Collection(
    "https://github.com/lucidrains/vit-pytorch",
    "vit-pytorch",
    "import importlib, types\n"
    "package = types.ModuleType('vit_pytorch')  # its own __init__ wants torchvision, for other modules\n"
    "package.__path__ = [sys.path[0] + '/vit_pytorch']\n"
    "sys.modules['vit_pytorch'] = package\n"
    "def of(module, name, **given):\n"
    "    return getattr(importlib.import_module('vit_pytorch.' + module), name)(num_classes=10, **given)\n"
    "SMALL = dict(image_size=32, patch_size=4, dim=64, depth=3, heads=4, mlp_dim=128)",
    {
        "vit": "of('vit', 'ViT', **SMALL)",
        "simple_vit": "of('simple_vit', 'SimpleViT', **SMALL)",
        "deepvit": "of('deepvit', 'DeepViT', **SMALL)",
        "cait": "of('cait', 'CaiT', cls_depth=1, **SMALL)",
        "small_dataset_vit": "of('vit_for_small_dataset', 'ViT', **SMALL)",
        "pit": "of('pit', 'PiT', image_size=32, patch_size=4, dim=64, depth=(1, 1), heads=2, mlp_dim=128)",
        "levit": "of('levit', 'LeViT', image_size=32, dim=(32, 64), depth=2, heads=(2, 4), mlp_mult=2, stages=2)",
        "cct": (
            "of('cct', 'CCT', img_size=32, embedding_dim=64, n_conv_layers=1, kernel_size=3, stride=1, padding=1, "
            "num_layers=2, num_heads=2, mlp_ratio=2, positional_embedding='learnable')"
        ),
        "cvt": "of('cvt', 'CvT')",
        "nest": (
            "of('nest', 'NesT', image_size=32, patch_size=4, dim=32, heads=2, num_hierarchies=2, block_repeats=(1, 1))"
        ),
        "xcit": "of('xcit', 'XCiT', cls_depth=1, local_patch_kernel_size=3, **SMALL)",
    },
)
EFFICIENTNET = Collection(
    "https://github.com/lukemelas/EfficientNet-PyTorch",
    "EfficientNet-PyTorch",
    "from efficientnet_pytorch import EfficientNet",
    {"efficientnet_b0": "EfficientNet.from_name('efficientnet-b0', num_classes=10)"},
)
COLLECTIONS = {
    c.path.split("/")[0]: c for c in (PYTORCH_CIFAR, PYTORCH_CIFAR100, MDISTILLER, VIT_PYTORCH, EFFICIENTNET)
}
