"""Paired data: another view of each sample for the teacher, in step through limits, carving and augmentation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.augment import TrainingViews
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.data.source import Arrays, RawData, TeacherView
from nas_kd.errors import InputError

Write = Callable[..., Path]
N = 40
LABELS = np.arange(N) % 2
X = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8), dtype=np.uint8)
X[:, 0, 0, 0] = np.arange(N)  # each sample says which one it is
VIEW = np.repeat(np.repeat(X, 2, axis=2), 2, axis=3).repeat(3, axis=1).astype(np.float64) / 3 - 10


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions(source="npz", path=path, **options), 0)


def view_of(dataset: Dataset) -> Dataset:
    assert dataset.teacher_view is not None
    return dataset.teacher_view


def numbers(x: torch.Tensor) -> list[int]:
    return torch.as_tensor(x[:, 0, 0, 0]).double().round().int().tolist()


@pytest.fixture
def write(write_npz: Write) -> Write:
    def written(**arrays: Any) -> Path:
        given = {"x_train": X, "y_train": LABELS, "x_teacher_train": VIEW} | arrays
        return write_npz(**{name: values for name, values in given.items() if values is not None})

    return written


def test_every_split_is_paired_with_a_view_of_its_own_shape_type_and_statistics(write: Write) -> None:
    dataset = load(write())
    view = view_of(dataset)
    assert (dataset.input_shape, view.input_shape) == ((1, 8, 8), (3, 16, 16))
    assert (dataset.scale, view.scale) == (255.0, 1.0)
    for own, shown in zip((dataset.train, dataset.val, dataset.test), (view.train, view.val, view.test), strict=True):
        assert len(own) == len(shown) > 0
        assert torch.equal(own.y, shown.y)
        assert numbers(own.x) == numbers((shown.x + 10) * 3)
    carved = view.train.x.double()
    torch.testing.assert_close(view.mean.double(), carved.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(view.std.double(), carved.std(dim=(0, 2, 3), correction=0))
    assert view.teacher_view is None
    notes = [note for note in dataset.notes if note.startswith("teacher's view")]
    assert len(notes) == 1
    assert "(3, 16, 16)" in notes[0]


def test_data_without_pairs_have_no_view_and_the_key_they_always_had(write: Write) -> None:
    plain, paired = load(write(x_teacher_train=None)), load(write())
    assert plain.teacher_view is None
    assert plain.key != paired.key
    assert torch.equal(plain.train.x, paired.train.x)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32])
def test_pairs_by_index(write: Write, dtype: Any) -> None:
    order = np.random.default_rng(1).permutation(N)
    more = np.concatenate([VIEW[order], VIEW[:3]])  # rows without a partner
    by_index = load(write(x_teacher_train=more, pairs_train=np.argsort(order).astype(dtype)))
    assert torch.equal(view_of(by_index).train.x, view_of(load(write())).train.x)
    assert by_index.key == load(write()).key  # what is shown is the same, however it was stored


def test_one_row_may_belong_to_many_samples(write: Write) -> None:
    view = view_of(load(write(x_teacher_train=VIEW[:2], pairs_train=LABELS)))
    assert set(numbers((view.train.x + 10) * 3)) == {0, 1}


def test_given_splits_are_paired_each_for_itself(write: Write) -> None:
    pairs = {"x_val": X[:4], "y_val": LABELS[:4], "x_teacher_val": VIEW[3::-1], "pairs_val": np.arange(4)[::-1]}
    dataset = load(write(**pairs))
    assert numbers((view_of(dataset).val.x + 10) * 3) == numbers(dataset.val.x) == [0, 1, 2, 3]


def test_row_limits_cut_both_views(write: Write) -> None:
    test = {"x_test": X[::-1], "y_test": LABELS[::-1], "x_teacher_test": VIEW[::-1]}
    dataset = load(write(**test), train_rows=20, test_rows=5)
    view = view_of(dataset)
    assert len(view.train) + len(view.val) == 20
    assert numbers((view.test.x + 10) * 3) == numbers(dataset.test.x) == [39, 38, 37, 36, 35]
    assert numbers((view.train.x + 10) * 3) == numbers(dataset.train.x)


def test_the_key_covers_the_view(write: Write) -> None:
    changed = VIEW.copy()
    changed[7, 1, 2, 3] += 1
    keys = {load(write(x_teacher_train=view)).key for view in (VIEW, changed, VIEW.astype(np.uint8))}
    assert len(keys) == 3


def test_where_sizes_agree_augmentation_shifts_and_mirrors_both_views_alike(write: Write) -> None:
    view = X.astype(np.float32).repeat(3, axis=1) + 1000
    dataset = load(write(x_teacher_train=view), augment=Augmentation(crop=2, flip=True))
    views = TrainingViews(dataset, 5)
    own, shown = views.student("none"), views.teacher("none")  # what is given is kept
    indices = torch.arange(len(dataset.train))
    for epoch in (0, 3):
        a, b = own.batch(epoch, indices), shown.batch(epoch, indices)[:, 1:2] - 1000
        inside = a != own.fill  # what was shifted in is each view's own mean
        assert inside.float().mean() > 0.5
        assert torch.equal(a[inside], b[inside])
    assert not torch.equal(own.batch(0, indices), own.batch(3, indices))


def test_a_teacher_is_shown_its_own_view_also_when_it_is_trained(write: Write) -> None:
    dataset = load(write(), augment=Augmentation(flip=True))
    views = TrainingViews(dataset, 5)
    own, shown = views.student("standard"), views.teacher("standard")
    assert torch.equal(own.x, dataset.train.x)
    assert torch.equal(shown.x, view_of(dataset).train.x)
    assert (own.crop, own.flip) == (1, True)
    assert (shown.crop, shown.flip) == (0, True)  # sizes differ: mirrored in step, and not shifted
    as_student = views.as_teachers_see()
    assert as_student.student("standard") is as_student.teacher("standard") is shown


def test_an_image_beside_a_vector(write: Write) -> None:
    dataset = load(write(x_train=X.reshape(N, 64)))
    assert (dataset.input_shape, view_of(dataset).input_shape) == ((64,), (3, 16, 16))
    views = TrainingViews(dataset, 0)
    assert dataset.augmentation.strengths == ("none",)
    assert views.student("none").identity
    assert views.teacher("none").identity


def test_channels_last_views_are_told_by_themselves(write: Write) -> None:
    view = view_of(load(write(x_teacher_train=VIEW.transpose(0, 2, 3, 1))))
    assert torch.equal(view.train.x, view_of(load(write())).train.x)


def test_factories_may_return_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"paired_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "import numpy as np\n"
        "x = np.random.default_rng(0).normal(size=(40, 6))\n"
        "y = np.arange(40) % 2\n"
        "def mapping(): return {'x_train': x, 'y_train': y, 'x_teacher_train': (x[:, :3] * 2).tolist()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    dataset = load_dataset(DataOptions(source=f"{name}:mapping"), 0)
    assert torch.equal(view_of(dataset).test.x, dataset.test.x[:, :3] * 2)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"x_teacher_train": VIEW[:39]}, r"x_teacher_train has 39 samples for the 40 of x_train; .*pairs_train"),
    ({"x_teacher_train": None, "pairs_train": LABELS}, "no x_teacher_train"),
    ({"x_test": X, "y_test": LABELS}, "no x_teacher_test: with x_teacher_train, the teacher needs its view of test"),
    ({"x_teacher_val": VIEW}, "x_teacher_val has no x_val"),
    ({"pairs_test": LABELS}, "pairs_test has no x_test"),
    ({"pairs_train": LABELS[:-1]}, r"pairs_train has shape \(39,\); want \(40,\)"),
    ({"pairs_train": LABELS[:, None]}, r"pairs_train has shape \(40, 1\)"),
    ({"pairs_train": LABELS * 0.5}, "pairs_train has type float64; want whole numbers"),
    ({"pairs_train": LABELS > 0}, "pairs_train has type bool"),
    ({"pairs_train": LABELS - 1}, r"pairs_train\[0\] is -1; x_teacher_train has 40 rows"),
    ({"pairs_train": LABELS * 40}, r"pairs_train\[1\] is 40; x_teacher_train has 40 rows"),
    ({"pairs_train": LABELS.astype(np.uint64) * 2**63}, r"pairs_train\[1\] is 9223372036854775808"),
    ({"x_teacher_train": np.full((N, 3), np.nan)}, "the teacher's view: x of train has NaN"),
    ({"x_teacher_train": np.ones((N, 3))}, "the teacher's view: all training samples are the same"),
    ({"x_teacher_train": VIEW[:, 0, 0, 0]}, r"the teacher's view: x of train has shape \(40,\)"),
    ({"x_teacher_train": np.float64(3)}, "x_teacher_train has 1 samples for the 40"),
    ({"x_teacher_train": np.ones((N, 7, 9, 11))}, "x_teacher_train: cannot tell channels from pixels"),
    ({"x_test": X, "y_test": LABELS, "x_teacher_test": X}, "the teacher's view: samples of test have shape"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD)
def test_pairs_that_do_not_fit_are_said_in_one_line(write: Write, arrays: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(write(**arrays))
    assert "\n" not in str(caught.value)


def test_raw_data_of_a_users_own_source_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = RawData("own", Arrays(X, LABELS), teacher_view=TeacherView({"train": torch.tensor(VIEW[:5])}))

    class Own:
        def load(self, _options: DataOptions) -> RawData:
            return raw

    monkeypatch.setattr("nas_kd.data.prepare.find_source", lambda _options: Own())
    with pytest.raises(InputError, match="x_teacher_train has 5 samples"):
        load_dataset(DataOptions(), 0)
