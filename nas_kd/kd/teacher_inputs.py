"""How samples reach a user's own teacher: resized, grey repeated to colour, and in the units that it was trained on."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.config.options import TeacherOptions
from nas_kd.config.teacher_options import IMAGENET
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.data.pixel_range import BYTE, PixelRange
from nas_kd.errors import InputError
from nas_kd.models.raw_output import FixedBatch, LogitsOnly
from nas_kd.models.wrappers import ContiguousLayout, Normalized, RepeatedChannels, Resized

COLOUR, IMAGE_DIMS = 3, 3
N_EXAMPLES = 64
# Of pixels in 0..1, red, green, blue: what most published networks are trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class SampleFacts:
    """What is known of the samples that a teacher is shown.

    Attributes:
        shape: of one sample.
        pixels: type and range of the training samples.
        mean: (C,) of the training samples by channel of images, else (1,); in stored units.
        std: standard deviation, of the same shape and unit.
        examples: (B, ...) a few samples, float32 in stored units.
        one_class: whether each has one class, so that a teacher may return probabilities of a softmax.
    """

    shape: tuple[int, ...]
    pixels: PixelRange
    mean: Tensor
    std: Tensor
    examples: Tensor
    one_class: bool = True

    @staticmethod
    def of(data: Dataset) -> "SampleFacts":
        """The facts of a data set; the examples are the first of its validation split."""
        examples = as_input(data.val.x[:N_EXAMPLES])
        return SampleFacts(data.input_shape, data.pixels, data.mean, data.std, examples, data.task.one_class)

    @property
    def is_image(self) -> bool:
        """Whether samples are (C, H, W)."""
        return len(self.shape) == IMAGE_DIMS

    @property
    def pixel_scale(self) -> float | None:
        """What divides pixels into 0..1; None for arrays, unless they are of the type of pixels, and other values."""
        return self.pixels.scale if self.is_image or self.pixels.dtype == "uint8" else None


@dataclass(frozen=True)
class TeacherInputs:
    """What is done with a sample before a teacher sees it.

    Attributes:
        facts: of the samples.
        channels: that a grey sample is repeated to; None: it is not.
        size: height and width that samples are resized to; None: they are not.
        mean: (C,) in stored units, which is subtracted; None: values stay as they are.
        std: (C,) in stored units, which divides them.
    """

    facts: SampleFacts
    channels: int | None = None
    size: tuple[int, int] | None = None
    mean: Tensor | None = None
    std: Tensor | None = None

    @staticmethod
    def of(options: TeacherOptions, facts: SampleFacts) -> "TeacherInputs":
        """What the options ask for.

        Raises:
            InputError: they do not fit the samples.
        """
        size = _size(options, facts)
        values = [v for v in (_values(options.mean, IMAGENET_MEAN), _values(options.std, IMAGENET_STD)) if v]
        colour = facts.is_image and facts.shape[0] == 1 and max(map(len, values), default=1) == COLOUR
        mean, std = _statistics(options, facts, COLOUR if colour else facts.shape[0])
        return TeacherInputs(facts, COLOUR if colour else None, size, mean, std)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample as the network takes it."""
        shape = self.facts.shape
        if not self.facts.is_image:
            return shape
        return (self.channels or shape[0], *(self.size or shape[1:]))

    @property
    def _shrinks(self) -> bool:
        return any(wanted < given for wanted, given in zip(self.size or (), self.facts.shape[1:], strict=False))

    def in_front_of(self, net: nn.Module) -> nn.Module:
        """The network behind all this: it takes samples (B, ...) in stored units."""
        if self.mean is not None and self.std is not None:
            net = Normalized(net, self.mean, self.std)
        if self.channels is not None:
            net = RepeatedChannels(net, self.channels)
        if self.size is None:
            return net
        height, width = self.facts.shape[1:]
        return Resized(net, (height, width), self.size)

    def in_colour(self) -> "TeacherInputs | None":
        """The same with grey samples repeated to three channels; None if samples are not grey, or are so already."""
        if not self.facts.is_image or self.shape[0] != 1:
            return None
        return replace(self, channels=COLOUR)

    def like(self, options: TeacherOptions) -> "TeacherInputs":
        """What other options ask for, at the same resolution and with the same channels.

        Raises:
            InputError: they do not fit the samples.
        """
        return replace(TeacherInputs.of(options, self.facts), channels=self.channels, size=self.size)

    def in_pixels(self, dtype: str, options: TeacherOptions) -> "TeacherInputs":
        """The same for a network that takes whole numbers: pixels 0..255, or whole numbers as they are stored.

        Args:
            dtype: that it takes.
            options: of the teacher.

        Raises:
            InputError: the samples are no such numbers, or the options ask for others.
        """
        if self.mean is not None:
            given = "mean and std" if options.mean or options.std else f'preprocessing = "{options.preprocessing}"'
            raise InputError(
                f"teacher: the file takes {dtype}, samples as they are stored, so {given} would leave nothing of them; "
                "leave that out"
            )
        pixels = self.facts.pixels
        if pixels.scale == BYTE or (dtype != "uint8" and pixels.whole):
            return self
        divisor = pixels.require_scale(f"teacher: the file's {dtype} input") / BYTE
        return replace(self, mean=torch.zeros(1), std=torch.full((1,), divisor))

    def identity(self, options: TeacherOptions, data_scale: float) -> list[Any]:
        """What of this the older options do not say, for keys; empty where there is nothing."""
        given = {"mean": options.mean, "std": options.std, "image_size": self.size, "output": options.output}
        found: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if v is not None}
        if options.preprocessing == "unit" and self.facts.pixels.scale != data_scale:
            found["scale"] = self.facts.pixels.scale
        elif "mean" in found or "std" in found:
            found["scale"] = self.facts.pixel_scale
        if self.channels is not None:
            found["channels"] = self.channels
        return [found] if found else []

    def notes(self, options: TeacherOptions) -> list[str]:
        """What was done with samples beyond what the options say by themselves, one sentence each."""
        found = []
        if self.channels is not None:
            found.append(f"grey samples are repeated to {self.channels} channels")
        if self.size is not None and self.size != self.facts.shape[1:]:
            way = "bilinear, anti-aliased" if self._shrinks else "bilinear"
            found.append(f"samples are resized to {self.size[0]}x{self.size[1]} pixels ({way})")
        pixels = self.facts.pixels
        if options.preprocessing == "unit" and pixels.dtype != "uint8" and pixels.scale != 1:
            found.append(f"unit: {pixels.dtype} from {pixels.low:g} to {pixels.high:g} is divided by {pixels.scale:g}")
        elif options.preprocessing == "normalized" and self.facts.is_image:
            found.append('normalized: by mean and std of the training samples, not ImageNet\'s (mean = "imagenet")')
        elif (options.mean or options.std) and self.facts.pixel_scale is None:
            found.append(f"mean and std are in the samples' own units ({pixels.low:g} to {pixels.high:g}), no pixels")
        return found


def _size(options: TeacherOptions, facts: SampleFacts) -> tuple[int, int] | None:
    if options.image_size is None:
        return None
    if not facts.is_image:
        raise InputError(f"teacher.image_size needs images (C, H, W), samples have shape {facts.shape}; leave it out")
    return options.image_size[0], options.image_size[-1]


def _statistics(options: TeacherOptions, facts: SampleFacts, channels: int) -> tuple[Tensor | None, Tensor | None]:
    """Mean and standard deviation in stored units."""
    if options.mean is None and options.std is None:
        match options.preprocessing:
            case "raw":
                return None, None
            case "unit":
                full = facts.pixels.require_scale('teacher.preprocessing = "unit"')
                return torch.zeros_like(facts.mean), torch.full_like(facts.std, full)
            case "normalized":
                return facts.mean, facts.std
    mean = options.mean if options.mean is not None else IMAGENET if options.std == IMAGENET else (0.0,)
    std = options.std if options.std is not None else IMAGENET if options.mean == IMAGENET else (1.0,)
    means, stds = _values(mean, IMAGENET_MEAN), _values(std, IMAGENET_STD)
    for name, given in (("mean", means), ("std", stds)):
        if len(given) not in (1, channels) or (len(given) > 1 and not facts.is_image):
            raise InputError(
                f"teacher.{name} has {len(given)} values, samples have shape {facts.shape}; give one number"
                + (f", or one for each of {channels} channels" if facts.is_image else "")
            )
    scale = facts.pixel_scale
    if options.preprocessing == "unit":
        scale = facts.pixels.require_scale('teacher.preprocessing = "unit"')
    if scale is not None and max(means) > 1:
        raise InputError(
            f"teacher.mean is of pixels in 0..1, got {max(means):g}: divide mean and std by 255, 0.485 instead of 123.7"
        )
    size, factor = max(len(means), len(stds)), scale or 1.0
    mean_values, std_values = (torch.tensor(v, dtype=torch.float64).expand(size) * factor for v in (means, stds))
    return mean_values, std_values


def _values(given: Any, imagenet: tuple[float, ...]) -> tuple[float, ...]:
    return imagenet if given == IMAGENET else tuple(given or ())


def inner_path(path: str, model: nn.Module) -> str:
    """A user's module path as seen from outside of all wrappers."""
    if isinstance(model, ContiguousLayout | FixedBatch | LogitsOnly | Normalized | RepeatedChannels | Resized):
        return f"body.{inner_path(path, model.body)}"
    return path
