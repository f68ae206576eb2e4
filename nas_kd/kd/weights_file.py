"""Reads a user's weights, a .safetensors file, into a network."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.kd.weight_names import fit_weights

PICKLES = (b"PK\x03\x04", b"\x80")  # how files of torch.save begin: a zip archive, or the pickle itself


def load_weights_file(
    network: nn.Module, path: Path, option: str, *, whose: str, on_note: Callable[[str], None] = lambda _: None
) -> None:
    """Load a file into a network; what is stripped, shared or converted on the way is noted.

    Args:
        network: changed in place.
        path: of the file.
        option: that names it, for messages.
        whose: the network, for messages.
        on_note: receives notes.

    Raises:
        InputError: there is no such file, it is not a safetensors file, or it is another network's.
    """
    load_tensors(network, read_weights_file(path, option), path, option, whose=whose, on_note=on_note)


def load_tensors(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    path: Path,
    option: str,
    *,
    whose: str,
    on_note: Callable[[str], None],
) -> None:
    """Load what was read from a file into a network, as `load_weights_file` does.

    Args:
        network: changed in place.
        tensors: of the file.
        path: of the file, for messages.
        option: that names it, for messages.
        whose: the network, for messages.
        on_note: receives notes.

    Raises:
        InputError: they are another network's.
    """
    try:
        fitted = fit_weights(network, tensors)
    except ValueError as error:
        raise InputError(f"{option}: {path}: does not fit {whose}: {error}") from error
    network.load_state_dict(dict(fitted.tensors), strict=False)  # other state than tensors is not in the file
    if fitted.notes:
        on_note(f"{option}: {path.name}: {'; '.join(fitted.notes)}")


def read_weights_file(path: Path, option: str) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Args:
        path: of the file.
        option: that names it, for messages.

    Raises:
        InputError: there is no such file, or it is not a safetensors file; a pickle is never opened.
    """
    check_weights_file(path, option)
    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    return tensors


def check_weights_file(path: Path, option: str) -> None:
    """Look at the beginning of a safetensors file, which lists its tensors; none of them is read.

    Args:
        path: of the file.
        option: that names it, for messages.

    Raises:
        InputError: there is no such file, or it is not a safetensors file; a pickle is never opened.
    """
    if not path.is_file():
        raise InputError(f"{option}: {path}: no such file")
    with path.open("rb") as file:
        start = file.read(9)
    # Eight bytes of a safetensors file are the length of its list of tensors, which may look like a pickle's beginning.
    if start.startswith(PICKLES) and start[8:] != b"{":
        command = f"nas-kd convert {shlex.quote(str(path))} --out {shlex.quote(str(path.with_suffix('.safetensors')))}"
        raise InputError(
            f"{option}: {path}: not a safetensors file. Pickled checkpoints (.pt, .pth) are refused because loading "
            f"one can run any code; convert it once, without running any: {command}"
        )
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass
    except safetensors.SafetensorError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{option}: {path}: not a safetensors file ({reason}); `nas-kd convert` makes one of a checkpoint of torch"
        ) from error
