"""The interface of search spaces: families of networks in which smaller ones are sub-networks of larger ones."""

from typing import Any, Protocol, runtime_checkable

from optuna.trial import BaseTrial
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.grid import GridSpace
from nas_kd.models.heads.base import load_head
from nas_kd.models.heads.headed_space import JOIN, HeadedSpace
from nas_kd.plugins import IN_MEMORY, load
from nas_kd.results.candidate import Architecture
from nas_kd.user_code import describe_error, unchanged_settings

USUAL = "resnet"


class SearchSpace(Protocol):
    """One file in `search_spaces/`, or a user's `package.module:Name` (an instance, or a class without arguments).

    Attributes:
        name: the name in configs.
        summary: one line for `nas-kd list spaces`.

    A space may have `takes_stored_units = True`: its networks then take samples as they are stored, and normalise them
    on their own. A space may have an `identity`, JSON-able: what its networks' initial weights depend on beside
    architecture and seed; and `techniques(architecture)`: names of those by which its networks are compressed already.
    """

    name: str
    summary: str

    def suggest(self, trial: BaseTrial, prefix: str = "") -> Architecture:
        """Draw an architecture; dimension `d` is the Optuna parameter `prefix + d`.

        The set of dimensions and their ranges never depends on values drawn before. The result is canonical: choices
        that do not change the network are set to their first value.

        Args:
            trial: the trial to draw from.
            prefix: start of the parameters' names, for several architectures in one trial.
        """

    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Build the network with weights from torch's global generator.

        Args:
            architecture: one of this space.
            input_shape: shape of one sample, such as (3, 32, 32).
            n_classes: number of classes C.

        Returns:
            A network (B, *input_shape) -> logits (B, C) that takes normalised samples.

        Raises:
            InputError: the space does not support the input shape, or the architecture is not one of the space.
        """

    def size_ladder(self, n: int) -> list[Architecture]:
        """`n` architectures, or as many as there are, log-spaced in size from the smallest to the largest."""

    def cardinality(self) -> int:
        """Number of different students in the space."""

    def describe(self, architecture: Architecture) -> str:
        """Describe an architecture in a few words, such as `3 stages, 16-24-48 wide, 5 blocks`."""


@runtime_checkable
class SpaceOfTeacher(Protocol):
    """A space that is made of the run's teacher: until it is, it has a name and a summary only."""

    name: str

    def derive(self, network: nn.Module, example: Tensor, starts: tuple[str, ...], *, gathered: bool) -> SearchSpace:
        """Make the space.

        Args:
            network: the teacher, which takes samples as they are stored.
            example: (B, ...) such samples.
            starts: where students' weights may come from, see `space.start`.
            gathered: whether all weights of a student must stand somewhere in the network's tensors.

        Raises:
            InputError: nothing can be made of this network.
        """


def takes_stored_units(space: SearchSpace) -> bool:
    """Whether networks of a space take samples as they are stored, rather than normalised ones."""
    return bool(getattr(space, "takes_stored_units", False))


def techniques_of_space(space: SearchSpace, architecture: Architecture) -> tuple[str, ...]:
    """The techniques by which a network of a space is compressed before any training, such as pruning; mostly none."""
    found = getattr(space, "techniques", None)
    return () if found is None else tuple(found(architecture))


def identity_of(space: SearchSpace) -> dict[str, Any]:
    """What keys of trained networks need to have of a space; empty for most."""
    found = getattr(space, "identity", None)
    return {} if found is None else {"space": found}


def load_space(given: Any) -> SearchSpace:
    """Find a search space; a class is instantiated.

    Args:
        given: a name in the registry, `package.module:Name`, or the space itself; a name with that of a head behind a
            plus (`resnet+pyramid`): backbones of the space behind this head.

    Raises:
        InputError: it is unknown, or lacks a part of the protocol.
    """
    if isinstance(given, str) and JOIN in given and not given.startswith(IN_MEMORY):
        backbone, _, head = given.rpartition(JOIN)
        return _behind(load_space(backbone), head)
    found: Any = load("space", given)
    try:
        with unchanged_settings():
            space = found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:  # a user's class may raise anything
        raise InputError(f"space {given!r} cannot be created: {describe_error(error)}") from error
    for part in ("name", "suggest", "build", "size_ladder", "cardinality", "describe"):
        if not hasattr(space, part):
            raise InputError(f"space {given!r} has no {part!r}; see nas_kd.models.search_space.SearchSpace")
    return space  # type: ignore[no-any-return]


def _behind(backbone: SearchSpace, head: str) -> SearchSpace:
    if not isinstance(backbone, GridSpace):
        raise InputError(f"space {backbone.name!r} is no space of convolutional networks: no head can stand behind it")
    return HeadedSpace(backbone, load_head(head))


def usual_space(input_shape: tuple[int, ...]) -> SearchSpace:
    """The space of teachers for which no other is given: `resnet`, or the one that it names for larger images.

    Args:
        input_shape: of one sample.
    """
    space = load_space(USUAL)
    if isinstance(space, GridSpace) and space.elsewhere is not None and not space.takes(input_shape):
        return load_space(space.elsewhere)
    return space


def check_image_size(space: SearchSpace, input_shape: tuple[int, ...]) -> None:
    """Refuse images of a size that a space says it is not for.

    Args:
        space: any; those that say nothing take what they can build.
        input_shape: of one sample.

    Raises:
        InputError: see `GridSpace.check_size`.
    """
    if isinstance(space, GridSpace):
        space.check_size(input_shape)
