"""The gate: size and latency of an untrained network, measured before anything is trained.

Neither depends on the values of the weights, so each architecture is exported and measured once at each precision.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from nas_kd.candidate import Architecture, Precision
from nas_kd.deploy.measure import measure_latency
from nas_kd.deploy.precision import load_precision
from nas_kd.files import fingerprint, sha256
from nas_kd.pipeline.context import Context
from nas_kd.pipeline.files import Files, scheme_of
from nas_kd.pipeline.networks import Builder
from nas_kd.record import Costs, Latency


class Gate:
    """Costs of architectures on the run's device, each found out once."""

    def __init__(self, context: Context, builder: Builder) -> None:
        self._context = context
        self._builder = builder
        self._files = Files(context)
        self.pausing: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext()

    def costs(
        self, *deployed: Architecture, precision: Precision = "fp32", latency_even_if_too_large: bool = False
    ) -> Costs:
        """Size, and latency unless the size is out of the budget already; of several networks, of their sum.

        Raises:
            TrialError: it cannot be exported or run.
        """
        onnx = self._export(deployed, precision)
        size_bytes, limit = len(onnx), self._context.config.budget.max_size_bytes
        too_large = limit is not None and size_bytes > limit and not latency_even_if_too_large
        return Costs(
            size_bytes=size_bytes,
            latency_ms=None if too_large else self.latency(onnx),
            parameters=sum(map(self._builder.parameters, deployed)),
            macs=sum(map(self._builder.macs, deployed)),
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

    def _export(self, deployed: tuple[Architecture, ...], precision: Precision) -> bytes:
        store, key = self._context.store, self._key(deployed, precision)
        onnx = store.load_bytes("export", key)
        if onnx is None:
            made = self._files.untrained([self._builder.build(a, 0) for a in deployed], precision)
            onnx = made.content
            if made.notes:
                store.save_json("export_notes", key, list(made.notes))
            store.save_bytes("export", key, onnx)
        return onnx

    def _key(self, deployed: tuple[Architecture, ...], precision: Precision) -> str:
        data, networks = self._context.data, [architecture.to_json() for architecture in deployed]
        scheme = [] if load_precision(precision).exact else [scheme_of(self._context)]
        return fingerprint([networks, data.input_shape, data.classes, precision, *scheme])

    def latency(self, onnx: bytes) -> Latency:
        """Latency of a file on the run's device, from the run's cache or measured now."""
        context, batch_size = self._context, self._context.config.device.batch_size
        key = fingerprint([sha256(onnx), context.device.key(), batch_size])
        known = context.store.load_json("latency", key)
        if known is not None:
            return Latency.model_validate(known)
        with self.pausing(context.device.n_threads):  # never while this run trains on the same cores
            latency = measure_latency(onnx, context.device, batch_size).latency
        context.store.save_json("latency", key, latency.model_dump(mode="json"))
        return latency
