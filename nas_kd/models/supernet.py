"""A supernet: the weights of a whole search space in one network that runs as any of its sub-networks.

Once-for-all (Cai et al. 2019, arXiv:1908.09791). A space's smaller networks are parts of its larger ones by
construction, so the weights of the largest network are all that is stored. A sub-network runs on views of them, and its
gradients accumulate there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas_kd.models.strided_pointwise import avoid_faulty_gradients
from nas_kd.models.subnetwork import kept_parts, weight_slice
from nas_kd.results.candidate import Architecture

Build = Callable[[Architecture], nn.Module]
MAX_SHELLS = 1024  # sub-networks without weights that are cached


class Supernet(nn.Module):
    """Runs as one sub-network at a time, with the statistics of its own batch.

    Attributes:
        weights: the space's largest network, whose weights all sub-networks share.
    """

    def __init__(self, build: Build, largest: Architecture, active: Architecture) -> None:
        """Build the largest network.

        Args:
            build: returns the network of an architecture, freshly initialised.
            largest: the architecture that contains all others of the space.
            active: the sub-network to run as outside of `as_subnet`.
        """
        super().__init__()
        self.weights = build(largest)
        self._active = active
        self._build = build
        self._shell = lru_cache(maxsize=MAX_SHELLS)(self._make_shell)

    @contextmanager
    def as_subnet(self, architecture: Architecture) -> Iterator[None]:
        """Run as the sub-network of this architecture while the context is open."""
        before, self._active = self._active, architecture
        try:
            yield
        finally:
            self._active = before

    def forward(self, x: Tensor) -> Tensor:
        """Run the active sub-network on x (B, ...) in stored units and return its logits (B, C)."""
        shell, scratch = self._shell(self._active)
        held = dict(self.weights.named_parameters(remove_duplicate=False))  # the shell's tensors are not tied
        known = kept_parts(shell)
        parts = {name: weight_slice(held, name, p.shape, known.get(name)) for name, p in shell.named_parameters()}
        return functional_call(shell, parts | scratch, (x,))  # type: ignore[no-any-return]

    def _make_shell(self, architecture: Architecture) -> tuple[nn.Module, dict[str, Tensor]]:
        """Build the sub-network without weights, and scratch buffers for the running statistics it writes."""
        with torch.device("meta"):
            shell = _without_weights(self._build(architecture).train())
        avoid_faulty_gradients(shell)
        buffers = {n: torch.zeros_like(b, device="cpu") for n, b in shell.named_buffers() if b.is_meta}
        return shell, buffers


def _without_weights(network: nn.Module) -> nn.Module:
    """The network with parameters that take no memory, wherever it was built."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and not parameter.is_meta:
                empty = torch.empty_like(parameter, device="meta")
                module._parameters[name] = nn.Parameter(empty, parameter.requires_grad)
    return network
