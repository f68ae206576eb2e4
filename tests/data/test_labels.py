"""Labels as people store them become class numbers, and it is said where that needs saying."""

from typing import Any

import numpy as np
import pytest

from nas_kd.errors import InputError
from nas_kd.tasks.class_labels import validated_labels

Y = np.array([0, 1, 1, 0, 1])


def test_plus_and_minus_one_are_two_classes() -> None:
    for y in (2 * Y - 1, 2.0 * Y - 1, (2 * Y - 1)[:, None]):
        found = validated_labels({"train": y, "test": -np.ones(3)}, None)
        assert found.numbers["train"].tolist() == Y.tolist()
        assert found.numbers["test"].tolist() == [0, 0, 0]
        assert (found.classes, found.encoding) == (
            ("-1", "1"),
            "labels -1 and 1 were read as two classes, in this order",
        )
    assert validated_labels({"train": 2 * Y - 1}, ("no", "yes")).classes == ("no", "yes")
    with pytest.raises(InputError, match="labels are -1 and 1, which are two classes, but there are 3 names: a, b, c"):
        validated_labels({"train": 2 * Y - 1}, ("a", "b", "c"))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_one_hot_rows(dtype: Any) -> None:
    found = validated_labels({"train": np.eye(2, dtype=dtype)[Y], "val": np.eye(2)[:1]}, None)
    assert found.numbers["train"].tolist() == Y.tolist()
    assert found.numbers["val"].tolist() == [0]
    assert found.encoding == "one-hot rows were read as their class numbers"
    assert found.classes == ("0", "1")


@pytest.mark.parametrize(
    ("ys", "message"),
    [
        ({"train": np.eye(3)[Y]}, "one-hot labels have 3 columns, but class 2 does not occur in train"),
        ({"train": np.eye(2)[Y], "test": Y}, "labels are one-hot in part or differ in width"),
        ({"train": np.eye(2)[Y], "test": np.eye(3)[Y]}, "differ in width (columns of train: 2, test: 3)"),
        ({"train": np.ones((5, 3))}, "several classes a sample are not supported"),
        ({"train": np.full((5, 2), 0.5)}, "of probabilities give the argmax"),
        ({"train": Y, "test": np.array([0, -1])}, "label -1 of test (sample 1) is out of range"),
        (
            {"train": Y, "test": np.array([0, -1])},
            "-1 often marks a missing label: leave out the 1 samples that have it",
        ),
        (
            {"train": Y, "test": -np.ones(2)},
            "all labels of test are -1, which often means that there are none: leave tes",
        ),
        ({"train": np.array([-1, 0, 1])}, "label -1 of train (sample 0) is out of range"),
        ({"train": np.array([-5.0, 0, 1])}, "label -5 of train (sample 0) is out of range"),
    ],
)
def test_labels_that_cannot_be_told(ys: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        validated_labels(ys, None)
    assert message in str(caught.value)


def test_plain_numbers_and_names_need_no_words() -> None:
    names = np.array(["no", "yes"], dtype=object)[Y]
    for given in (names, names.astype(str)):
        found = validated_labels({"train": given}, None)
        assert found.numbers["train"].tolist() == Y.tolist()
        assert (found.classes, found.encoding) == (("no", "yes"), None)
    assert validated_labels({"train": Y}, None).encoding is None


def test_thousands_of_names_fit_into_a_message() -> None:
    names = tuple(f"name {i}" for i in range(5000))
    with pytest.raises(InputError, match="label 'other' of test does not occur in the classes given") as caught:
        validated_labels({"train": np.array(names[:2]), "test": np.array(["other"])}, names)
    assert len(str(caught.value)) < 300
