"""The gate: measures what an untrained network costs, so that candidates over the budget are never trained.

Costs do not depend on the values of the weights, so each architecture is exported and measured once at each precision.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace

from nas_kd.context.run_context import RunContext, dataset_record
from nas_kd.deployment.metadata import metadata_size
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.latency.stable_timing import FULL, QUICK, MeasurementBudget
from nas_kd.nas.feasibility import log_excess, require_measured
from nas_kd.quantization.precision import load_precision
from nas_kd.results.candidate import Architecture, Precision
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs
from nas_kd.serialization import fingerprint, sha256

DISTURBED_ERROR = 1.3  # factor by which a latency may be wrong that was measured beside a busy neighbour


class Gate:
    """Measures the costs of architectures on the run's device, each once; memory only where the budget limits it."""

    def __init__(
        self,
        context: RunContext,
        builder: NetworkBuilder,
        pause_workers: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        """Prepare for the run of `context`; nothing is measured yet.

        Args:
            context: The run's config, data, store and device.
            builder: Builds the networks.
            pause_workers: Makes a context manager inside which this run's trainings leave that many cores idle.
        """
        self._context = context
        self._builder = builder
        self._files = ArtifactBuilder.for_run(context)
        self._metadata_size = metadata_size(dataset_record(context.data))
        self._pause_workers = pause_workers

    def costs(
        self, *deployed: Architecture, precision: Precision = "fp32", with_latency: bool = True, quick: bool = False
    ) -> Costs:
        """Measure the costs in the order of their price, up to the first one that is over the budget.

        Args:
            deployed: Architectures of the networks whose sum is deployed.
            precision: Precision of the file.
            with_latency: False leaves out memory and latency.
            quick: Measure latency briefly; see `latency`.

        Returns:
            Costs in which everything behind the first one over the budget is None.

        Raises:
            TrialError: The network cannot be exported or run, or a limited cost cannot be measured.
        """
        budget = self._context.config.budget
        with as_trial_error():
            counts = self._builder.counted(deployed)
        if log_excess(counts, budget) > 0:
            return counts
        onnx = self._export(deployed, precision)
        costs = counts.model_copy(update={"size_bytes": self._deployed_size(onnx)})
        if not with_latency or log_excess(costs, budget) > 0:
            return costs
        costs = costs.model_copy(update={"memory_bytes": self._memory(onnx)})
        if log_excess(costs, budget) > 0:
            return costs
        costs = costs.model_copy(update={"latency_ms": self.latency(onnx, quick=quick)})
        require_measured(costs, budget)
        return costs

    def all_costs(self, *deployed: Architecture, precision: Precision = "fp32", quick: bool = False) -> Costs:
        """Measure every cost, whatever the budget; see `costs` for the arguments.

        Raises:
            TrialError: The network cannot be exported or run.
        """
        with as_trial_error():
            counts = self._builder.counted(deployed)
        return self.of_file(self._export(deployed, precision), counts, quick=quick)

    def check_export(self, architecture: Architecture, precision: Precision) -> None:
        """Refuse a network that has no file at this precision.

        Raises:
            TrialError: The network cannot be exported.
        """
        self._export((architecture,), precision)

    def of_file(self, onnx: bytes, counts: Costs, *, quick: bool = False) -> Costs:
        """Measure every cost of an exported file.

        Args:
            onnx: Content of the file, as exported.
            counts: Parameters and multiply-adds of its network.
            quick: Measure latency briefly; see `latency`.

        Raises:
            TrialError: The file cannot be run.
        """
        measured = {"memory_bytes": self._memory(onnx), "latency_ms": self.latency(onnx, quick=quick)}
        return counts.model_copy(update={"size_bytes": self._deployed_size(onnx), **measured})

    def notes(self, *deployed: Architecture, precision: Precision) -> tuple[str, ...]:
        """What the user should know about the exported file, such as layers that were kept in fp32.

        Raises:
            TrialError: The network cannot be exported.
        """
        if load_precision(precision).exact:
            return ()
        self._export(deployed, precision)
        return tuple(self._context.store.load_json("export_notes", self._export_key(deployed, precision)) or ())

    def latency(self, onnx: bytes, *, quick: bool = False) -> Latency:
        """Latency of a file on the run's device, from the store or measured now.

        Args:
            onnx: Content of the file.
            quick: Measure briefly. The interval is widened where the machine was disturbed all the time. A quick result
                is stored under a key of its own, so that a resumed run sees the same figure again.

        Raises:
            TrialError: The file cannot be run.
        """
        store, key = self._context.store, self._measurement_key(onnx)
        quick_key = fingerprint([key, "roughly"])
        for stored_as in (quick_key, key) if quick else (key,):
            if (stored := store.load_json("latency", stored_as)) is not None:
                return Latency.from_json(stored)
        latency = self._measure(onnx, QUICK if quick else FULL)
        if quick and latency.unstable:
            key, error = quick_key, 1.0 if latency.is_undisturbed else DISTURBED_ERROR
            latency = replace(latency, low=latency.low / error, high=latency.high * error)
        store.save_json("latency", key, latency.to_json())
        return latency

    def _deployed_size(self, onnx: bytes) -> int:
        """Size of an exported file as it is written for users, in bytes: with its metadata."""
        return len(onnx) + self._metadata_size

    def _measure(self, onnx: bytes, measurement_budget: MeasurementBudget) -> Latency:
        context = self._context
        with ExitStack() as pauses:
            # Never while this run trains on the same cores. Other cores may share a physical core with them: the
            # trainings there are paused only if the measurement turns out to be disturbed.
            pauses.enter_context(self._pause_workers(context.device.n_threads))
            return context.device.measure(
                onnx,
                context.batch_size,
                pause_neighbours=lambda: pauses.enter_context(self._pause_workers(context.config.search.workers)),
                measurement_budget=measurement_budget,
            )

    def _memory(self, onnx: bytes) -> int | None:
        """Peak memory of a session in bytes; None if it is not limited, or the system does not report it."""
        context, key = self._context, self._measurement_key(onnx)
        if context.config.budget.max_memory_bytes is None:
            return None
        stored = context.store.load_json("memory", key)
        if stored is None:
            stored = context.device.memory(onnx, context.batch_size).session_bytes
            context.store.save_json("memory", key, stored)
        return None if stored is None else int(stored)

    def _export(self, deployed: tuple[Architecture, ...], precision: Precision) -> bytes:
        store, key = self._context.store, self._export_key(deployed, precision)
        onnx = store.load_bytes("export", key)
        if onnx is None:
            with as_trial_error():
                made = self._files.untrained_file([self._builder.build(a, 0) for a in deployed], precision)
            onnx = made.content
            if made.notes:
                store.save_json("export_notes", key, list(made.notes))
            store.save_bytes("export", key, onnx)
        return onnx

    def _export_key(self, deployed: tuple[Architecture, ...], precision: Precision) -> str:
        data, networks = self._context.data, [architecture.to_json() for architecture in deployed]
        scheme = [] if load_precision(precision).exact else [self._context.device.integer_scheme]
        space = list(self._builder.identity.values())
        return fingerprint([networks, data.input_shape, data.classes, precision, *scheme, *space])

    def _measurement_key(self, onnx: bytes) -> str:
        return fingerprint([sha256(onnx), self._context.device.key(), self._context.batch_size])
