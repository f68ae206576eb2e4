"""Heads of students for teachers of other classes than the data's, and which methods can learn from such teachers.

The head is a linear layer on the student's embedding with a logit for each of the teacher's classes. It is trained with
the student, like an adapter, by the method's own terms: the student learns to tell the teacher's classes, too (as in
Learning without Forgetting, Li & Hoiem 2016, arXiv:1606.09282, eq. 2, where the old task has a head of its own on the
shared layers). It belongs to the method, so that it never reaches the exported file. The label loss has weight 1 beside
it, as there: what the teacher says of its classes does not stand in for the labels, as soft targets of the same classes
do (ce_weight 0.1 of `soft_targets`).
"""

from collections.abc import Sequence

from torch import nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Method, MethodContext, Need, Outputs
from nas_kd.plugins import available

HEAD = "label_head"  # of a part of a method, a module
OWN_CE_WEIGHT = "_ce_weight_without_head"  # of a method with heads
LABEL_HEAD_NEEDS: frozenset[Need] = frozenset({"embedding"})  # of the student


def check_classes(method: Method, other_classes: Sequence[bool]) -> None:
    """Refuse a method that would compare logits of other classes with the student's, class by class.

    Args:
        method: one method, or a sum.
        other_classes: whether each of its teachers has other classes than the data.

    Raises:
        InputError: says which method, which teacher, and what to use instead.
    """
    for part in method.parts():
        read = {"none": [], "one": other_classes[:1]}.get(part.teachers, other_classes)
        if any(read) and not method.generations and not _fits(part):
            which = f"the {list(read).index(True) + 1}. [[teacher]]" if len(other_classes) > 1 else "the teacher"
            raise InputError(
                f"method {part.name!r} needs a teacher of the data's classes, and {which} has other ones "
                f'(label_set = "other"); use one of {", ".join(methods_of_any_classes())}'
            )


def methods_of_any_classes() -> list[str]:
    """Names of the built-in methods that learn from a teacher of any classes."""
    methods = available("method").items()
    return [n for n, m in methods if m.teachers == "one" and not m.generations and _fits(m)]


def _fits(method: Method | type[Method]) -> bool:
    return method.any_classes or not {"logits", "network"} & method.needs


def add_label_heads(method: Method, other_classes: Sequence[bool], context: MethodContext) -> None:
    """Give each part of a method that reads logits a head for the classes of its teacher, if these are other ones.

    The method's `ce_weight` is then 1 at least.

    Args:
        method: attached, and accepted by `check_classes`.
        other_classes: whether each of its teachers has other classes than the data.
        context: the student's embedding and the teacher's logits for an example.
    """
    if not any(other_classes[:1]):
        return
    width, classes = context.student_outputs.embedding.shape[1], context.teacher_outputs[0].logits.shape[1]
    for part in method.parts():
        if part.teachers == "one" and "logits" in part.needs:
            part.add_module(HEAD, nn.Linear(width, classes))
            for one in (part, method):
                one.__dict__.setdefault(OWN_CE_WEIGHT, one.ce_weight)
                one.ce_weight = max(1.0, one.ce_weight)


def remove_label_heads(method: Method) -> None:
    """Take away what an earlier training with a teacher of other classes left on a method.

    Args:
        method: one, or a sum; what was never trained so stays as it is.
    """
    for one in (method, *method.parts()):
        if hasattr(one, HEAD):
            delattr(one, HEAD)
        if OWN_CE_WEIGHT in one.__dict__:
            one.ce_weight = one.__dict__.pop(OWN_CE_WEIGHT)


def as_seen_by(method: Method, student: Outputs) -> Outputs:
    """The student's outputs as a part of a method compares them: with its head's logits (B, K), if it has one.

    Args:
        method: attached; one of `parts()`.
        student: with the embedding (B, d), if any method has a head.
    """
    head = getattr(method, HEAD, None)
    return student if head is None else student._replace(logits=head(student.embedding))
