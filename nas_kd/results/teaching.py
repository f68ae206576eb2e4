"""How a teacher's knowledge is shown to a distillation method, whichever method that is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nas_kd.config.teaching_values import PROGRESSIONS, Progression
from nas_kd.errors import InputError


@dataclass(frozen=True)
class Teaching:
    """What the method is shown; at the default, the teacher's outputs as they are.

    Attributes:
        standardize: whether it sees logits of student and teacher z-scored per sample.
        checkpoint: number of the teacher's checkpoint that teaches, from 1, early to late; None: the final teacher.
        progression: what changes over the schedule: nothing, the teacher's checkpoint, or the stage whose features
            are shown.
    """

    standardize: bool = False
    checkpoint: int | None = None
    progression: Progression = "none"

    @property
    def is_default(self) -> bool:
        """Whether the method sees the final teacher's outputs as they are."""
        return self == Teaching()

    def to_json(self) -> dict[str, Any]:
        """The fields that are not at their default, by name; empty at the default."""
        default = asdict(Teaching())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Teaching":
        """Read what `to_json` wrote.

        Raises:
            InputError: a field is unknown, or has a value that it cannot have.
        """
        if unknown := sorted(set(value) - set(asdict(Teaching()))):
            raise InputError(f"teaching.{unknown[0]}: unknown; allowed: {', '.join(asdict(Teaching()))}")
        teaching = Teaching(**value)
        checkpoint = teaching.checkpoint
        if type(teaching.standardize) is not bool:
            raise InputError(f"teaching.standardize must be true or false, got {teaching.standardize!r}")
        if checkpoint is not None and (type(checkpoint) is not int or checkpoint < 1):
            raise InputError(f"teaching.checkpoint must be a whole number >= 1, got {checkpoint!r}")
        if teaching.progression not in PROGRESSIONS:
            raise InputError(
                f"teaching.progression must be one of {', '.join(PROGRESSIONS)}, got {teaching.progression!r}"
            )
        return teaching

    def describe(self) -> str:
        """Describe it: `standardised logits, checkpoint 2 of the teacher`; empty at the default."""
        words = ["standardised logits"] if self.standardize else []
        if self.checkpoint is not None:
            words.append(f"checkpoint {self.checkpoint} of the teacher")
        if self.progression == "checkpoints":
            words.append("the teacher's checkpoints from early to late")
        if self.progression == "stages":
            words.append("features stage by stage")
        return ", ".join(words)


def share_at(progress: float, shares: int) -> int:
    """Find which of several equal shares of a schedule a step is in, from 0.

    Args:
        progress: share of the schedule that is done, 0..1; 1 is in the last share.
        shares: number of shares.
    """
    return min(int(progress * shares + 1e-9), shares - 1)  # 3 / 10 * 10 is to be 3
