"""Teachers of the user's own that are ONNX files: of any layout and number type, with logits or probabilities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_kd.config.options import TeacherOptions
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.data.samples import Samples
from nas_kd.engine.evaluation import outputs_of
from nas_kd.engine.numerics import PLAIN
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.onnx_file import OnnxFile, read_onnx
from nas_kd.export.onnx_module import OnnxModule
from nas_kd.export.teacher_file import TeacherFile
from nas_kd.kd.network_builder import in_thousands
from nas_kd.kd.teacher_inputs import SampleFacts, TeacherInputs
from nas_kd.kd.user_teachers import UserTeacher, label_facts, wanted_outputs
from nas_kd.serialization import fingerprint, sha256


def from_onnx(options: TeacherOptions, data: Dataset) -> UserTeacher:
    """Read a teacher from the user's ONNX file.

    Raises:
        InputError: the file cannot be read or run, or it does not fit the data.
    """
    path = options.onnx or Path()
    if options.features is not None:
        raise InputError(
            "teacher.features: an ONNX teacher provides its logits only; leave features out, or give a factory"
        )
    n_classes = wanted_outputs(options, data)
    file = read_onnx(path, options.output, n_classes, axes=data.output_axes)
    shape = None if n_classes is None else data.task.raw_shape(n_classes)
    loaded = load_onnx(file, options, SampleFacts.of(data), shape)
    inputs, module = loaded.inputs, loaded.module
    identity = [sha256(file.content), options.preprocessing, *inputs.identity(options, data.scale)]
    identity += label_facts(options)
    key = fingerprint([*identity, "probabilities"] if module.probabilities else identity)
    parameters = count_parameters(module)
    description = f"{path.name}, {in_thousands(parameters)} weights"
    teacher = Teacher(loaded.model, key, description, parameters, _macs(module, inputs.shape))
    teacher = replace(teacher, other_classes=options.knows_other_classes)
    return UserTeacher(teacher, loaded.teacher_file, loaded.notes, loaded.behind, options)


@dataclass(frozen=True)
class LoadedOnnx:
    """An ONNX file that takes samples as they are stored.

    Attributes:
        file: as it was read.
        module: the file as a module.
        inputs: what is done with samples in front of it.
        options: that ask for it.
    """

    file: OnnxFile
    module: OnnxModule
    inputs: TeacherInputs
    options: TeacherOptions

    @property
    def model(self) -> nn.Module:
        """The module behind what is done with samples."""
        return self.inputs.in_front_of(self.module)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was recognised or done with samples, one sentence each."""
        return (*self.inputs.notes(self.options), *_notes(self.module))

    @property
    def teacher_file(self) -> TeacherFile:
        """The file, its sides closed, and how files made of it are run on samples in stored units."""
        return TeacherFile(self.module.classifier.file.content, self._prepare, self._run)

    def _prepare(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.module.in_file_layout(self.inputs.in_front_of(nn.Identity())(as_input(x).clone()))

    def _run(self, content: bytes, x: Samples) -> NDArray[np.float32]:
        file = read_onnx(content, self.file.output_name, axes=self.file.axes)
        module = OnnxModule(file, self.inputs.shape, None, channels_last=self.module.channels_last)
        return outputs_of(self.inputs.in_front_of(module), x, PLAIN)

    def behind(self, other: TeacherOptions) -> nn.Module:
        """The module behind what other options ask for.

        Raises:
            InputError: they do not fit the samples or the file.
        """
        inputs = self.inputs.like(other)
        return (inputs if self.file.is_float else inputs.in_pixels(self.file.dtype, other)).in_front_of(self.module)


def load_onnx(
    file: OnnxFile, options: TeacherOptions, facts: SampleFacts, output_shape: Sequence[int | None] | None
) -> LoadedOnnx:
    """Find out how a file takes samples, and load it.

    Args:
        file: as `read_onnx` gave it.
        options: of the teacher.
        facts: of the samples.
        output_shape: of what it has to give for one sample, see `OnnxModule`; None: whatever it gives.

    Raises:
        InputError: the file does not take such samples, or gives something else than is wanted.
    """
    inputs = TeacherInputs.of(options, facts)
    if not file.is_float:
        inputs = inputs.in_pixels(file.dtype, options)
    first: InputError | None = None
    for attempt, channels_last in _attempts(file, inputs):
        try:
            module = OnnxModule(file, attempt.shape, output_shape, channels_last=channels_last)
        except InputError as error:
            first = first or error
            continue
        with torch.no_grad():
            if facts.one_class:
                module.recognize_probabilities(attempt.in_front_of(nn.Identity())(facts.examples))
            if not bool(torch.isfinite(attempt.in_front_of(module)(facts.examples)).all()):
                raise InputError(f"{file.source} gives NaN or infinite values for samples of the data")
        return LoadedOnnx(file, module, attempt, options)
    raise first or InputError(_mismatch(file, inputs))


def _attempts(file: OnnxFile, inputs: TeacherInputs) -> Iterator[tuple[TeacherInputs, bool]]:
    """Ways to show samples to a file that its shape allows, the most usual first; open sides allow several."""
    for attempt in (inputs, inputs.in_colour()):
        if attempt is None:
            continue
        shape = attempt.shape
        if file.takes(shape):
            yield attempt, False
        if attempt.facts.is_image and file.takes((*shape[1:], shape[0])):
            yield attempt, True


def _mismatch(file: OnnxFile, inputs: TeacherInputs) -> str:
    text = ", ".join("any" if side is None else str(side) for side in file.input_shape)
    problem = f"teacher: {file.source} takes samples of shape ({text}), the data's are {inputs.shape}"
    if inputs.facts.is_image and len(file.input_shape) == len(inputs.shape):
        *sides, last = file.input_shape
        height, width = sides if last in (1, 3) and sides[0] not in (1, 3) else (sides[-1], last)
        if height and width and (height, width) != inputs.shape[1:]:
            size = height if height == width else [height, width]
            return f"{problem}; to show it resized samples, set teacher.image_size = {size}"
    return problem


def _macs(module: OnnxModule, shape: tuple[int, ...]) -> int:
    """Multiply-adds of one sample; 0 where the graph cannot be run for them, which does not keep it from teaching."""
    try:
        return count_macs(module, shape)
    except InputError:
        return 0


def _notes(module: OnnxModule) -> list[str]:
    file, found = module.classifier.file, []
    if module.channels_last:
        found.append("the file takes images channels last (H, W, C): samples are transposed")
    if not file.is_float:
        found.append(f"the file takes {file.dtype}: samples are fed as whole numbers")
    if file.batch is not None:
        samples = "1 sample" if file.batch == 1 else f"{file.batch} samples"
        found.append(f"the file takes exactly {samples} a call, and its latency is that of such a call")
    if module.probabilities:
        found.append(f"output {file.output_name!r} gives probabilities: their logarithms are used as logits")
    return found
