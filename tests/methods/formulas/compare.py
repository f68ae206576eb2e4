"""Compares terms of a method with those of its formula: values, and gradients on everything that may be trained."""

from collections.abc import Mapping

import torch
from torch import Tensor

C = 4  # classes of the toy outputs


def gradients(term: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    if not term.requires_grad:
        return {name: torch.zeros_like(x) for name, x in inputs.items()}
    found = torch.autograd.grad(term, list(inputs.values()), retain_graph=True, allow_unused=True)
    return {name: torch.zeros_like(x) if g is None else g for (name, x), g in zip(inputs.items(), found, strict=True)}


def agree(
    fast: Mapping[str, Tensor], slow: Mapping[str, Tensor], inputs: dict[str, Tensor], *, rtol: float = 1e-7
) -> None:
    """Values and all gradients of all terms are equal, up to rounding."""
    assert list(fast) == list(slow)
    for term, value in fast.items():
        _close(value, slow[term], rtol, 1e-9, term)
        found, expected = gradients(value, inputs), gradients(slow[term], inputs)
        scale = max(float(g.abs().max()) for g in expected.values() if g.numel())
        for name in inputs:
            _close(found[name], expected[name], rtol, rtol * scale + 1e-12, f"gradient of {term} on {name}")


def _close(found: Tensor, expected: Tensor, rtol: float, atol: float, what: str) -> None:
    torch.testing.assert_close(
        found, expected, rtol=rtol, atol=atol, check_dtype=False, msg=lambda message: f"{what}: {message}"
    )
