"""Teachers of the user's own that are modules: given in Python, or built by a function."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nas_kd.config.options import EngineOptions, TeacherOptions
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.engine.feature_extractor import find_feature_points
from nas_kd.engine.numerics import Numerics
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.teacher_file import TeacherFile
from nas_kd.kd.class_head import ClassHead, find_head, with_new_head
from nas_kd.kd.network_builder import in_any_layout, in_thousands
from nas_kd.kd.teacher_inputs import SampleFacts, TeacherInputs, inner_path
from nas_kd.kd.teacher_modules import open_module
from nas_kd.kd.user_module import UserNetwork, as_network, prepared
from nas_kd.serialization import fingerprint
from nas_kd.user_code import unchanged_settings

PROBED_SAMPLES = 64  # that a user's module is run on to see what it does


@dataclass(frozen=True)
class UserTeacher:
    """A teacher of the user's own, ready to run.

    Attributes:
        teacher: the network behind what is done with its inputs.
        file: that it came as; None: it is a module.
        notes: what was recognised or done with samples, one sentence each.
        behind: the same network behind what other options ask for; it may fail on samples.
        options: of the teacher, completed by what its package says.
        head: what fine-tuning begins with; None: it teaches as it is.
    """

    teacher: Teacher
    file: TeacherFile | None
    notes: tuple[str, ...]
    behind: Callable[[TeacherOptions], nn.Module]
    options: TeacherOptions
    head: ClassHead | None = None


def from_factory(options: TeacherOptions, data: Dataset, option: str = "teacher.weights") -> UserTeacher:
    """Build a teacher from the user's function, or from a module given in Python.

    Args:
        options: of the teacher.
        data: that it is to be shown.
        option: that names its weights, for messages.

    Raises:
        InputError: it cannot be built or run, or it does not fit the data.
    """
    facts = SampleFacts.of(data)
    made = open_module(options, facts, option)
    options, net = made.options, prepared(made.module, "teacher:")
    inputs = inputs_of_module(net, options, facts)
    samples = as_input(data.val.x[:PROBED_SAMPLES])

    def behind(wanted: TeacherInputs) -> UserNetwork:
        shape = (None,) if options.knows_other_classes else data.task.raw_shape(data.n_classes)
        shown = wanted.in_front_of(net)
        return as_network(shown, samples, shape, "teacher:", one_class=data.task.one_class)

    front = inputs.in_front_of(net)
    if data.task.heads:  # which a classifier's last layer cannot become
        network, head = behind(inputs), None
    else:
        network, head = _with_fitting_head(front, lambda: behind(inputs), options, samples[:2], data.n_classes)
    channels_last = Numerics.choose(EngineOptions(), data.input_shape).channels_last
    model = in_any_layout(network.model, samples[:2]) if channels_last else network.model
    features = None
    if options.features is not None:
        paths = [inner_path(f, model) for f in options.features]
        features = find_feature_points(model, samples[:2].clone(), paths).features
    key_parts = [*inputs.identity(options, data.scale), *label_facts(options)]
    key = fingerprint([*made.identity, options.preprocessing, data.input_shape, *key_parts])
    teacher = _described(model, key, made.description, data, features=features)
    teacher = replace(teacher, other_classes=options.knows_other_classes)
    notes = (*made.notes, *network.notes, *inputs.notes(options))
    return UserTeacher(teacher, None, notes, lambda other: behind(inputs.like(other)).model, options, head)


def _with_fitting_head(
    front: nn.Module,
    as_it_is: Callable[[], UserNetwork],
    options: TeacherOptions,
    x: Tensor,
    n_classes: int,
) -> tuple[UserNetwork, ClassHead | None]:
    """Make a network of a module, with a new head where its own is of other classes, and say what is to be trained.

    Args:
        front: the module behind what is done with samples; may get a new head, in place.
        as_it_is: makes the network of it.
        options: of the teacher.
        x: (2, ...) samples.
        n_classes: C, of the data.

    Raises:
        InputError: it cannot be run on them or has other classes, and a new head is not wanted or not possible.
    """
    try:
        network = as_it_is()
    except InputError:
        head = None if _stays_as_it_is(options) else find_head(front, x)
        if head is None or head.n_classes == n_classes:
            raise
        head = with_new_head(front.float(), head, n_classes)
        return as_it_is(), head
    if not options.is_fine_tuned_when_asked:
        return network, None
    front.float()
    head = find_head(front, x)
    if head is None or head.n_classes != n_classes:
        raise InputError(
            "teacher.fine_tune: no linear layer or 1x1 convolution gives its logits, so its head is not known; leave "
            "fine_tune out, or return the logits of such a layer"
        )
    return as_it_is(), head


def _stays_as_it_is(options: TeacherOptions) -> bool:
    return options.fine_tune == "never" or options.knows_other_classes


def label_facts(options: TeacherOptions) -> list[str]:
    """What a teacher's key needs to have of its classes: nothing if they are the data's."""
    return ["other classes"] if options.knows_other_classes else []


def inputs_of_module(net: nn.Module, options: TeacherOptions, facts: SampleFacts) -> TeacherInputs:
    """What is done with samples in front of a module, which is run to see whether it takes grey ones.

    Args:
        net: in eval mode.
        options: of the teacher.
        facts: of the samples.

    Raises:
        InputError: the options do not fit the samples.
    """
    inputs = TeacherInputs.of(options, facts)
    colour = inputs.in_colour()
    if colour is None or _runs(inputs, net) or not _runs(colour, net):
        return inputs
    return colour


def _runs(inputs: TeacherInputs, net: nn.Module) -> bool:
    try:
        with unchanged_settings(), torch.no_grad():
            inputs.in_front_of(net)(inputs.facts.examples[:2].clone())
    except (Exception, SystemExit):  # a user's network may raise anything; that is reported when it is run for good
        return False
    return True


def _described(
    model: nn.Module, key: str, description: str, data: Dataset, features: tuple[str, ...] | None
) -> Teacher:
    parameters = count_parameters(model)
    description = f"{description}, {in_thousands(parameters)} weights"
    try:
        macs = count_macs(model, data.input_shape)
    except Exception:  # not every user's module can be watched; nothing depends on the number
        macs = 0
    return Teacher(model, key, description, parameters, macs, features)
