"""Which teachers are refused, which are warned about, and what the message says."""

import numpy as np
import pytest

from nas_kd.errors import InputError
from nas_kd.kd.teacher_check import check_knowledge
from nas_kd.scores.class_score import Decisions
from nas_kd.tasks.classification import CLASSIFICATION


def check(*rows: tuple[int, ...], advice: str = "") -> str:
    """What is said of a confusion matrix, a row for each class."""
    cells = [(y, p) for y, row in enumerate(rows) for p, count in enumerate(row) for _ in range(count)]
    labels, given = np.array(cells).T
    chance = CLASSIFICATION.knowledge_score.guessing(labels, labels, len(rows))
    return check_knowledge(Decisions(labels, given, len(rows)), CLASSIFICATION, chance, advice)


def test_six_samples_cannot_tell_so_the_search_goes_on_with_a_warning() -> None:
    text = check((1, 1, 0), (1, 1, 0), (0, 1, 1), advice="check it")
    assert "not shown to be better than chance: 6 validation samples are too few" in text
    assert "validation accuracy 50.0% (95 % interval 18.8% to 81.2%)" in text
    assert "guessing gets 33.3%" in text
    assert "check it" in text
    assert "too few" in check((0, 2, 0), (0, 0, 2), (2, 0, 0))  # not even one is right
    assert check((2, 0, 0), (0, 2, 0), (0, 0, 2)) == ""


def test_what_is_shown_to_be_useless_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"no better than chance: validation accuracy 10.0%.*guessing gets 10.0%; look"
    ):
        check(*[(3,) * 10] * 10, advice="look")


def test_naming_the_largest_class_is_no_knowledge_however_accurate() -> None:
    with pytest.raises(InputError, match=r"accuracy 95.0%.*balanced accuracy 50.0%.*guessing gets 50.0%"):
        check((475, 0), (25, 0))


def test_a_teacher_that_knows_rare_classes_may_be_less_accurate_than_naming_the_largest() -> None:
    assert check((400, 75), (2, 23)) == ""


def test_one_class_in_validation_shows_nothing() -> None:
    assert "one class only" in check((40, 10), (0, 0))
