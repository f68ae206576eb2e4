"""Teachers of benchmarks: trained once, kept in a file, and known by their weights.

On another machine the same training gives another network, and results under both would not compare: every row of
results has its teacher's fingerprint.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.common import markdown_table
from nas_kd.errors import InputError
from nas_kd.results.intervals import paired_gain
from nas_kd.serialization import sha256

DIGITS = 12  # of a fingerprint


def kept(path: Path, make: Callable[[], nn.Module], train: Callable[[nn.Module], object]) -> nn.Module:
    """Load a teacher from its file, or train it now; another process at it is waited for.

    Args:
        path: of the file.
        make: builds the network.
        train: trains it in place.

    Returns:
        The network, in eval mode.
    """
    network = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            train(network)
            unfinished = path.with_suffix(".new")
            save_file({name: t.contiguous() for name, t in network.state_dict().items()}, unfinished)
            unfinished.replace(path)
        network.load_state_dict(load_file(path))
    return network.eval()


def fingerprint_of(network: nn.Module) -> str:
    """Begin of the sha256 of a network's weights."""
    content = b"".join(t.detach().contiguous().cpu().numpy().tobytes() for t in network.state_dict().values())
    return sha256(content)[:DIGITS]


def check_same_teacher(rows: Iterable[Mapping[str, Any]], fingerprint: str) -> None:
    """Refuse to go on beside results under another teacher.

    Args:
        rows: results, with `teacher`.
        fingerprint: of the teacher that is there now.

    Raises:
        InputError: one of them has another.
    """
    if others := sorted({row["teacher"] for row in rows} - {fingerprint}):
        raise InputError(
            f"there are results under another teacher ({', '.join(others)}; here: {fingerprint}): bring its file "
            "along, or take another --out"
        )


def gain_text(ours: Mapping[int, float], others: Mapping[int, float], samples: int) -> str:
    """Mean gain in points over the seeds that both have, with its 95 % interval: `+1.2 [+0.4, +2.0]`.

    Args:
        ours: accuracy (0..1) by seed.
        others: the same of what it is compared with.
        samples: of the split that both were evaluated on.
    """
    seeds = sorted(ours.keys() & others.keys())
    if not seeds:
        return "-"
    gain = paired_gain([ours[s] for s in seeds], [others[s] for s in seeds], samples)
    return f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def mean_text(values: Mapping[int, float]) -> str:
    """Mean of shares by seed, in percent; `-` of none."""
    return f"{100 * sum(values.values()) / len(values):.1f} %" if values else "-"


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings of a benchmark in one line."""
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in settings.items()}
    return "Settings: " + ", ".join(f"{name} {value}" for name, value in shown.items()) + "."


def table_of(head: list[str], lines: list[list[str]]) -> str:
    """A table, or what stands for one without lines."""
    return markdown_table(head, lines) if lines else "Nothing was run yet.\n"
