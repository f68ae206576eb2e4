"""The options of `[teacher]`: where a teacher comes from, and what it expects of samples."""

from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from nas_kd.config.key_facts import NotInKeysAtDefault
from nas_kd.config.section import Options
from nas_kd.config.value_types import Names
from nas_kd.plugins import IN_MEMORY, available

IMAGENET = "imagenet"
MAX_SIDE = 4096  # pixels
WITHOUT_WEIGHTS = (
    "factory and weights go together: weights is the .safetensors file of the network that factory builds, which would "
    "be untrained without it; if your function loads weights itself, save them once with safetensors.torch.save_model"
)
WITHOUT_FACTORY = "factory and weights go together: factory is the package.module:function that builds the network"
FineTune = Literal["auto", "head", "all", "never"]


def _by_channel(value: Any) -> Any:
    """Make a tuple of a number or a list of numbers; the name stays as it is."""
    if value is None or value == IMAGENET:
        return value
    items = value if isinstance(value, list | tuple) else (value,)
    if not items or not all(isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) for v in items):
        raise ValueError(f'must be a number, a list with one for each channel, or "{IMAGENET}", got {value!r}')
    return tuple(map(float, items))


def _positive(value: Any) -> Any:
    if isinstance(value, tuple) and min(value) <= 0:
        raise ValueError(f"must be > 0, got {min(value):g}")
    return value


def _sides(value: Any) -> Any:
    """Make a tuple of one side of a square, or of height and width."""
    if value is None:
        return value
    items = value if isinstance(value, list | tuple) else (value,)
    whole = all(isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= MAX_SIDE for v in items)
    if len(items) not in (1, 2) or not whole:
        raise ValueError(f"must be a side in pixels or [height, width], each from 1 to {MAX_SIDE}, got {value!r}")
    return tuple(items)


def _files_or_number(value: Any) -> Any:
    """Make a tuple of a list of files; a number of checkpoints stays."""
    if value is None or (type(value) is int and value >= 1):
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(v, str | Path) for v in value):
        raise ValueError(f"must be a number >= 1, or a list of files, early to late, got {value!r}")
    paths = tuple(map(Path, value))
    if len(set(paths)) < len(paths):
        raise ValueError("has a file twice; name each once")
    return paths


# A number, a list with one for each channel, or "imagenet".
ByChannel = Annotated[tuple[float, ...] | Literal["imagenet"] | None, BeforeValidator(_by_channel)]
PositiveByChannel = Annotated[
    tuple[float, ...] | Literal["imagenet"] | None, BeforeValidator(_positive), BeforeValidator(_by_channel)
]
Files = Annotated[tuple[Path, ...] | int | None, BeforeValidator(_files_or_number)]
Sides = Annotated[tuple[int, ...] | None, BeforeValidator(_sides)]  # of a square, or height and width, in pixels


def _brings_weights(factory: str) -> bool:
    """Whether a factory needs no file of weights: a module given in Python, or a network of a collection."""
    prefix = factory.partition(":")[0]
    return factory.startswith(IN_MEMORY) or (factory != prefix and prefix in available("collection"))


class TeacherOptions(Options):
    """The network that students learn from: trained here (space), or your own (factory + weights, or onnx)."""

    space: str | None = Field(
        None, description="train one from this search space (default: resnet; from 96 pixels on resnet_photo)"
    )
    architecture: dict[str, Any] | None = Field(None, description="its choices in that space (default: the largest)")
    epochs: int | None = Field(
        None,
        ge=1,
        description="its training epochs (default: distill.epochs); with fine_tune = head or all, the most of that",
    )
    factory: str | None = Field(
        None,
        description="package.module:function that returns your torch.nn.Module; timm:NAME, torchvision:NAME or hf:NAME",
    )
    weights: Path | None = Field(
        None,
        description="weights of your network, a .safetensors file; always with factory (of timm, torchvision and hf by "
        "default those that the package has fetched)",
    )
    fine_tune: Annotated[FineTune, NotInKeysAtDefault()] = Field(
        "auto",
        description="train your network (factory) on your data first. auto: if its head has another number of classes, "
        "a new head, then all layers | head: the head alone | all: head, then all layers | never",
    )
    student_friendly_epochs: Annotated[int, NotInKeysAtDefault()] = Field(
        0,
        ge=0,
        description="space own: epochs of training the teacher together with cuts of itself before the search; it is "
        "used so only if it is not worse on validation, and cuts and students of it are better; 0: off",
    )
    onnx: Path | None = Field(None, description="your teacher as an ONNX file: logits only, so no methods on features")
    outputs: Annotated[Path | None, NotInKeysAtDefault()] = Field(
        None,
        description="your teacher as stored predictions, an .npz: logits, probabilities, or the k largest (values and "
        "indices), a row for each training sample; no methods on features",
    )
    checkpoints: Annotated[Files, NotInKeysAtDefault()] = Field(
        None,
        description="earlier states of your network that may teach: a list of files like weights or onnx, early to "
        "late; of a teacher trained here, how many, at equal shares of its training; see distill.checkpoint",
    )
    features: Names | None = Field(
        None, min_length=1, description="modules to take features from (default: one per resolution)"
    )
    seed: int | None = Field(
        None, ge=0, lt=2**31, description="seed of its training (default: search.seed + its place)"
    )
    preprocessing: Literal["raw", "unit", "normalized"] = Field(
        "raw",
        description="what your teacher expects: values as stored, pixels in 0..1, or (x - mean) / std with mean and "
        'std of your training samples; for ImageNet\'s leave this out and set mean = "imagenet"',
    )
    mean: Annotated[ByChannel, NotInKeysAtDefault()] = Field(
        None,
        description="your teacher expects (x - mean) / std with this mean: a number, one for each channel, or "
        '"imagenet"; of pixels in 0..1 (0.485, not 123.7), of other samples in their own units',
    )
    std: Annotated[PositiveByChannel, NotInKeysAtDefault()] = Field(
        None, description="standard deviation that goes with mean, in the same units"
    )
    image_size: Annotated[Sides, NotInKeysAtDefault()] = Field(
        None,
        description="the resolution that your teacher was trained at, a side or [height, width] in pixels: it sees the "
        "same augmented samples, resized (bilinear; default: the data's, see data.image_size and data.resize)",
    )
    label_set: Annotated[Literal["same", "other"], NotInKeysAtDefault()] = Field(
        "same",
        description="same: your teacher's classes are the data's; other: it was trained on classes of its own, so that "
        "students learn its features and relations, or its classes by a head that is dropped",
    )
    output: Annotated[str | None, NotInKeysAtDefault()] = Field(
        None, description="onnx: name of the output to learn from, if the file has several"
    )

    @property
    def n_checkpoints(self) -> int:
        """How many earlier states of the network may teach."""
        return len(self.checkpoints) if isinstance(self.checkpoints, tuple) else self.checkpoints or 0

    @property
    def is_given(self) -> bool:
        """Whether it is the user's own, rather than trained here."""
        return any(origin is not None for origin in (self.factory, self.onnx, self.outputs))

    @property
    def is_fine_tuned_when_asked(self) -> bool:
        """Whether it is fine-tuned whatever its head is."""
        return self.fine_tune in ("head", "all")

    @property
    def knows_other_classes(self) -> bool:
        """Whether its logits are of other classes than the data's."""
        return self.label_set == "other"

    @classmethod
    def _default(cls, name: str) -> Any:
        return cls.model_fields[name].default

    @model_validator(mode="after")
    def _inputs_of_its_own(self) -> "TeacherOptions":
        given = [k for k in ("mean", "std", "image_size", "output") if getattr(self, k) is not None]
        if given and self.factory is None and self.onnx is None:
            raise ValueError(
                f"{given[0]} is for a teacher of your own (factory or onnx): one trained here sees the data"
            )
        if self.knows_other_classes and self.factory is None and self.onnx is None:
            raise ValueError(
                'label_set = "other" is for a teacher of your own (factory or onnx): those trained here, and stored '
                "outputs, are of the data's classes"
            )
        if self.output is not None and self.onnx is None:
            raise ValueError("output is for an ONNX teacher; your module's own forward decides what it returns")
        if self.preprocessing == "normalized" and (self.mean is not None or self.std is not None):
            raise ValueError(
                'preprocessing = "normalized" uses mean and std of the training samples; leave out either that or '
                "teacher.mean and teacher.std"
            )
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> "TeacherOptions":
        origins = [k for k in ("space", "factory", "onnx", "outputs") if getattr(self, k) is not None]
        if len(origins) > 1:
            raise ValueError(f"give one of space, factory, onnx, outputs; got {' and '.join(origins)}")
        if self.factory is None and self.weights is not None:
            raise ValueError(WITHOUT_FACTORY)
        if self.factory is not None and self.weights is None and not _brings_weights(self.factory):
            raise ValueError(WITHOUT_WEIGHTS)
        own = "factory" if self.factory is not None else "onnx" if self.onnx is not None else None
        trained = () if self.is_fine_tuned_when_asked else ("epochs", "seed")
        given = [name for name in ("architecture", *trained) if getattr(self, name) is not None]
        if own is not None and given:
            raise ValueError(f"{' and '.join(given)} mean nothing to a teacher that is given ({own}); leave them out")
        if own is None and self.preprocessing != "raw":
            raise ValueError("preprocessing is for teachers that are given (factory or onnx); leave it out")
        return self

    @model_validator(mode="after")
    def _fine_tuned_module(self) -> "TeacherOptions":
        if self.fine_tune != self._default("fine_tune") and self.factory is None:
            raise ValueError(
                "fine_tune is for a module of your own (factory): a teacher of a space is trained here anyway, and an "
                "ONNX file or stored outputs cannot be trained"
            )
        if self.is_fine_tuned_when_asked and self.knows_other_classes:
            raise ValueError(
                'fine_tune trains a teacher for the data\'s classes; leave out either that or label_set = "other"'
            )
        if self.is_fine_tuned_when_asked and self.checkpoints is not None:
            raise ValueError("checkpoints are earlier states of a teacher; one that is fine-tuned here has none")
        return self

    @model_validator(mode="after")
    def _student_friendly_module(self) -> "TeacherOptions":
        if self.student_friendly_epochs and self.onnx is not None:
            raise ValueError("student_friendly_epochs: an ONNX file cannot be trained; give factory and weights")
        if self.student_friendly_epochs and self.checkpoints is not None:
            raise ValueError(
                "student_friendly_epochs and checkpoints: these are states of the teacher as it was; leave out either"
            )
        return self

    @model_validator(mode="after")
    def _checkpoints_of_its_kind(self) -> "TeacherOptions":
        if self.checkpoints is None or self.outputs is not None:
            return self
        files = isinstance(self.checkpoints, tuple)
        if files and self.factory is None and self.onnx is None:
            raise ValueError("checkpoints: a teacher that is trained here has a number of them, not files")
        if not files and (self.factory is not None or self.onnx is not None):
            raise ValueError(
                "checkpoints: a teacher that is given has a list of files, early to late: a number is for one that is "
                "trained here"
            )
        if files and self.factory is not None and self.factory.startswith(IN_MEMORY):
            raise ValueError("checkpoints: a module given in Python has none; give factory and weights, or onnx")
        return self

    @model_validator(mode="after")
    def _outputs_alone(self) -> "TeacherOptions":
        if self.outputs is None:
            return self
        others = [n for n in type(self).model_fields if n != "outputs" and getattr(self, n) != self._default(n)]
        if others:
            raise ValueError(f"{others[0]} means nothing to a teacher that is known by its outputs; leave it out")
        return self
