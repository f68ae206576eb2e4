"""The closest product of two thin matrices to a matrix (Eckart & Young 1936): W ~ left right, of some rank."""

import torch
from torch import Tensor

SMALLEST = 1e-6  # singular values below this share of the largest count as that much


def low_rank_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factorise a matrix by its largest singular values, both factors of equal scale.

    With W = U S V^T: left = U S^(1/2), right = S^(1/2) V^T. The vectors of the shorter side come from the eigenvectors
    of the matrix times itself; the other factor is a projection of the matrix, through which gradients flow back.

    Args:
        matrix: (outputs, inputs).
        rank: up to the shorter of its sides.

    Returns:
        left (outputs, rank) and right (rank, inputs).
    """
    outputs, inputs = matrix.shape
    wide = outputs < inputs
    with torch.no_grad():
        exact = matrix.detach().double()
        squares, vectors = torch.linalg.eigh(exact @ exact.T if wide else exact.T @ exact)  # ascending
        vectors, values = vectors.flip(1)[:, :rank], squares.flip(0)[:rank].clamp(min=0).sqrt()
        root = values.clamp(min=SMALLEST * float(values[0]) or 1.0).sqrt()
        side, other = ((vectors * s).to(matrix.dtype) for s in (root, 1 / root))
    return (side, other.T @ matrix) if wide else (matrix @ other, side.T)
