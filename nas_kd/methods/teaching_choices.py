"""What a config lets be chosen in how teachers are shown to methods; see `nas_kd.methods.teaching`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from nas_kd.config.options import SearchConfig
from nas_kd.config.teaching_options import n_checkpoints
from nas_kd.config.teaching_values import FINAL, Progression
from nas_kd.errors import InputError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.methods.teaching import (
    can_follow_checkpoints,
    can_go_by_stage,
    learns_from_checkpoints,
    standardizable_parts,
)
from nas_kd.plugins import display_name
from nas_kd.results.candidate import Choice
from nas_kd.results.teaching import Teaching

MIN_CLASSES = 3  # two logits have but one difference, of which standardising leaves the sign


@dataclass(frozen=True)
class TeachingChoices:
    """The values of each part, the usual one first where the config does not say.

    Attributes:
        standardize: whether logits are standardised.
        checkpoint: numbers of checkpoints, and "final".
        progression: what changes over the schedule.
    """

    standardize: tuple[bool, ...]
    checkpoint: tuple[int | str, ...]
    progression: tuple[Progression, ...]

    @staticmethod
    def of(config: SearchConfig) -> "TeachingChoices":
        """The choices of a search by this config: of all checkpoints, unless it says which."""
        options = config.distill
        every: tuple[int | str, ...] = (FINAL, *range(1, n_checkpoints(config.teacher) + 1))
        return TeachingChoices(options.standardize, options.checkpoint or every, options.progression)

    def by_name(self) -> dict[str, tuple[Choice, ...]]:
        """The values of each part by its name."""
        return {"standardize": self.standardize, "checkpoint": self.checkpoint, "progression": self.progression}


def teaching_of(values: Mapping[str, Choice]) -> Teaching:
    """Put together what was chosen.

    Args:
        values: one for each part, by its name.
    """
    checkpoint = values["checkpoint"]
    return Teaching(
        standardize=bool(values["standardize"]),
        checkpoint=None if checkpoint == FINAL else int(checkpoint),
        progression=cast(Progression, values["progression"]),
    )


def fixed_teaching(config: SearchConfig) -> Teaching:
    """How the one student of `nas-kd distill` is taught: the first choice of each part, the final teacher if open."""
    first = {name: values[0] for name, values in TeachingChoices.of(config).by_name().items()}
    return teaching_of(first)


def check_teaching(config: SearchConfig, methods: Sequence[str]) -> None:
    """Refuse what none of the methods can use.

    Args:
        config: of the run.
        methods: names of those that students may be distilled with.

    Raises:
        InputError: says which option, and what it is for.
    """
    options, made = config.distill, [make_method(name) for name in methods]

    def require(asked: bool, usable: Callable[[Method], bool], option: str, what: str) -> None:
        if asked and not any(map(usable, made)):
            names = ", ".join(map(display_name, methods))
            raise InputError(f"distill.{option}: of no use to {names}: it is for methods that {what}")

    def stages(method: Method) -> bool:
        return any(map(can_go_by_stage, method.parts()))

    numbered = any(c != FINAL for c in options.checkpoint or ())
    follows, by_stage = ("checkpoints" in options.progression), ("stages" in options.progression)
    one = "learn from one teacher"
    stage = "can be shown one stage's features, such as fitnet or attention_transfer"
    if True in options.standardize:
        require_standardizable(made)
    require(numbered, learns_from_checkpoints, "checkpoint", one)
    require(follows, can_follow_checkpoints, 'progression = "checkpoints"', f"{one}, on real samples")
    require(by_stage, stages, 'progression = "stages"', stage)


def require_standardizable(methods: Sequence[Method], option: str = "distill.standardize") -> None:
    """Refuse to standardise logits where no method would see them.

    Args:
        methods: that students may be distilled with.
        option: that asks for it, for messages.

    Raises:
        InputError: none of them compares logits with a teacher's.
    """
    if not any(map(standardizable_parts, methods)):
        names = ", ".join("+".join(part.name for part in method.parts()) for method in methods)
        raise InputError(
            f"{option}: of no use to {names}: it is for methods that compare logits with a teacher's, such as "
            "soft_targets"
        )


def check_enough_classes(standardize: bool, n_classes: int, option: str = "distill.standardize") -> None:
    """Refuse to standardise what nothing would be left of.

    Args:
        standardize: whether logits are standardised for anything.
        n_classes: of the data.
        option: that asks for it, for messages.

    Raises:
        InputError: logits are to be standardised, and there are two classes.
    """
    if standardize and n_classes < MIN_CLASSES:
        raise InputError(
            f"{option}: of {n_classes} standardised logits only the larger one can be told; it needs "
            f"{MIN_CLASSES} classes at least, so leave it out"
        )
