"""The contract of a search space."""

from collections.abc import Callable

from nas_kd.models.search_space import SearchSpace
from nas_kd.tasks.base import Task, load_task
from nas_kd.tasks.classification import CLASSIFICATION
from nas_kd.testing import network_rules as networks
from nas_kd.testing import space_rules as choices
from nas_kd.testing.generators import one_thread
from nas_kd.testing.rules import check_rules
from nas_kd.testing.space_case import InputShape, SpaceCase

SHAPES: tuple[InputShape, ...] = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 11, 17))
RULES = (
    choices.names_itself,
    choices.has_static_dimensions,
    choices.returns_canonical_architectures,
    choices.leaves_generators_alone,
    choices.draws_differ,
    choices.names_every_network_once,
    choices.describes_in_one_line,
    choices.counts_plausibly,
    choices.climbs_evenly,
    choices.spans_the_space,
    networks.builds_from_the_seed_alone,
    networks.gives_logits,
    networks.trains_in_bf16,
    networks.every_layer_learns,
    networks.nests_smaller_networks,
    networks.refuses_wrong_architectures,
    networks.refuses_wrong_shapes,
    networks.exports,
)


def check_space(
    space: SearchSpace | Callable[[], SearchSpace],
    *,
    input_shapes: tuple[InputShape, ...] | None = None,
    n_classes: int = 5,
    nested: bool = True,
    task: str | Task = CLASSIFICATION.name,
) -> None:
    """Check a search space against what the search, training, weight inheritance and the export expect of it.

    Args:
        space: the space, or its class if it takes no arguments.
        input_shapes: shapes of one sample, without the batch, that the space must take; the default are grey, colour
            and two-channel images of several sides, as small as the space is for (`sides`).
        n_classes: length of the logits.
        nested: whether each network of the size ladder must be a leading part of the next, as `search.inherit` and
            the strategy "once-for-all" need.
        task: that the networks are for: a name, or the task.

    Raises:
        BrokenRule: the space breaks a rule; the message names the rule and what was seen.

    Examples:
        >>> from nas_kd.plugins import available
        >>> check_space(available("space")["resnet"], input_shapes=((3, 16, 16),))
    """
    made = space() if isinstance(space, type) else space
    shapes = _usual_shapes(made) if input_shapes is None else input_shapes
    case = SpaceCase(made, shapes, n_classes, nested=nested, task=load_task(task))  # type: ignore[arg-type]
    with one_thread():
        check_rules(f"space {getattr(made, 'name', type(made).__name__)!r}", RULES, case)


def _usual_shapes(space: object) -> tuple[InputShape, ...]:
    """Shapes of small images that the space says it is for."""
    least, _ = getattr(space, "sides", (1, None))
    if least <= min(SHAPES[0][1:]):
        return SHAPES
    return (3, least, least), (1, least, least), (2, least + 6, least + 35)
