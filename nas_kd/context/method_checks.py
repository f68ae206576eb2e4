"""Whether the methods of a config can learn from its teachers, as far as the config tells."""

from collections.abc import Sequence
from typing import Any

from nas_kd.config.options import SearchConfig
from nas_kd.engine.label_heads import check_classes
from nas_kd.engine.teacher_outputs import can_use_cache
from nas_kd.errors import InputError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available
from nas_kd.tasks.base import Task, load_task

KNOWN_BY_LOGITS = {"an ONNX teacher": "onnx", "a teacher given by teacher.outputs": "outputs"}
LOGITS_METHODS = ("soft_targets", "dkd")
ONNX_LACKS = {"features": "features", "embedding": "embedding", "stem": "stem", "network": "gradients"}


def check_methods(config: SearchConfig) -> None:
    """Refuse methods that do not exist, or that need more than the teachers provide.

    Raises:
        InputError: says which.
    """
    task = load_task(config.data.task)
    for name in (*config.distill.methods, config.chain.method):
        method = make_method(name)
        if not method.suits(task.decisions):
            raise InputError(
                f"method {name!r} is not made for {task.title}; methods that are: {', '.join(methods_for(task))}"
            )
        if method.teachers == "several" and len(config.teacher) < 2:
            raise InputError(f"method {name!r} needs several teachers, the config has one: write [[teacher]] twice")
        _check_parts_of_teachers(name, method, config)
        check_classes(method, [t.knows_other_classes for t in config.teacher])


def methods_for(task: Task) -> list[str]:
    """Names of the built-in methods that make sense for a task."""
    return [name for name in available("method") if make_method(name).suits(task.decisions)]


def with_usual_methods(config: SearchConfig) -> SearchConfig:
    """The config with methods that suit its task and its teachers, where it names none."""
    fitting, updates = usual_methods(config), dict[str, Any]()
    if "methods" not in config.distill.model_fields_set:
        updates["distill"] = config.distill.model_copy(update={"methods": fitting})
    if "method" not in config.chain.model_fields_set:
        updates["chain"] = config.chain.model_copy(update={"method": fitting[0]})
    return config.model_copy(update=updates)


def usual_methods(config: SearchConfig) -> tuple[str, ...]:
    """The methods of a config that names none: those usual for its task that its teachers have enough to show for."""
    usual = load_task(config.data.task).default_methods
    only_logits = any(getattr(t, option) is not None for t in config.teacher for option in KNOWN_BY_LOGITS.values())
    return tuple(m for m in usual if not only_logits or _learns_from_logits(make_method(m))) or usual


def _learns_from_logits(method: Method) -> bool:
    return method.teachers == "none" or can_use_cache(method.needs - method.optional)


def _check_parts_of_teachers(name: str, method: Method, config: SearchConfig) -> None:
    """Refuse a method that needs more of one of its teachers than logits, where that has nothing else."""
    needs, teachers = method.needs - method.optional, config.teacher
    if _learns_from_logits(method):
        return
    wanted = " and ".join(sorted(ONNX_LACKS[n] for n in needs & ONNX_LACKS.keys()))
    for place, teacher in enumerate(teachers if method.teachers == "several" else teachers[:1], start=1):
        kind = next((k for k, option in KNOWN_BY_LOGITS.items() if getattr(teacher, option) is not None), None)
        if kind is None:
            continue
        problem = f"method {name!r} needs the teacher's {wanted}; {kind} provides its logits only"
        if len(teachers) == 1:
            raise InputError(f"{problem}; {_advice(config.distill.methods)}")
        advice = "" if method.teachers == "several" else ", and methods that take one teacher get the first"
        raise InputError(f"{place}. [[teacher]]: {problem}{advice}")


def _advice(methods: Sequence[str]) -> str:
    """What to write in place of these methods: those of them that learn from logits, or such."""
    usable = [name for name in methods if _learns_from_logits(make_method(name))] or list(LOGITS_METHODS)
    names = ", ".join(f'"{name}"' for name in usable)
    return f"set distill.methods = [{names}]"
