"""What belongs together is in one split: carving, where groups come from, and what is reported or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas_kd.api.in_memory import data_options, with_groups
from nas_kd.config.options import DataOptions
from nas_kd.data.dataset import Dataset
from nas_kd.data.groups import find_groups
from nas_kd.data.prepare import load_dataset
from nas_kd.data.source import Arrays, RawData
from nas_kd.data.splits import carve_groups
from nas_kd.errors import InputError
from nas_kd.tasks.base import load_task

from .conftest import noise, png

N, N_GROUPS = 60, 12
PATIENTS = np.array([f"p{i % N_GROUPS:02d}" for i in range(N)])
LABELS = (np.arange(N) // N_GROUPS) % 2
X = np.arange(N, dtype=np.float32)[:, None] + np.zeros((1, 3), dtype=np.float32)  # a sample shows its number


@settings(max_examples=60, deadline=None)
@given(st.integers(6, 30), st.integers(40, 200), st.integers(1, 3), st.integers(1, 2), st.integers(0, 9))
def test_no_group_is_in_two_splits(n_groups: int, n: int, n_strata: int, least: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_groups), generator.integers(0, n_groups, n)])
    strata = generator.integers(0, n_strata, len(groups))
    parts = carve_groups(groups, strata, {"test": 0.2, "val": 0.15}, seed, least)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(groups)))
    members = [set(groups[rows].tolist()) for rows in parts.values()]
    assert sum(map(len, members)) == n_groups
    assert all(len(of_split) >= least for of_split in members)
    again = carve_groups(groups, strata, {"test": 0.2, "val": 0.15}, seed, least)
    assert all(np.array_equal(rows, again[split]) for split, rows in parts.items())


def test_groups_keep_sizes_and_strata_where_they_allow_it() -> None:
    groups = np.repeat(np.arange(40), 10)
    strata = np.where(groups < 20, 0, 1)  # all samples of a group are alike
    parts = carve_groups(groups, strata, {"test": 0.2, "val": 0.15}, 0)
    assert {split: len(rows) for split, rows in parts.items()} == {"test": 80, "val": 60, "train": 260}
    for split, share in (("test", 0.2), ("val", 0.15)):
        of_strata = np.bincount(strata[parts[split]], minlength=2) / 200
        assert np.abs(of_strata - share).max() <= 0.051  # a group is 0.05 of a stratum


def shown(data: Dataset) -> dict[str, NDArray[np.int64]]:
    """The numbers of the samples of each split."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {name: split.x[:].numpy().reshape(len(split), -1)[:, 0].astype(np.int64) for name, split in splits.items()}


def is_kept_together(data: Dataset, groups: NDArray[Any]) -> bool:
    members = [set(groups[numbers].tolist()) for numbers in shown(data).values()]
    return sum(map(len, members)) == len(set(groups.tolist())) and all(members)


def test_an_array_of_a_file_is_the_group(tmp_path: Path) -> None:
    path = tmp_path / "visits.npz"
    np.savez(path, x_train=X, y_train=LABELS, patient=PATIENTS)
    data = load_dataset(DataOptions(source="npz", path=path, group="patient"), 0)
    assert is_kept_together(data, PATIENTS)
    assert not is_kept_together(load_dataset(DataOptions(source="npz", path=path), 0), PATIENTS)
    told = [note for note in data.notes if "of 12 groups (patient), none of which is in two splits" in note]
    assert [note.partition(":")[0] for note in told] == ["test", "val"]
    assert data.about.carved == ("test", "val")


def test_a_group_in_two_given_splits_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "visits.npz"
    rows = PATIENTS != "p00"
    arrays = {"x_train": X[rows], "y_train": LABELS[rows], "clip_train": PATIENTS[rows]}
    test = np.isin(PATIENTS, ["p00", "p01", "p02"])
    np.savez(path, **arrays, x_test=X[test] + 0.5, y_test=LABELS[test], clip_test=PATIENTS[test])
    data = load_dataset(DataOptions(source="npz", path=path, group="clip"), 0)
    known = set(PATIENTS[shown(data)["train"]].tolist()) | set(PATIENTS[shown(data)["val"]].tolist())
    assert {"p01", "p02"} < known
    assert "groups in two splits (clip): 2 of the 3 in test (10 of 15 samples) are in train or val, too" in "".join(
        data.notes
    )


def test_a_column_is_the_group_and_broken_pictures_take_theirs_along(tmp_path: Path) -> None:
    pictures: list[bytes] = [png(np.full((8, 8), 2 * i, np.uint8)) for i in range(N)]
    pictures[7] = b"broken"
    table = pa.table({"image": pictures, "label": LABELS, "patient": pa.array(PATIENTS)})
    pq.write_table(table, tmp_path / "train.parquet")
    options = DataOptions(source="parquet", train=tmp_path / "train.parquet", group="patient", on_error="skip")
    data = load_dataset(options, 0)
    there = [numbers // 2 for numbers in shown(data).values()]
    assert sum(map(len, there)) == N - 1
    assert sum(len(set(PATIENTS[numbers].tolist())) for numbers in there) == N_GROUPS
    with pytest.raises(InputError, match=r"has no column 'visit' \(data.group\); its columns: image, label, patient"):
        load_dataset(options.model_copy(update={"group": "visit"}), 0)


def test_folders_below_the_classes_are_groups(tmp_path: Path) -> None:
    for i in range(N):
        folder = tmp_path / ("ant" if LABELS[i] else "bee") / PATIENTS[i]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:02d}.png").write_bytes(png(np.full((8, 8), 2 * i, np.uint8)))
    (tmp_path / "ant" / "beside.png").write_bytes(png(noise(0, 8, 8)))
    options = DataOptions(source="image_folder", path=tmp_path, group="folder")
    data = load_dataset(options, 0)
    there = [numbers // 2 for numbers in shown(data).values()]
    assert sum(map(len, there)) == N
    assert sum(len(set(PATIENTS[numbers].tolist())) for numbers in there) == N_GROUPS
    assert data.about.skipped == {"not in a group folder, or a folder inside of one": 1}
    with pytest.raises(InputError, match='are grouped by "folder" alone'):
        load_dataset(options.model_copy(update={"group": "patient"}), 0)


def test_groups_are_given_in_python() -> None:
    data, option = with_groups((X, LABELS), PATIENTS)
    assert option is None
    source = data_options(data)["source"]
    assert is_kept_together(load_dataset(DataOptions(source=source), 0), PATIENTS)
    others = data_options(with_groups((X, LABELS), PATIENTS[::-1])[0])["source"]
    assert others != source  # groups belong to the identity of the data
    assert with_groups("digits", "writer") == ("digits", "writer")
    with pytest.raises(InputError, match="goes with data given in Python"):
        with_groups("digits", PATIENTS)


def test_a_function_returns_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import numpy as np\ndef visits():\n    y = np.arange(60) % 2\n"
    code += (
        "    return {'x_train': np.arange(60.)[:, None] + np.zeros((1, 3)), 'y_train': y, 'day': np.arange(60) // 5}\n"
    )
    (tmp_path / "own_visits.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = load_dataset(DataOptions(source="own_visits:visits", group="day"), 0)
    assert is_kept_together(data, np.arange(60) // 5)
    with pytest.raises(InputError, match=r"has no array 'hour' or 'hour_train', which data\.group names"):
        load_dataset(DataOptions(source="own_visits:visits", group="hour"), 0)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(N), "splits are carved by group, and all samples are of one: want 3 at least"),
        (
            np.arange(N) % 2,
            "splits are carved by group, and there are 2 only: want 3 at least, 1 for each of test, val",
        ),
        (np.arange(N - 1), r"train has 60 samples and groups of shape \(59,\)"),
        (np.where(np.arange(N) < 3, np.nan, 1.0), "3 of the 60 samples of train have no group"),
        (np.array(["", *["a"] * (N - 1)]), "1 of the 60 samples of train have no group"),
        (
            np.where(LABELS == 1, 1, np.where(np.arange(N) < 12, 0, 2)),
            "once splits are carved by group: class '.' has 0",
        ),
    ],
)
def test_groups_that_cannot_be_kept_together_are_refused(groups: NDArray[Any], message: str) -> None:
    source = data_options(with_groups((X, LABELS), groups)[0])["source"]
    with pytest.raises(InputError, match=message):
        load_dataset(DataOptions(source=source), 0)


def test_sources_without_groups_say_so() -> None:
    with pytest.raises(InputError, match=r"data\.group is not used by source 'digits'"):
        load_dataset(DataOptions(source="digits", group="writer"), 0)


def test_groups_that_share_a_sample_are_one() -> None:
    """Samples of one video belong together, and those of one identity: so do videos that show one identity."""
    identity, video = np.array([0, 0, 1, 1, 2, 3]), np.array(["a", "b", "b", "c", "d", "d"])

    class Identified(type(load_task("classification"))):  # type: ignore[misc]
        def kept_together(self, y: NDArray[Any]) -> NDArray[np.int64]:
            return y

    task = Identified()
    raw = RawData("x", Arrays(np.zeros((6, 2)), identity), groups={"train": video})
    found = find_groups(raw, {}, task.read_targets({"train": identity}, None), "video")
    assert found is not None
    numbers = found.numbers["train"].tolist()
    assert len({numbers[0], numbers[1], numbers[2], numbers[3]}) == 1
    assert numbers[4] == numbers[5]
    assert numbers[4] != numbers[0]
