"""The deployable files of one run: what a trained network becomes at its precision, and how accurate that file is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnxruntime
import torch
from torch import nn

from nas_kd.config.options import QuantizationOptions
from nas_kd.context.run_context import RunContext
from nas_kd.data.dataset import Dataset
from nas_kd.export.verify import evidence_of_file
from nas_kd.kd.training_job import TrainedModel
from nas_kd.latency.device import Device
from nas_kd.models.wrappers import sum_networks
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs, load_precision
from nas_kd.quantization.weight_range import weight_facts
from nas_kd.results.trial_record import Judged
from nas_kd.scores.base import Score
from nas_kd.serialization import fingerprint, sha256
from nas_kd.store.store import Store


@dataclass(frozen=True)
class ExportedFile:
    """A verified ONNX file.

    Attributes:
        onnx: its bytes.
        sha256: of these bytes.
        val_accuracy: through ONNX Runtime on the validation split, 0..1.
        val_score: what decides, there, 0..1.
        parity: largest absolute difference of logits from the network it was made from.
        agreement: share of equal top-1 decisions, 0..1.
        seconds: of training, or of making the file where that took longer.
        weights_key: of the network's weights in the store, under the kind "deployed"; None: they are not kept.
        grad_ratios: see `TrainedModel`.
    """

    onnx: bytes
    sha256: str
    val_accuracy: float
    val_score: float
    parity: float
    agreement: float
    seconds: float
    weights_key: str | None = None
    grad_ratios: dict[str, float] = field(default_factory=dict)


class ArtifactBuilder:
    """Makes deployable files, each once; all are kept in the store."""

    def __init__(
        self,
        data: Dataset,
        store: Store,
        *,
        quantization: QuantizationOptions,
        seed: int,
        device: Device,
        score: Score | None = None,
    ) -> None:
        """Make files for these data.

        Args:
            data: validation samples judge a file, training samples calibrate its integer ranges.
            store: keeps files.
            quantization: how ranges are found.
            seed: draws the calibration samples.
            device: states the integer types that its kernels are made for.
            score: that files are judged by; None: the task's own.
        """
        self._score = score or data.task.headline_score
        self._data, self._store, self._options = data, store, quantization
        self._seed, self._device = seed, device

    @staticmethod
    def for_run(context: RunContext) -> "ArtifactBuilder":
        """Create the builder of a run from its config, data and device."""
        quantization = context.config.quantization
        return ArtifactBuilder(
            context.data,
            context.store,
            quantization=quantization,
            seed=context.seed,
            device=context.device,
            score=context.score,
        )

    def untrained_file(self, networks: Sequence[nn.Module], precision: str) -> PrecisionFile:
        """Make the file of the networks' sum, as large and as fast as that of the same networks trained.

        Raises:
            TrialError: there is no such file.
        """
        # However ranges are found, the file has the same nodes: the quickest way will do.
        plugin, shape = load_precision(precision), self._data.input_shape
        network = sum_networks([plugin.prepare(network, shape) for network in networks])
        return plugin.make(network, replace(self.quantization_inputs, calibration="minmax"))

    def judge(self, trained: TrainedModel, precision: str) -> Judged:
        """Accuracy and score of the network's file on the validation split.

        Raises:
            TrialError: there is no such file.
        """
        if load_precision(precision).exact:
            return Judged(trained.val_accuracy, trained.val_score)
        key = self._key(trained, precision)
        known = self._store.load_json("judged", key)
        if known is None:
            made = load_precision(precision).make(trained.model, self.quantization_inputs)
            known = list(self._judged(made.content))
            self._store.save_json("judged", key, known)
        # The accuracy alone is from a version that knew no other score.
        return Judged(*known) if isinstance(known, list) else Judged(known, known)

    def verified_file(self, trained: TrainedModel, precision: str) -> ExportedFile:
        """Export a network and verify the file on the validation split, or take it from the store.

        Raises:
            TrialError: it cannot be exported, or differs from what it was made from.
        """
        key, started = self._key(trained, precision), time.perf_counter()
        facts, onnx = self._store.load_json("file", key), self._store.load_bytes("file", key)
        if facts is None or onnx is None:
            plugin = load_precision(precision)
            onnx = plugin.make(trained.model, self.quantization_inputs).content
            parity = plugin.verify(onnx, trained.model, self._data.val.x, self._data.task)
            facts = {
                "sha256": sha256(onnx),
                **dict(zip(("val_accuracy", "val_score"), self._judged(onnx), strict=True)),
                "parity": parity.max_abs_difference,
                "agreement": parity.agreement,
                "seconds": round(max(trained.seconds, time.perf_counter() - started), 4),
                "grad_ratios": trained.grad_ratios,
            }
            weights = {k: v.contiguous() for k, v in trained.model.state_dict().items()}
            self._store.save("deployed", key, weights, {"precision": precision})
            self._store.save_bytes("file", key, onnx)
            self._store.save_json("file", key, facts)
        facts = {"val_score": facts["val_accuracy"]} | facts
        return ExportedFile(onnx=onnx, **facts, weights_key=key)

    def _judged(self, onnx: bytes) -> Judged:
        task = self._data.task
        evidence = evidence_of_file(onnx, self._data.val, task)
        return Judged(task.first_score(evidence), self._score.value(evidence))

    def _key(self, trained: TrainedModel, precision: str) -> str:
        if load_precision(precision).exact:
            return trained.key
        options = self._options
        ranges = [options.calibration, options.samples, self._seed, self._device.integer_scheme]
        return fingerprint([trained.key, precision, [*ranges, *weight_facts().values()], onnxruntime.__version__])

    @cached_property
    def quantization_inputs(self) -> QuantizationInputs:
        """Training samples for ranges of activations, drawn by the seed, and the settings of the run."""
        x = self._data.train.x
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(self._seed))[: self._options.samples]
        calibration, scheme = self._options.calibration, self._device.integer_scheme
        return QuantizationInputs(
            self._data.input_shape,
            x[chosen],
            calibration,
            scheme,
            output=self._data.task.output,
            output_axes=self._data.output_axes,
        )
