"""Steps of networks of different depth that belong together."""


def place_at_depth(i: int, n: int, deep: int) -> int:
    """The place among `deep` steps that is nearest to the share of the depth at which step `i` of `n` ends.

    Args:
        i: from 0.
        n: number of steps, at most `deep`.
        deep: number of steps to choose from.

    Returns:
        A place from 0; the last for the last step, and another one for each step.
    """
    return (2 * (i + 1) * deep + n) // (2 * n) - 1
