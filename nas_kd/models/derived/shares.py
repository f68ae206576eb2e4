"""Shares in eighths: how many channels a group keeps, and of which rank a linear layer becomes."""

from nas_kd.models.derived.channel_groups import ChannelGroup

FULL = 8  # shares are counted in eighths
QUANTA = ((64, 8), (16, 4), (8, 2), (0, 1))  # from this width on, widths are multiples of that
NARROWEST = 32  # outputs and inputs of a cut linear layer, below which it stays one layer


def width_of(group: ChannelGroup, eighths: int) -> int:
    """Channels that a group keeps at a share: whole units, or a multiple of 8, less where it is narrow."""
    if eighths == FULL:
        return group.size
    if group.unit > 1:
        units = group.size // group.unit
        return max(1, int(units * eighths / FULL + 0.5)) * group.unit
    quantum = _quantum(group.size)
    return min(group.size, max(1, int(group.size * eighths / FULL / quantum + 0.5)) * quantum)


def rank_of(outputs: int, inputs: int, eighths: int) -> int | None:
    """Rank of a linear layer that becomes two, which then have about that share of its weights.

    At the rank outputs x inputs / (outputs + inputs) two layers cost what one does; shares are of that rank.

    Args:
        outputs: of the layer, as it is cut.
        inputs: likewise.
        eighths: the share.

    Returns:
        A multiple of 8, less where it is low; None: it stays one layer.
    """
    if eighths == FULL or min(outputs, inputs) < NARROWEST:
        return None
    even = outputs * inputs / (outputs + inputs)
    quantum = _quantum(even)
    return max(1, int(even * eighths / FULL / quantum)) * quantum


def _quantum(size: float) -> int:
    return next(quantum for width, quantum in QUANTA if size >= width)
