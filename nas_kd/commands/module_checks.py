"""Checks on what a user passes to `distill`: options, a method, networks; and how networks are left as they were."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from math import inf
from numbers import Real
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from nas_kd.config.error_messages import describe_python_error, section_path
from nas_kd.config.section import Options
from nas_kd.engine.user_data import UserData
from nas_kd.errors import InputError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.methods.teaching import with_teaching
from nas_kd.methods.teaching_choices import require_standardizable
from nas_kd.results.teaching import Teaching

Section = TypeVar("Section", bound=Options)
T = TypeVar("T")


def check_teacher(role: str, network: Any) -> None:
    """Refuse what cannot be run here.

    Args:
        role: "student" or "teacher", for messages.
        network: what the user passed.

    Raises:
        InputError: it is no module, on another device, or not initialized yet.
    """
    if isinstance(network, type):
        raise InputError(f"{role} is the class {network.__name__}; pass an instance of it")
    if not isinstance(network, nn.Module):
        raise InputError(f"{role} is of type {type(network).__name__}; want a torch.nn.Module")
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise InputError(f"{role}: {name!r} has no shape yet; run the network on a batch before")
        if tensor.device.type != "cpu":
            raise InputError(f"{role}: {name!r} is on {tensor.device}; training runs on the CPU, so move it there")


def check_student(student: Any) -> None:
    """Refuse what cannot be trained here.

    Raises:
        InputError: it cannot be run (see `check_teacher`), is scripted, not float32, or has nothing to train.
    """
    check_teacher("student", student)
    if isinstance(student, torch.jit.ScriptModule):
        raise InputError(
            "student is a ScriptModule, whose layers cannot be read; pass the module that it was made from"
        )
    for name, tensor in chain(student.named_parameters(), student.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise InputError(f"student: {name!r} is {tensor.dtype}; networks must be float32: call .float()")
    if not any(p.requires_grad for p in student.parameters()):
        raise InputError("student: no parameter requires a gradient, so there is nothing to train")


def check_apart(student: nn.Module, teachers: Sequence[nn.Module]) -> None:
    """Refuse a student that shares weights with a teacher.

    Raises:
        InputError: names the first that is shared.
    """
    taught = {id(p) for teacher in teachers for p in teacher.parameters()}
    if shared := [name for name, p in student.named_parameters() if id(p) in taught]:
        raise InputError(f"student and teacher share {shared[0]!r}; training would change the teacher: pass a copy")


def check_gradient(student: nn.Module, x: Tensor) -> None:
    """Refuse a student whose output does not depend on its parameters, as far as gradients can tell.

    Args:
        student: in eval mode.
        x: (B, ...) the first samples.

    Raises:
        InputError: there is no gradient.
    """
    if not student(x).requires_grad:
        raise InputError("student: its output carries no gradient; is its forward within torch.no_grad()?")


@contextmanager
def unchanged(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put modes, gradients and `requires_grad` of networks back at the end; their weights are not changed inside."""
    with ExitStack() as restored:
        for network in networks:
            for module in network.modules():
                restored.callback(setattr, module, "training", module.training)
            for parameter in network.parameters():
                restored.callback(setattr, parameter, "grad", parameter.grad)
                restored.callback(parameter.requires_grad_, parameter.requires_grad)
        yield


def as_section(section: type[Section], where: str = "", **values: Any) -> Section:
    """Create a section of options.

    Args:
        section: its class.
        where: in front of the options' names in messages, such as "augment.".
        values: of some of its options; NumPy's numbers are fine.

    Raises:
        InputError: one of them is not allowed.
    """
    try:
        return section.model_validate({k: v.item() if hasattr(v, "item") else v for k, v in values.items()})
    except ValidationError as error:
        message = describe_python_error(error, section, values)
        raise InputError(where + message.removeprefix(".".join((*section_path(section), "")))) from error


def as_seed(seed: Any) -> int:
    """Check a seed: a whole number that is not negative.

    Raises:
        InputError: it is something else.
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or int(seed) < 0:
        raise InputError(f"seed must be a whole number >= 0, got {seed!r}")
    return int(seed)


def as_method(given: str | type[Method] | Method, temperature: float | None, strength: float) -> Method:
    """Create the method that a user asks for.

    Args:
        given: a name, a class, or an instance, which is used itself.
        temperature: of softened probabilities; None: the method's default.
        strength: factor on its terms.

    Raises:
        InputError: there is no such method, or a parameter is out of range or belongs to an instance.
    """
    if temperature is not None and not (isinstance(temperature, Real) and 0 < temperature < inf):
        raise InputError(f"temperature must be a number > 0, got {temperature!r}")
    if not (isinstance(strength, Real) and 0 <= strength < inf):
        raise InputError(f"strength must be a number >= 0, got {strength!r}")
    if isinstance(given, str) or (isinstance(given, type) and issubclass(given, Method)):
        make = partial(make_method, given) if isinstance(given, str) else given
        try:
            return make(temperature, strength)
        except TypeError as error:
            name = given if isinstance(given, str) else given.__name__
            raise InputError(
                f"method {name!r} cannot be created from temperature and strength: {error}; pass an instance"
            ) from error
    if not isinstance(given, Method):
        raise InputError(f"method is of type {type(given).__name__}; want a name, a Method class or an instance of one")
    if temperature is not None or strength != 1.0:
        raise InputError("method is an instance: set its temperature and strength where it is created")
    return given


def shown_standardized(method: Method, standardize: Any) -> Method:
    """The method as it is to see logits.

    Args:
        method: not attached yet; changed in place.
        standardize: whether it sees standardised ones.

    Raises:
        InputError: it is neither true nor false, or the method compares no logits with a teacher's.
    """
    if not isinstance(standardize, bool):
        raise InputError(f"standardize must be True or False, got {standardize!r}")
    if standardize:
        require_standardizable([method], "standardize")
    return with_teaching(method, Teaching(standardize=standardize))


def name_of_method(method: Method) -> str:
    """Name a method as a user does, `a+b` for a sum."""
    return "+".join(getattr(part, "name", type(part).__name__) for part in method.parts())


def check_number_of_teachers(count: int, method: Method) -> None:
    """Refuse too few or too many teachers.

    Args:
        count: how many were passed.
        method: that learns from them.

    Raises:
        InputError: it learns from another number of teachers.
    """
    name = name_of_method(method)
    if method.teachers == "none" or method.generations:
        if count:
            raise InputError(f"method {name!r} learns without a teacher; leave teacher out")
    elif not count:
        raise InputError(f"method {name!r} learns from a teacher; pass teacher=")
    elif method.teachers == "one" and count > 1:
        raise InputError(f"method {name!r} learns from one teacher, got {count}")


def roles_of(teachers: Sequence[T]) -> dict[str, T]:
    """Name teachers for messages: "teacher", or "teacher 1" and so on."""
    if len(teachers) == 1:
        return {"teacher": teachers[0]}
    return {f"teacher {number}": network for number, network in enumerate(teachers, start=1)}


def check_capabilities(method: Method, train: UserData) -> None:
    """Refuse methods that need more than the data give.

    Raises:
        InputError: names the method and what it needs.
    """
    if "pairs" in method.needs:
        raise InputError(f"method {name_of_method(method)!r} needs the teacher's own view of each sample: use a config")
    for part in method.parts():
        wants = "chooses the order of samples" if part.has_own_order else None
        wants = "needs to know which sample is which" if "indices" in part.needs else wants
        if wants is not None and not train.numbered:
            instead = f"pass arrays or a Dataset instead of a {train.kind}"
            raise InputError(f"method {name_of_method(part)!r} {wants}; {instead}")
