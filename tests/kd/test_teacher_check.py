"""Which teachers are refused, which are warned about, and what the message says."""

import pytest

from nas_kd.errors import InputError
from nas_kd.kd.teacher_check import check_knowledge
from nas_kd.results.confusion import Confusion


def confusion(*rows: tuple[int, ...]) -> Confusion:
    """From the whole matrix, a row for each class."""
    cells = [(y, p) for y, row in enumerate(rows) for p, count in enumerate(row) for _ in range(count)]
    return Confusion.of([y for y, _ in cells], [p for _, p in cells], len(rows))


def test_six_samples_cannot_tell_so_the_search_goes_on_with_a_warning() -> None:
    text = check_knowledge(confusion((1, 1, 0), (1, 1, 0), (0, 1, 1)), "check it")
    assert "not shown to be better than chance: 6 validation samples are too few" in text
    assert "validation accuracy 50.0% (95 % interval 18.8% to 81.2%)" in text
    assert "guessing gets 33.3%" in text
    assert "check it" in text
    assert "too few" in check_knowledge(confusion((0, 2, 0), (0, 0, 2), (2, 0, 0)), "")  # not even one is right
    assert check_knowledge(confusion((2, 0, 0), (0, 2, 0), (0, 0, 2)), "") == ""


def test_what_is_shown_to_be_useless_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"no better than chance: validation accuracy 10.0%.*guessing gets 10.0%; look"
    ):
        check_knowledge(confusion(*[(3,) * 10] * 10), "look")


def test_naming_the_largest_class_is_no_knowledge_however_accurate() -> None:
    with pytest.raises(InputError, match=r"accuracy 95.0%.*balanced accuracy 50.0%.*guessing gets 50.0%"):
        check_knowledge(confusion((475, 0), (25, 0)), "")


def test_a_teacher_that_knows_rare_classes_may_be_less_accurate_than_naming_the_largest() -> None:
    assert check_knowledge(confusion((400, 75), (2, 23)), "") == ""


def test_one_class_in_validation_shows_nothing() -> None:
    assert "one class only" in check_knowledge(confusion((40, 10), (0, 0)), "")
