"""The deployable files of one run: what a trained link becomes at its precision, and how accurate that is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import onnxruntime
import torch
from torch import nn

from nas_kd.context.run_context import Context
from nas_kd.export.verify import accuracy
from nas_kd.kd.training_job import TrainedModel
from nas_kd.models.wrappers import sum_networks
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs, load_precision
from nas_kd.results.candidate import Precision
from nas_kd.serialization import fingerprint, sha256


@dataclass(frozen=True)
class ExportedFile:
    """A verified file. `parity`: largest difference of logits from what it was made from; `agreement`: of decisions."""

    onnx: bytes
    sha256: str
    val_accuracy: float
    parity: float
    agreement: float
    seconds: float


class ArtifactBuilder:
    """Makes files, each once; all are kept in the store."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def untrained(self, networks: Sequence[nn.Module], precision: Precision) -> PrecisionFile:
        """The file of the networks' sum, as large and as fast as that of the same networks trained.

        Raises:
            TrialError: there is no such file.
        """
        # However ranges are found, the file has the same nodes: the quickest way will do.
        plugin, shape = load_precision(precision), self._context.data.input_shape
        network = sum_networks([plugin.prepare(network, shape) for network in networks])
        return plugin.make(network, replace(self._quantization_inputs, calibration="minmax"))

    def val_accuracy(self, trained: TrainedModel, precision: Precision) -> float:
        """Of the link's file on validation, 0..1.

        Raises:
            TrialError: there is no such file.
        """
        if load_precision(precision).exact:
            return trained.val_accuracy
        store, key = self._context.store, self._key(trained, precision)
        known = store.load_json("judged", key)
        if known is None:
            made = load_precision(precision).make(trained.model, self._quantization_inputs)
            known = accuracy(made.content, self._context.data.val)
            store.save_json("judged", key, known)
        return float(known)

    def deployed(self, trained: TrainedModel, precision: Precision) -> ExportedFile:
        """The link's file, verified on validation, or taken from the store.

        Raises:
            TrialError: it cannot be made, or is not what it was made from.
        """
        store, data, key = self._context.store, self._context.data, self._key(trained, precision)
        started = time.perf_counter()
        facts, onnx = store.load_json("file", key), store.load_bytes("file", key)
        if facts is None or onnx is None:
            made = load_precision(precision)
            onnx = made.make(trained.model, self._quantization_inputs).content
            parity = made.verify(onnx, trained.model, data.val.x)
            facts = {
                "sha256": sha256(onnx),
                "val_accuracy": accuracy(onnx, data.val),
                "parity": parity.max_abs_difference,
                "agreement": parity.agreement,
                "seconds": round(max(trained.seconds, time.perf_counter() - started), 4),
            }
            store.save_bytes("file", key, onnx)
            store.save_json("file", key, facts)
        return ExportedFile(onnx=onnx, **facts)

    def _key(self, trained: TrainedModel, precision: Precision) -> str:
        if load_precision(precision).exact:
            return trained.key
        options, context = self._context.config.quantization, self._context
        ranges = [options.calibration, options.samples, context.seed, context.device.integer_scheme]
        return fingerprint([trained.key, precision, ranges, onnxruntime.__version__])

    @cached_property
    def _quantization_inputs(self) -> QuantizationInputs:
        context, options = self._context, self._context.config.quantization
        x = context.data.train.x
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(context.seed))[: options.samples]
        return QuantizationInputs(
            context.data.input_shape, x[chosen], options.calibration, context.device.integer_scheme
        )
