"""Makes networks of the modules that a user passes to `distill`: whatever they return, logits (B, C) come out."""

from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.kd.user_module import UserNetwork, as_network, copied
from nas_kd.models.raw_output import LogitsOnly, LogitsReader, find_logits
from nas_kd.user_code import unchanged_settings


def as_student(student: nn.Module, x: Tensor, split: str) -> tuple[nn.Module, int]:
    """The student as a network that returns its logits and nothing else, and the number of classes.

    Args:
        student: left in eval mode.
        x: (B, ...) the first samples.
        split: "train" or "val", for messages.

    Raises:
        InputError: it cannot take the samples, or does not give (B, C).
    """
    raw, kept = _run("student", student, x, split)
    reader = _find_logits("student", raw, x, None)
    classes = reader(raw).shape[1]
    return (student if reader.is_plain and kept else LogitsOnly(student, reader, keeps_input=kept)), classes


def as_teacher(role: str, teacher: nn.Module, x: Tensor, n_classes: int | None) -> UserNetwork:
    """A teacher as a network that returns its logits and nothing else, however it does that itself.

    Args:
        role: "teacher", or "teacher 1" and so on, for messages.
        teacher: left in eval mode, its weights as they were.
        x: (B, ...) the first samples of the training data.
        n_classes: C, of the student; None: the teacher's classes are other ones.

    Raises:
        InputError: it cannot take the samples, or does not give (B, C).
    """
    other_precision = any(p.is_floating_point() and p.dtype != torch.float32 for p in teacher.parameters())
    network = copied(teacher) if other_precision else teacher
    network.eval()
    try:
        return as_network(network, x, (n_classes,), f"{role}:")
    except InputError as failure:
        raw, _ = _run(role, network, x, "train")
        given = reader(raw).shape[1] if (reader := _any_logits(role, raw, x)) else n_classes
        if given != n_classes:
            raise InputError(
                f"student gives {n_classes} logits, {role} {given}: both must have one per class"
            ) from failure
        _find_logits(role, raw, x, n_classes)
        raise


def _any_logits(role: str, raw: Any, x: Tensor) -> LogitsReader | None:
    try:
        return _find_logits(role, raw, x, None)
    except InputError:
        return None


def _run(role: str, network: nn.Module, x: Tensor, split: str) -> tuple[Any, bool]:
    """What a network returns for samples, and whether it leaves them as they are."""
    taken = f"samples of {split}, {str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape[1:])}"
    given = x.clone()
    try:
        with unchanged_settings(), torch.no_grad():
            network.eval()
            return network(given), torch.equal(given, x)
    except (Exception, SystemExit) as error:  # a user's network may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        hint = "; whole numbers are taken for token ids: convert x to float32 if they are none"
        raise InputError(f"{role} cannot take {taken}: {reason}{'' if x.is_floating_point() else hint}") from error


def _find_logits(role: str, raw: Any, x: Tensor, n_classes: int | None) -> LogitsReader:
    try:
        return find_logits(raw, len(x), n_classes, role)
    except InputError as error:
        if not isinstance(raw, Tensor):
            raise
        kind = "" if raw.is_floating_point() else f" of {raw.dtype}"
        raise InputError(
            f"{role} gives {tuple(raw.shape)}{kind} for {len(x)} samples; want logits ({len(x)}, C), one for each class"
        ) from error
