"""The gate: what an untrained network costs, found out before anything is trained.

Costs do not depend on the values of the weights, so each architecture is exported and measured once at each precision.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

from nas_kd.context.run_context import Context
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.latency.measure import Measurement
from nas_kd.latency.stable_timing import FULL, QUICK, MeasurementBudget
from nas_kd.nas.feasibility import log_excess, require_measured
from nas_kd.quantization.precision import load_precision
from nas_kd.results.candidate import Architecture, Precision
from nas_kd.results.records import Costs, Counted, Latency
from nas_kd.serialization import fingerprint, sha256

DOUBT = 1.3  # factor by which a latency may be wrong that was taken beside a busy neighbour


class Gate:
    """Costs of architectures on the run's device, each found out once; memory only where the budget limits it."""

    def __init__(
        self,
        context: Context,
        builder: NetworkBuilder,
        pausing: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        """`pausing`: inside, so many cores are left alone by the run's trainings."""
        self._context = context
        self._builder = builder
        self._files = ArtifactBuilder.for_run(context)
        self._pausing = pausing

    def costs(
        self, *deployed: Architecture, precision: Precision = "fp32", timed: bool = True, quick: bool = False
    ) -> Costs | Counted:
        """What networks cost whose sum is deployed, the cheapest to know first.

        What is out of the budget already is not exported, or not measured, any more; without `timed` nothing is.
        `roughly`: see `latency`.

        Raises:
            TrialError: it cannot be exported or run, or what the budget limits was not measured.
        """
        budget, counted = self._context.config.budget, self._builder.counted(deployed)
        if log_excess(counted, budget) > 0:
            return counted
        onnx = self._export(deployed, precision)
        found = self._of_size(onnx, counted)
        if not timed or log_excess(found, budget) > 0:
            return found
        found = found.model_copy(update={"memory_bytes": self._memory(onnx)})
        if log_excess(found, budget) > 0:
            return found
        found = found.model_copy(update={"latency_ms": self.latency(onnx, quick=quick)})
        require_measured(found, budget)
        return found

    def all_costs(self, *deployed: Architecture, precision: Precision = "fp32", quick: bool = False) -> Costs:
        """As `costs`, all there are, whatever the budget.

        Raises:
            TrialError: it cannot be exported or run.
        """
        return self.of_file(self._export(deployed, precision), self._builder.counted(deployed), quick=quick)

    def of_file(self, onnx: bytes, counted: Counted, *, quick: bool = False) -> Costs:
        """All costs of an exported file."""
        return self._of_size(onnx, counted).model_copy(
            update={"memory_bytes": self._memory(onnx), "latency_ms": self.latency(onnx, quick=quick)}
        )

    def notes(self, *deployed: Architecture, precision: Precision) -> tuple[str, ...]:
        """What a user has to know of the file, such as layers that were kept in fp32.

        Raises:
            TrialError: it cannot be exported.
        """
        if load_precision(precision).exact:
            return ()
        self._export(deployed, precision)
        return tuple(self._context.store.load_json("export_notes", self._key(deployed, precision)) or ())

    def _of_size(self, onnx: bytes, counted: Counted) -> Costs:
        return Costs(size_bytes=len(onnx), parameters=counted.parameters, macs=counted.macs)

    def _export(self, deployed: tuple[Architecture, ...], precision: Precision) -> bytes:
        store, key = self._context.store, self._key(deployed, precision)
        onnx = store.load_bytes("export", key)
        if onnx is None:
            made = self._files.untrained_file([self._builder.build(a, 0) for a in deployed], precision)
            onnx = made.content
            if made.notes:
                store.save_json("export_notes", key, list(made.notes))
            store.save_bytes("export", key, onnx)
        return onnx

    def _key(self, deployed: tuple[Architecture, ...], precision: Precision) -> str:
        data, networks = self._context.data, [architecture.to_json() for architecture in deployed]
        scheme = [] if load_precision(precision).exact else [self._context.device.integer_scheme]
        return fingerprint([networks, data.input_shape, data.classes, precision, *scheme])

    def latency(self, onnx: bytes, *, quick: bool = False) -> Latency:
        """From the run's cache, or measured now.

        `roughly`: with less effort; the interval is wide where the machine was not like itself. What was found so is
        what it stays at when asked for roughly again: a resumed run must not know more.
        """
        store, key = self._context.store, self._measured_key(onnx)
        rough_key = fingerprint([key, "roughly"])
        for known_as in (rough_key, key) if quick else (key,):
            if (known := store.load_json("latency", known_as)) is not None:
                return Latency.model_validate(known)
        measured = self._measure(onnx, QUICK if quick else FULL)
        latency = measured.latency
        if quick and latency.unstable:
            key, doubt = rough_key, 1.0 if measured.is_undisturbed else DOUBT
            latency = latency.model_copy(update={"low": latency.low / doubt, "high": latency.high * doubt})
        store.save_json("latency", key, latency.model_dump(mode="json"))
        return latency

    def _measure(self, onnx: bytes, effort: MeasurementBudget) -> Measurement:
        context = self._context
        with ExitStack() as pauses:
            # Never while this run trains on the same cores; others may be the other halves of the same ones.
            pauses.enter_context(self._pausing(context.device.n_threads))
            return context.device.measure(
                onnx,
                context.batch_size,
                quieter=lambda: pauses.enter_context(self._pausing(context.config.search.workers)),
                effort=effort,
            )

    def _memory(self, onnx: bytes) -> int | None:
        """Peak bytes of a session, or what is known; None: not limited, or the system cannot tell."""
        context, key = self._context, self._measured_key(onnx)
        if context.config.budget.max_memory_bytes is None:
            return None
        known = context.store.load_json("memory", key)
        if known is None:
            known = context.device.memory(onnx, context.batch_size).session_bytes
            context.store.save_json("memory", key, known)
        return None if known is None else int(known)

    def _measured_key(self, onnx: bytes) -> str:
        return fingerprint([sha256(onnx), self._context.device.key(), self._context.batch_size])
