"""Leaves out those of a task's usual methods that the networks of a run cannot learn by."""

from collections.abc import Sequence
from dataclasses import replace

from nas_kd.context.method_checks import usual_methods
from nas_kd.context.run_context import RunContext
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder


def with_usable_methods(context: RunContext, teachers: Sequence[Teacher]) -> RunContext:
    """The context without usual methods that need what student or teacher lack, such as feature maps; a note says so.

    Methods that the config chose otherwise stay: where one of them is of no use, the run ends.

    Args:
        context: of the run, its space ready.
        teachers: of the run, ready to run.
    """
    config = context.config
    options = config.distill
    if options.methods != usual_methods(config):
        return context
    builder = NetworkBuilder.for_run(context)
    distiller, smallest = Distiller.for_run(context, builder, teachers), builder.smallest()
    refused = dict[str, str]()
    for name in options.methods:
        try:
            distiller.check([name], smallest, config.search.precisions, options.progression)
        except InputError as error:
            refused[name] = str(error)
    usable = tuple(name for name in options.methods if name not in refused)
    if not refused or not usable:
        return context
    context.callback.on_note(f"left out of the methods: {', '.join(refused)} ({next(iter(refused.values()))})")
    return replace(
        context, config=config.model_copy(update={"distill": options.model_copy(update={"methods": usable})})
    )
