"""Whether a teacher knows anything about the classes: what its validation samples show, and what they cannot show."""

from nas_kd.errors import InputError
from nas_kd.results.confusion import Confusion
from nas_kd.results.finalist_record import Accuracy
from nas_kd.scores.base import DEFAULT_SCORE, load_score

# A teacher that is not shown to be better than guessing is refused if the upper end of its interval, too, is less than
# this share of the way from guessing to perfect, on samples enough. Otherwise they are too few to tell.
USELESS, ENOUGH = 0.25, 30


def check_knowledge(confusion: Confusion, advice: str) -> str:
    """Refuse a teacher that is shown to be useless; return a warning where the samples cannot tell, else nothing.

    Balanced accuracy decides, whatever the run's score: a network that does not look at its input has 1 / C, however
    many samples the classes have. Accuracy would refuse a teacher that knows rare classes well and errs on large ones.

    Args:
        confusion: of the teacher on the validation split.
        advice: what to do about a useless one.

    Raises:
        InputError: it is no better than chance.
    """
    balanced = load_score("balanced_accuracy").of(confusion)
    present = int((confusion.by_class.labelled > 0).sum())
    chance = 1 / present
    shown = _figures(load_score(DEFAULT_SCORE).of(confusion), balanced)
    if present == 1:
        return f"teacher: cannot be checked: the validation split has samples of one class only ({shown})"
    if balanced.low > chance:
        return ""
    if confusion.samples >= ENOUGH and balanced.high <= chance + USELESS * (1 - chance):
        guess = f"guessing gets {chance:.1%}"
        raise InputError(f"teacher: no better than chance: {shown}; {guess}; {advice}")
    return (
        f"teacher: not shown to be better than chance: {confusion.samples:,} validation samples are too few to tell: "
        f"{shown}; guessing gets {chance:.1%}; if it should do better, {advice}"
    )


def _figures(accuracy: Accuracy, balanced: Accuracy) -> str:
    text = f"validation accuracy {_with_interval(accuracy)}"
    if abs(accuracy.mean - balanced.mean) > 0.02:
        text += f", balanced accuracy {_with_interval(balanced)}"
    return text


def _with_interval(value: Accuracy) -> str:
    return f"{value.mean:.1%} (95 % interval {value.low:.1%} to {value.high:.1%})"
