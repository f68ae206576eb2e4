"""The gate: what an untrained network costs, found out before anything is trained.

Costs do not depend on the values of the weights, so each architecture is exported and measured once.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from nas_kd.candidate import Architecture
from nas_kd.deploy.export import export_onnx
from nas_kd.deploy.measure import measure_latency
from nas_kd.files import fingerprint, sha256
from nas_kd.models.summed import summed
from nas_kd.pipeline.budget import excess, require_measured
from nas_kd.pipeline.context import Context
from nas_kd.pipeline.networks import Builder
from nas_kd.record import Costs, Counted, Latency


class Gate:
    """Costs of architectures on the run's device, each found out once."""

    def __init__(self, context: Context, builder: Builder) -> None:
        self._context = context
        self._builder = builder
        self.pausing: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext()

    def costs(self, *deployed: Architecture, timed: bool = True) -> Costs | Counted:
        """What networks cost whose sum is deployed, the cheapest to know first.

        What is out of the budget already is not exported, or not measured, any more; without `timed` nothing is.

        Raises:
            TrialError: it cannot be exported or run, or what the budget limits was not measured.
        """
        budget, counted = self._context.config.budget, self._counted(deployed)
        if excess(counted, budget) > 0:
            return counted
        onnx = self._export(deployed)
        exported = Costs(size_bytes=len(onnx), parameters=counted.parameters, macs=counted.macs)
        if not timed or excess(exported, budget) > 0:
            return exported
        costs = self.of_file(onnx, counted)
        require_measured(costs, budget)
        return costs

    def all_costs(self, *deployed: Architecture) -> Costs:
        """As `costs`, all there are, whatever the budget.

        Raises:
            TrialError: it cannot be exported or run.
        """
        return self.of_file(self._export(deployed), self._counted(deployed))

    def _counted(self, deployed: tuple[Architecture, ...]) -> Counted:
        parameters, macs = (sum(map(count, deployed)) for count in (self._builder.parameters, self._builder.macs))
        return Counted(parameters=parameters, macs=macs)

    def of_file(self, onnx: bytes, counted: Counted) -> Costs:
        """All costs of an exported file."""
        return Costs(
            size_bytes=len(onnx),
            latency_ms=self.latency(onnx),
            memory_bytes=None,
            parameters=counted.parameters,
            macs=counted.macs,
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
            latency = measure_latency(onnx, context.device, batch_size).latency
        context.store.save_json("latency", key, latency.model_dump(mode="json"))
        return latency
