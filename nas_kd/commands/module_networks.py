"""Makes networks of the modules that a user passes to `distill`: of whatever they return, what the task asks for."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.kd.user_module import UserNetwork, as_network, copied
from nas_kd.models.raw_output import LogitsOnly, LogitsReader, find_output
from nas_kd.user_code import unchanged_settings

Shape = Sequence[int | None]  # of a network's output for one sample; None: a side of any length


def as_student(student: nn.Module, x: Tensor, split: str, shape: Shape) -> tuple[nn.Module, int]:
    """The student as a network that returns its output alone, and how many numbers it gives a decision.

    Args:
        student: left in eval mode.
        x: (B, ...) the first samples.
        split: "train" or "val", for messages.
        shape: of the output for one sample, see `Task.raw_shape`; (None,): any number of classes from two.

    Raises:
        InputError: it cannot take the samples, or does not give this.
    """
    raw, kept = _run("student", student, x, split)
    reader = _find("student", raw, x, shape)
    classes = reader(raw).shape[1]
    return (student if reader.is_plain and kept else LogitsOnly(student, reader, keeps_input=kept)), classes


def as_teacher(role: str, teacher: nn.Module, x: Tensor, shape: Shape, *, one_class: bool = True) -> UserNetwork:
    """A teacher as a network that returns its output and nothing else, however it does that itself.

    Args:
        role: "teacher", or "teacher 1" and so on, for messages.
        teacher: left in eval mode, its weights as they were.
        x: (B, ...) the first samples of the training data.
        shape: of the student's output for one sample; (None,): the teacher's classes are other ones.
        one_class: whether it may return probabilities of a softmax in place of logits.

    Raises:
        InputError: it cannot take the samples, or does not give this.
    """
    other_precision = any(p.is_floating_point() and p.dtype != torch.float32 for p in teacher.parameters())
    network = copied(teacher) if other_precision else teacher
    network.eval()
    try:
        return as_network(network, x, shape, f"{role}:", one_class=one_class)
    except InputError as failure:
        raw, _ = _run(role, network, x, "train")
        given = reader(raw).shape[1] if len(shape) == 1 and (reader := _any_logits(role, raw, x)) else shape[0]
        if given != shape[0]:
            raise InputError(
                f"student gives {shape[0]} logits, {role} {given}: both must have one per class"
            ) from failure
        _find(role, raw, x, shape)
        raise


def _any_logits(role: str, raw: Any, x: Tensor) -> LogitsReader | None:
    try:
        return _find(role, raw, x, (None,))
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


def _find(role: str, raw: Any, x: Tensor, shape: Shape) -> LogitsReader:
    n_classes = shape[0]
    try:
        return find_output(raw, len(x), shape, role)
    except InputError as error:
        if not isinstance(raw, Tensor) or len(shape) > 1:
            raise
        kind = "" if raw.is_floating_point() else f" of {raw.dtype}"
        wanted = f"logits ({len(x)}, C), one for each class"
        if role == "student" and n_classes is not None:
            wanted = f"({len(x)}, {n_classes}), an output for each column of y"
        raise InputError(f"{role} gives {tuple(raw.shape)}{kind} for {len(x)} samples; want {wanted}") from error
