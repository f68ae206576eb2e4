"""The gate: size and latency of an untrained network, measured before anything is trained.

Neither depends on the values of the weights, so each architecture is exported and measured once.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from nas_kd.candidate import Architecture
from nas_kd.deploy.export import export_onnx
from nas_kd.files import fingerprint, sha256
from nas_kd.models.summed import summed
from nas_kd.pipeline.context import Context
from nas_kd.pipeline.networks import Builder
from nas_kd.record import Costs, Latency


class Gate:
    """Costs of architectures on the run's device, each found out once."""

    def __init__(self, context: Context, builder: Builder) -> None:
        self._context = context
        self._builder = builder
        self.pausing: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext()

    def costs(self, *deployed: Architecture, latency_even_if_too_large: bool = False) -> Costs:
        """Size, and latency unless the size is out of the budget already; of several networks, of their sum.

        Raises:
            TrialError: it cannot be exported or run.
        """
        onnx = self._export(deployed)
        size_bytes, limit = len(onnx), self._context.config.budget.max_size_bytes
        too_large = limit is not None and size_bytes > limit and not latency_even_if_too_large
        return Costs(
            size_bytes=size_bytes,
            latency_ms=None if too_large else self.latency(onnx),
            parameters=sum(map(self._builder.parameters, deployed)),
            macs=sum(map(self._builder.macs, deployed)),
        )

    def _export(self, deployed: tuple[Architecture, ...]) -> bytes:
        context = self._context
        networks = [architecture.to_json() for architecture in deployed]
        key = fingerprint([networks, context.data.input_shape, context.data.classes, "fp32"])
        onnx = context.store.load_bytes("export", key)
        if onnx is None:
            network = summed([self._builder.build(architecture, 0) for architecture in deployed])
            onnx = export_onnx(network, context.data.input_shape)
            context.store.save_bytes("export", key, onnx)
        return onnx

    def latency(self, onnx: bytes) -> Latency:
        """Latency of a file on the run's device, from the run's cache or measured now."""
        context, batch_size = self._context, self._context.batch_size
        key = fingerprint([sha256(onnx), context.device.key(), batch_size])
        known = context.store.load_json("latency", key)
        if known is not None:
            return Latency.model_validate(known)
        with self.pausing(context.device.n_threads):  # never while this run trains on the same cores
            latency = context.device.measure(onnx, batch_size).latency
        context.store.save_json("latency", key, latency.model_dump(mode="json"))
        return latency
