"""The weights of a whole search space in one network, which runs as any of its sub-networks (once for all).

Cai et al. 2019, arXiv:1908.09791. A space's smaller networks are parts of its larger ones by construction, so that the
weights of the largest are all there is; a sub-network runs on views of them, and its gradients arrive there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas_kd.models.subnetwork import part_of
from nas_kd.results.candidate import Architecture

Build = Callable[[Architecture], nn.Module]
SHELLS = 1024  # sub-networks without weights that are kept


class Elastic(nn.Module):
    """Runs as one sub-network at a time, with its batch's own statistics; `weights` is the space's largest network."""

    def __init__(self, build: Build, largest: Architecture, shown: Architecture) -> None:
        """`shown`: the sub-network that it runs as until told otherwise."""
        super().__init__()
        self.weights = build(largest)
        self._shown = shown
        self._build = build
        self._shell = lru_cache(maxsize=SHELLS)(self._make_shell)

    @contextmanager
    def showing(self, architecture: Architecture) -> Iterator[None]:
        """Run as this sub-network inside."""
        before, self._shown = self._shown, architecture
        try:
            yield
        finally:
            self._shown = before

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) in stored units -> (B, C) logits of the sub-network shown."""
        shell, scratch = self._shell(self._shown)
        held = dict(self.weights.named_parameters())
        parts = {name: part_of(held, name, p.shape) for name, p in shell.named_parameters()}
        return functional_call(shell, parts | scratch, (x,))  # type: ignore[no-any-return]

    def _make_shell(self, architecture: Architecture) -> tuple[nn.Module, dict[str, Tensor]]:
        """The network without its weights, and buffers that its training mode writes to and nobody reads."""
        with torch.device("meta"):
            shell = self._build(architecture).train()
        buffers = {n: torch.zeros_like(b, device="cpu") for n, b in shell.named_buffers() if b.is_meta}
        return shell, buffers
