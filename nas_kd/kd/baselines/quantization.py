"""Quantization alone: the teacher itself in fewer bits, after its training, at every precision of the device.

Jacob et al. 2018 (arXiv:1712.05877) for 8-bit integers; see `nas_kd/quantization/precisions`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from nas_kd.errors import TrialError
from nas_kd.export.teacher_file import TeacherFile
from nas_kd.export.verify import verify_converted
from nas_kd.kd.baselines.base import Baseline, BaselineInputs, CompressedFile, CompressedNetwork
from nas_kd.quantization.precision import FilePrecision, load_precision
from nas_kd.results.trial_record import Costs

COMPARED = 256  # validation samples on which both files are compared


class Quantization(Baseline):
    """The teacher's file, converted by each precision that needs no training."""

    name = "quantization"
    summary = "the teacher after its training in fewer bits, at every such precision of the device"
    techniques = ("quantization",)

    def variants(self, inputs: BaselineInputs) -> Iterator[Callable[[], CompressedNetwork]]:
        """One for each precision whose files are made of fp32 files.

        Raises:
            TrialError: the teacher has no file.
        """
        if inputs.teacher.file is None:
            raise TrialError("the teacher has no ONNX file to convert")
        for precision in map(load_precision, inputs.context.device.precisions):
            if isinstance(precision, FilePrecision):
                yield partial(_quantized, precision, inputs, inputs.teacher.file)


def _quantized(precision: FilePrecision, inputs: BaselineInputs, file: TeacherFile) -> CompressedNetwork:
    started, teacher, data = time.perf_counter(), inputs.teacher.teacher, inputs.context.data
    settings = inputs.artifacts.quantization_inputs
    made = precision.convert(file.content, replace(settings, samples=file.prepare(settings.samples)))
    if made.content == file.content:
        raise TrialError("; ".join(made.notes) or "nothing of the file can be quantised")
    parity = verify_converted(made.content, file.content, file.prepare(data.val.x[:COMPARED]), data.task)
    seconds = round(time.perf_counter() - started, 4)
    return CompressedNetwork(
        name=precision.name,
        description=f"the teacher in {precision.name}",
        precision=precision.name,
        files=(CompressedFile(inputs.context.seed, made.content, parity, seconds),),
        counts=Costs(parameters=teacher.parameters, macs=teacher.macs),
        notes=made.notes,
        run=file.run,
    )


PLUGIN = Quantization()
