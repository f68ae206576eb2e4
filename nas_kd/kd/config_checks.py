"""What the config alone shows to be wrong, found before data are read: names, methods, and where teachers come from."""

from nas_kd.config.options import SearchConfig, TeacherOptions
from nas_kd.context.method_checks import check_methods
from nas_kd.context.run_context import check_names, check_unlabelled_options
from nas_kd.errors import InputError
from nas_kd.export.onnx_file import read_whole
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.weights_file import check_weights_file
from nas_kd.models.search_space import load_space
from nas_kd.plugins import IN_MEMORY, import_object


def check_config(config: SearchConfig) -> None:
    """Refuse unknown names, and teachers and unlabelled samples that are not there.

    Whether these fit the labelled data is found out when the data are read.

    Args:
        config: of the run.

    Raises:
        InputError: a name is unknown, methods need more than the teachers provide, a teacher's file is missing or of
            another kind, its function or space cannot be imported, or unlabelled samples are missing or not used.
    """
    check_names(config)
    check_methods(config)
    check_unlabelled_options(config)
    _check_policy(config)
    for place, options in enumerate(config.teacher):
        try:
            _check(options)
        except InputError as error:
            several = len(config.teacher) > 1
            raise InputError(f"{ordinal(place)} {error}" if several else str(error)) from error


def _check_policy(config: SearchConfig) -> None:
    """Refuse a chain that would mix the outputs of teachers of different classes."""
    if not config.chain.max_assistants or not any(t.knows_other_classes for t in config.teacher):
        return
    if refused := [name for name in config.chain.policy if not load_policy(name).any_classes]:
        raise InputError(
            f"chain.policy {refused[0]!r} needs teachers of the data's classes, and one has other ones "
            '(label_set = "other"): set chain.policy = "sequential" or chain.max_assistants = 0'
        )


def ordinal(place: int) -> str:
    """How messages name one of several teachers; `place`: in the list, from 0."""
    return f"{place + 1}. [[teacher]]:"


def _check(options: TeacherOptions) -> None:
    if options.onnx is not None:
        if not options.onnx.is_file():
            raise InputError(f"teacher.onnx: {options.onnx}: no such file")
        read_whole(options.onnx)  # its outputs are checked once the number of classes is known
        if options.features is not None:
            raise InputError(
                "teacher.features: an ONNX teacher provides its logits only; leave features out, or give a factory"
            )
    elif options.outputs is not None:
        if not options.outputs.is_file():
            raise InputError(f"teacher.outputs: {options.outputs}: no such file")
    elif options.factory is None:
        load_space(options.space or "resnet")
    elif not options.factory.startswith(IN_MEMORY):
        if options.weights is not None:
            check_weights_file(options.weights, "teacher.weights")
        if not callable(import_object(options.factory)):
            raise InputError(f"teacher.factory: {options.factory} must be a function that returns a torch.nn.Module")
