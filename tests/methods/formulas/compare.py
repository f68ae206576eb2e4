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


def differences(
    fast: Mapping[str, Tensor], slow: Mapping[str, Tensor], inputs: dict[str, Tensor], *, rtol: float = 1e-7
) -> list[str]:
    """In what values and gradients of terms differ by more than rounding; none of them may."""
    if list(fast) != list(slow):
        return [f"terms {list(fast)}, by the formula {list(slow)}"]
    found = list[str]()
    for term, value in fast.items():
        found += _difference(value, slow[term], rtol, 1e-9, term)
        mine, expected = gradients(value, inputs), gradients(slow[term], inputs)
        scale = max(float(g.abs().max()) for g in expected.values() if g.numel())
        for name in inputs:
            found += _difference(
                mine[name], expected[name], rtol, rtol * scale + 1e-12, f"gradient of {term} on {name}"
            )
    return found


def _difference(found: Tensor, expected: Tensor, rtol: float, atol: float, what: str) -> list[str]:
    try:
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, check_dtype=False)
    except AssertionError as error:
        return [f"{what}: {error}"]
    return []
