"""Teachers that exist only as stored predictions: what is read, what is refused, and a run that learns from one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from nas_kd.api.functions import search
from nas_kd.cli.app import app
from nas_kd.commands.distill import distill_one
from nas_kd.config.loading import dump_config
from nas_kd.config.options import Budget
from nas_kd.context.callbacks import Callback
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.kd.stored_outputs import from_outputs
from nas_kd.results.limits import describe_costs
from tests.small_runs import distiller_of, open_context, small_config

N, C = 640, 10


@pytest.fixture(scope="module")
def labels() -> np.ndarray[Any, Any]:
    """Of the first rows of the digits, in the order in which the source gives them."""
    y: np.ndarray[Any, Any] = load_digits(return_X_y=True)[1][:N]
    return y


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: np.ndarray[Any, Any] = powers / powers.sum(axis=1, keepdims=True)
    return result


@pytest.fixture(scope="module")
def logits(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Predictions that are right nearly always, and say something of the other classes."""
    noise = np.random.default_rng(0).normal(size=(N, C))
    return (noise + 4 * np.eye(C)[labels]).astype(np.float32)


def config_of(path: Path, **sections: Any) -> Any:
    return small_config(teacher=[{"outputs": path}], distill={"methods": ["soft_targets"], "epochs": 2}, **sections)


def stored(path: Path, **sections: Any) -> dict[str, torch.Tensor]:
    config = config_of(path, **sections)
    found = from_outputs(config.teacher[0], load_dataset(config.data, config.search.seed)).teacher.stored
    assert found is not None
    return dict(found)


def test_rows_follow_the_samples_into_the_carved_splits(tmp_path: Path, labels: Any) -> None:
    np.savez(tmp_path / "o.npz", logits=np.eye(C)[labels] * 5 + np.arange(N)[:, None])
    rows, data = stored(tmp_path / "o.npz"), load_dataset(small_config().data, 0)
    for split in ("train", "val", "test"):
        y = getattr(data, split).y
        assert rows[split].shape == (len(y), C)
        assert torch.equal(rows[split].argmax(dim=1), y)
    numbers = torch.cat([rows[s].min(dim=1).values for s in ("train", "val", "test")])
    assert sorted(numbers.tolist()) == list(range(N))


def test_probabilities_are_recognised_and_become_logits(tmp_path: Path, logits: Any) -> None:
    np.savez(tmp_path / "p.npz", logits=softmax(logits))
    np.savez(tmp_path / "z.npz", logits=logits)
    found, wanted = stored(tmp_path / "p.npz")["train"], stored(tmp_path / "z.npz")["train"]
    assert torch.allclose(found.softmax(dim=1), wanted.softmax(dim=1), atol=1e-5)


def test_the_largest_values_are_filled_up(tmp_path: Path, logits: Any) -> None:
    p = softmax(logits)
    indices = np.argsort(-p, axis=1)[:, :3]
    np.savez(tmp_path / "p.npz", values=np.take_along_axis(p, indices, 1), indices=indices)
    np.savez(tmp_path / "z.npz", values=np.take_along_axis(logits, indices, 1), indices=indices)
    np.savez(tmp_path / "whole.npz", logits=logits)
    whole = stored(tmp_path / "whole.npz")["train"].softmax(dim=1)
    kept, classes = whole.topk(3, dim=1)
    found = stored(tmp_path / "p.npz")["train"].softmax(dim=1)
    assert torch.allclose(found.gather(1, classes), kept, atol=1e-5)
    rest = (1 - kept.sum(dim=1, keepdim=True)) / (C - 3)
    assert torch.allclose(found.scatter(1, classes, 0).sum(dim=1, keepdim=True), rest * (C - 3), atol=1e-5)
    filled = stored(tmp_path / "z.npz")["train"].softmax(dim=1)
    others = filled.scatter(1, classes, 0).sum(dim=1)
    assert torch.allclose(others, filled.gather(1, classes)[:, 2], atol=1e-5)


def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, logits: Any) -> None:
    def refusal(**arrays: Any) -> str:
        np.savez(tmp_path / "o.npz", **arrays)
        with pytest.raises(InputError) as caught:
            stored(tmp_path / "o.npz")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "have 4 columns, the data have 10 classes" in refusal(logits=logits[:, :4])
    assert "has 600 rows for train, the data have 640 samples" in refusal(logits=logits[:600])
    assert "NaN or infinite values in 1 rows, first in row 3" in refusal(
        logits=np.where(np.arange(N)[:, None] == 3, np.nan, logits)
    )
    assert "must be >= 0 and sum to 1" in refusal(probabilities=logits)
    assert "has no rows for train; it has other" in refusal(other=logits)
    assert "rows for test, which the data do not have" in refusal(logits=logits, logits_test=logits)
    assert "has rows for unlabelled samples, but there are none" in refusal(logits=logits, logits_unlabelled=logits)
    assert "no indices; top-k needs both" in refusal(values=logits[:, :2])
    assert "must be different classes 0..9" in refusal(values=logits[:, :2], indices=np.zeros((N, 2), dtype=int))
    assert "are float32 of shape (640,)" in refusal(logits=logits[:, 0])
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match="cannot read"):
        stored(tmp_path / "text.npz")
    with pytest.raises(InputError, match="no such file"):
        stored(tmp_path / "missing.npz")


def test_values_that_a_loss_cannot_hold_are_refused(tmp_path: Path, logits: Any) -> None:
    """Finite as float64, but infinite as float32: every training would end in NaN."""
    masked = logits.astype(np.float64)
    masked[3, 0], masked[5, 1] = -1e300, 1e39
    np.savez(tmp_path / "o.npz", logits=masked)
    with pytest.raises(InputError, match=r"values too large for float32 .* in 2 rows, first in row 3"):
        stored(tmp_path / "o.npz")
    masked[3, 0], masked[5] = -1e4, 0
    np.savez(tmp_path / "o.npz", logits=masked)
    assert torch.isfinite(torch.cat(list(stored(tmp_path / "o.npz").values())).log_softmax(dim=1)).all()


def test_only_arrays_that_may_be_outputs_are_read_and_others_are_named(tmp_path: Path, logits: Any) -> None:
    config = config_of(tmp_path / "o.npz")
    anything = np.array([{"a": 1}, None], dtype=object)  # a pickle, which is never opened
    np.savez(tmp_path / "o.npz", logits=logits, logits_validation=logits, names=anything)
    found = from_outputs(config.teacher[0], load_dataset(config.data, 0))
    assert "arrays of o.npz that were not read: logits_validation, names" in found.notes


def arrays_of(folder: Path, n_val: int = 0) -> dict[str, Any]:
    """Options of an archive with 60 training rows of three classes, and validation rows if asked for."""
    rng = np.random.default_rng(0)
    given = {f"x_{s}": rng.normal(size=(n, 5)) for s, n in (("train", 60), ("val", n_val)) if n}
    np.savez(folder / "data.npz", **given, **{f"y{name[1:]}": np.arange(len(x)) % 3 for name, x in given.items()})
    return {"source": "npz", "path": folder / "data.npz"}


def test_validation_data_of_ones_own_need_rows(tmp_path: Path) -> None:
    """Otherwise the accuracy on training samples would be published as that on validation."""
    config = config_of(tmp_path / "o.npz", data=arrays_of(tmp_path, n_val=30) | {"train_rows": None})
    data, right = load_dataset(config.data, 0), 4.0 * np.eye(3)
    np.savez(tmp_path / "o.npz", logits=right[np.arange(60) % 3])
    with pytest.raises(InputError, match=r"has no rows for val, by which the teacher is judged: add them .logits_val"):
        from_outputs(config.teacher[0], data)
    np.savez(tmp_path / "o.npz", logits=right[np.arange(60) % 3], logits_val=right[np.arange(30) % 3])
    found = from_outputs(config.teacher[0], data).teacher.stored
    assert found is not None
    assert torch.equal(found["val"].argmax(dim=1), data.val.y)


def pictures_of(folder: Path) -> dict[str, Any]:
    """Options of a folder of 30 pictures in two classes, the third of which is broken."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(15):
            picture = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(picture).save(folder / "data" / name / f"{number:02d}.png")
    (folder / "data/a/01.png").write_bytes(b"broken")
    return {"source": "image_folder", "path": folder / "data", "on_error": "skip"}


def test_rows_of_broken_samples_must_be_removed(tmp_path: Path) -> None:
    """The first rows are taken before broken samples are left out, so that all later rows would be a sample's off."""
    options = pictures_of(tmp_path)
    rows = 5.0 * np.eye(2)[np.arange(30) % 2]  # pictures come as the first of each class, then the second of each
    np.savez(tmp_path / "all.npz", logits=rows)
    np.savez(tmp_path / "rest.npz", logits=np.delete(rows, 2, axis=0))
    for limit in (20, 29, 30, None):
        with pytest.raises(
            InputError, match=r"samples that were left out have no rows: remove theirs, too .not a picture: 1"
        ):
            stored(tmp_path / "all.npz", data=options | {"train_rows": limit})
    for limit in (29, 30, None):
        config = config_of(tmp_path / "rest.npz", data=options | {"train_rows": limit})
        data = load_dataset(config.data, 0)
        if limit == 29:
            with pytest.raises(InputError, match="has 29 rows for train, the data have 28 samples"):
                from_outputs(config.teacher[0], data)
            continue
        found = from_outputs(config.teacher[0], data).teacher.stored
        assert found is not None
        for split in ("train", "val", "test"):
            assert torch.equal(found[split].argmax(dim=1), getattr(data, split).y)


def test_the_first_rows_are_taken_where_the_first_samples_are(tmp_path: Path, logits: Any, labels: Any) -> None:
    np.savez(tmp_path / "o.npz", logits=logits)
    data = load_dataset(small_config(data={"train_rows": 400}).data, 0)
    rows = stored(tmp_path / "o.npz", data={"train_rows": 400})
    assert sum(len(rows[split]) for split in ("train", "val", "test")) == 400
    assert float((rows["train"].argmax(dim=1) == data.train.y).float().mean()) > 0.9


def test_unlabelled_samples_need_rows_of_their_own(tmp_path: Path, logits: Any) -> None:
    x = np.random.default_rng(1).integers(0, 255, (20, 1, 8, 8), dtype=np.uint8)
    x[4] = load_dataset(small_config().data, 0).train.x[0].numpy()  # left out, and its row with it
    np.save(tmp_path / "more.npy", x)
    np.savez(tmp_path / "few.npz", logits=logits)
    with pytest.raises(InputError, match="has no rows for the unlabelled samples"):
        stored(tmp_path / "few.npz", data={"unlabelled": tmp_path / "more.npy"})
    further = np.arange(20 * C, dtype=np.float32).reshape(20, C)
    np.savez(tmp_path / "all.npz", logits=logits, logits_unlabelled=further)
    rows = stored(tmp_path / "all.npz", data={"unlabelled": tmp_path / "more.npy"})["unlabelled"]
    assert np.array_equal(rows.numpy(), np.delete(further, 4, axis=0))


def test_a_student_learns_what_is_stored_of_each_sample_whichever_view_it_is_shown(tmp_path: Path, logits: Any) -> None:
    np.savez(tmp_path / "o.npz", logits=logits)
    context = open_context(config_of(tmp_path / "o.npz", data={"augment": {"crop": 1}}), tmp_path / "run")
    teacher = from_outputs(context.config.teacher[0], context.data).teacher
    distiller = distiller_of(context, [teacher])
    training = distiller.untrained("soft_targets", context.space.size_ladder(6)[0])
    seen: list[bool] = []
    rows = teacher.stored
    assert rows is not None
    training.method.register_forward_pre_hook(
        lambda _, given: seen.append(torch.equal(given[1][0].logits, rows["train"][given[2].indices]))
    )
    training.run(until=2)
    assert len(seen) > 10
    assert all(seen)
    with pytest.raises(InputError, match="known by its outputs alone"):
        teacher.model(torch.zeros(2, 1, 8, 8))


@pytest.mark.usefixtures("brief_measurements")
def test_a_run_without_a_teachers_network(tmp_path: Path, logits: Any) -> None:
    np.savez(tmp_path / "o.npz", logits=logits)
    said: list[str] = []

    class Listener(Callback):
        def on_note(self, text: str) -> None:
            said.append(text)

    done = distill_one(config_of(tmp_path / "o.npz"), tmp_path / "run", Listener())
    assert done.teacher.origin == "outputs"
    assert done.teacher.val.mean > 0.9
    assert done.teacher.costs.size_bytes is None
    assert describe_costs(done.teacher.costs, Budget(max_macs=10)).startswith("multiply-adds not measured")
    assert sum("size and latency are unknown" in text for text in said) == 1
    assert (tmp_path / "run/student.onnx").is_file()


@pytest.mark.parametrize(
    ("teacher", "methods", "message"),
    [
        (
            {},
            ["similarity"],
            "needs the teacher's features; a teacher given by teacher.outputs provides its logits only",
        ),
        ({"features": ["a"]}, ["soft_targets"], "features means nothing to a teacher that is known by its outputs"),
        ({"space": "resnet"}, ["soft_targets"], "give one of space, factory, onnx, outputs; got space and outputs"),
    ],
)
def test_what_goes_with_no_network_is_refused(
    tmp_path: Path, logits: Any, teacher: dict[str, Any], methods: list[str], message: str
) -> None:
    np.savez(tmp_path / "o.npz", logits=logits)
    (tmp_path / "config.toml").write_text(dump_config(config_of(tmp_path / "o.npz")))
    given = {f"teacher.{k}": v for k, v in teacher.items()} | {"distill.methods": methods}
    settings = [f"--set={k}={json.dumps(v)}" for k, v in given.items()]
    run = ["search", str(tmp_path / "config.toml"), "--run-dir", str(tmp_path / "run"), *settings]
    result = CliRunner().invoke(app, run)
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_outputs_in_another_order_are_no_better_than_chance(tmp_path: Path, logits: Any) -> None:
    np.savez(tmp_path / "o.npz", logits=np.random.default_rng(0).permutation(logits))
    (tmp_path / "config.toml").write_text(dump_config(config_of(tmp_path / "o.npz")))
    result = CliRunner().invoke(app, ["search", str(tmp_path / "config.toml"), "--run-dir", str(tmp_path / "run")])
    assert result.exit_code == 2, result.output
    assert "no better than chance" in result.output


@pytest.mark.usefixtures("brief_measurements")
def test_a_search_reports_a_teacher_without_a_network(tmp_path: Path, logits: Any) -> None:
    np.savez(tmp_path / "o.npz", logits=logits)
    config = config_of(
        tmp_path / "o.npz",
        chain={"max_assistants": 1},
        search={"trials": 2, "rungs": 1, "sampler": "random"},
        finalists={"max": 1, "seeds": 1, "controls": False},
    )
    run = search(config, run_dir=tmp_path / "run")
    assert run.state == "finished"
    teacher = run.record.teacher
    assert teacher is not None
    assert teacher.test is not None
    assert teacher.test.mean > 0.9
    document = json.loads((tmp_path / "run/front.json").read_text())
    assert document["teacher"]["size_bytes"] is document["teacher"]["latency_ms"] is None
    assert "unknown" in (tmp_path / "run/report/report.md").read_text()
