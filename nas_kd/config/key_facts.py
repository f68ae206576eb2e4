"""What fingerprints have of a config's sections: all that results depend on, but for defaults that came later."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from nas_kd.config.section import Options


@dataclass(frozen=True)
class NotInKeysAtDefault:
    """Marks an option that came later: fingerprints leave it out at its default, so that earlier ones stay valid."""


def key_facts(options: Options, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Collect what results depend on of a section, for fingerprints.

    Args:
        options: the section.
        leave_out: names of options that results do not depend on.
    """
    late = [
        name
        for name, field in type(options).model_fields.items()
        if any(isinstance(mark, NotInKeysAtDefault) for mark in field.metadata)
        and getattr(options, name) == field.default
    ]
    return options.model_dump(mode="json", exclude={*leave_out, *late})


def score_facts(score: str, usual: str) -> dict[str, Any]:
    """Collect what results depend on that a score decides, likewise: nothing where it is the task's own.

    Args:
        score: its name.
        usual: the name of the task's own.
    """
    return {} if score == usual else {"score": score}


def clipping_facts(calibrate: bool) -> dict[str, Any]:
    """Collect what became of clipping, likewise: nothing with calibration; published weights are no longer clipped.

    Args:
        calibrate: `distill.calibrate`.
    """
    return {} if calibrate else {"clipped": False}
