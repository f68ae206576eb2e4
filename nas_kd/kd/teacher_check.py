"""Whether a teacher knows anything: what its validation samples show, and what they cannot show."""

from nas_kd.errors import InputError
from nas_kd.results.finalist_record import Accuracy
from nas_kd.scores.base import Evidence
from nas_kd.tasks.base import Task

# A teacher that is not shown to be better than guessing is refused if the upper end of its interval, too, is less than
# this share of the way from guessing to perfect, on samples enough. Otherwise they are too few to tell.
USELESS, ENOUGH = 0.25, 30


def check_knowledge(evidence: Evidence, task: Task, chance: float, advice: str) -> str:
    """Refuse a teacher that is shown to be useless; return a warning where the samples cannot tell, else nothing.

    The task's `knowledge` score decides, whatever the run's. Of classes it is balanced accuracy: a network that does
    not look at its input has 1 / C, however many samples the classes have. Accuracy would refuse a teacher that knows
    rare classes well and errs on large ones.

    Args:
        evidence: of the teacher on the validation split.
        task: says which score shows knowledge.
        chance: what guessing gets on that split, in this score.
        advice: what to do about a useless one.

    Raises:
        InputError: it is no better than chance.
    """
    score, first = task.knowledge_score, task.headline_score
    known = score.of(evidence)
    shown = f"validation {first.title} {_with_interval(first.of(evidence))}"
    if abs(first.value(evidence) - known.mean) > 0.02:
        shown += f", {score.title} {_with_interval(known)}"
    if chance >= 1:
        return f"teacher: cannot be checked: the validation split has samples of one class only ({shown})"
    if known.low > chance:
        return ""
    if evidence.samples >= ENOUGH and known.high <= chance + USELESS * (1 - chance):
        guess = f"guessing gets {chance:.1%}"
        raise InputError(f"teacher: no better than chance: {shown}; {guess}; {advice}")
    return (
        f"teacher: not shown to be better than chance: {evidence.samples:,} validation samples are too few to tell: "
        f"{shown}; guessing gets {chance:.1%}; if it should do better, {advice}"
    )


def _with_interval(value: Accuracy) -> str:
    return f"{value.mean:.1%} (95 % interval {value.low:.1%} to {value.high:.1%})"
