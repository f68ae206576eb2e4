"""Notes to users about small splits and unbalanced classes."""

from nas_kd.results.split_notes import imbalance_note, small_split_notes


def test_unbalanced_classes_are_named_with_what_guessing_gets() -> None:
    counts = {"train": (190, 10), "val": (18, 2), "test": (90, 10)}
    text = imbalance_note(counts, ("healthy", "ill"))
    assert "'healthy' has 95.0% of the training samples" in text
    assert "validation accuracy of 90.0%" in text
    assert 'data.score = "balanced_accuracy"' in text
    assert 'distill.class_weights = "balanced"' in text
    assert imbalance_note({"train": (100, 60), "val": (10, 6)}, ("a", "b")) == ""
    assert imbalance_note({}, ("a", "b")) == ""


def test_small_splits_say_how_wide_intervals_are() -> None:
    (val, test) = small_split_notes({"val": 6, "test": 1})
    assert val.startswith("the validation split has 6 samples only: 95 % intervals of accuracy reach up to 31 points")
    assert "chosen by chance" in val
    assert test.startswith("the test split has 1 sample only")
    assert small_split_notes({"val": 100, "test": 120}) == []
    assert small_split_notes({}) == []
