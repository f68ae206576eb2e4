"""Options of how a teacher is shown to a method: one choice each, or several that the search chooses from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from nas_kd.config.teacher_options import TeacherOptions
from nas_kd.config.teaching_values import FINAL, PROGRESSIONS, Progression


def _several(value: Any) -> tuple[Any, ...]:
    """Make a tuple of one choice, or of several, each of which is there once."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ValueError("has no choice; give one at least")
    if len({repr(v) for v in values}) < len(values):
        raise ValueError("has a choice twice; name each once")
    return values


def _true_or_false(value: Any) -> tuple[bool, ...]:
    values = _several(value)
    if wrong := [v for v in values if type(v) is not bool]:
        raise ValueError(f"must be true, false or [false, true], got {wrong[0]!r}")
    return values


def _final_or_number(value: Any) -> tuple[int | str, ...] | None:
    if value is None:
        return None
    values = _several(value)
    if wrong := [v for v in values if v != FINAL and (type(v) is not int or v < 1)]:
        raise ValueError(f'must be "{FINAL}", the number of a checkpoint from 1, or a list of these, got {wrong[0]!r}')
    return values


def _progressions(value: Any) -> tuple[Progression, ...]:
    values = _several(value)
    if wrong := [v for v in values if v not in PROGRESSIONS]:
        raise ValueError(f"must be {', '.join(PROGRESSIONS)} or a list of these, got {wrong[0]!r}")
    return values


Standardize = Annotated[tuple[bool, ...], BeforeValidator(_true_or_false)]
Checkpoints = Annotated[tuple[int | Literal["final"], ...] | None, BeforeValidator(_final_or_number)]
Progressions = Annotated[tuple[Progression, ...], BeforeValidator(_progressions)]


def wrong_checkpoints(
    teachers: Sequence[TeacherOptions], checkpoint: Sequence[int | str] | None, progression: Sequence[str]
) -> str | None:
    """Say what is wrong about the checkpoints that a config asks for; None: nothing is.

    Args:
        teachers: of the config.
        checkpoint: `distill.checkpoint`.
        progression: `distill.progression`.
    """
    have = n_checkpoints(teachers)
    wanted = [c for c in checkpoint or () if isinstance(c, int)]
    if len(teachers) > 1 and have:
        return "teacher.checkpoints is for a single teacher; with several [[teacher]] leave it out"
    if not have and (wanted or "checkpoints" in progression):
        option = "checkpoint" if wanted else "progression"
        return f"distill.{option} asks for checkpoints of the teacher: give teacher.checkpoints"
    if wanted and max(wanted) > have:
        return f"distill.checkpoint has {max(wanted)}, and teacher.checkpoints has {have}"
    return None


def n_checkpoints(teachers: Sequence[TeacherOptions]) -> int:
    """How many checkpoints the teacher has; only a single teacher may have any."""
    return sum(teacher.n_checkpoints for teacher in teachers)


def checkpoint_files(teachers: Sequence[TeacherOptions]) -> list[Path]:
    """List the files of all teachers' checkpoints."""
    return [path for t in teachers if isinstance(t.checkpoints, tuple) for path in t.checkpoints]
