"""Whole runs with unlabelled samples: what records say, what teachers see, what is refused before training."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

import nas_kd
from nas_kd.api.in_memory import InMemorySource, data_options, with_unlabelled
from nas_kd.cli.app import app
from nas_kd.commands.distill import distill_one
from nas_kd.commands.step_timing import _few_batches
from nas_kd.config.loading import dump_config
from nas_kd.config.options import DataOptions
from nas_kd.context.callbacks import Callback
from nas_kd.data.prepare import load_dataset
from nas_kd.data.source import Arrays, RawData
from nas_kd.engine.mixed_batches import MixedBatches
from nas_kd.engine.training import Training
from nas_kd.errors import InputError
from nas_kd.kd.shared_outputs import SharedOutputs
from nas_kd.methods.combine import Combined, make_method
from tests.onnx_files import linear_classifier
from tests.small_runs import (
    TrainingLog,
    distiller_of,
    open_context,
    plain_candidate,
    small_config,
    untrained_teacher,
)

LABELLED = 240


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All digits without their labels."""
    path = tmp_path_factory.mktemp("digits") / "digits.npy"
    data = load_dataset(small_config(data={"source": "digits"}).data.model_copy(update={"train_rows": None}), 0)
    np.save(path, torch.cat([data.train.x, data.val.x, data.test.x]).numpy())
    return path


def config_of(digits: Path, **sections: Any) -> Any:
    data = {"train_rows": LABELLED, "unlabelled": digits, "augment": {"crop": 1}}
    return small_config(data=data | sections.pop("data", {}), **sections)


def test_an_epoch_counts_all_samples_for_students_and_the_labelled_ones_for_the_teacher(
    digits: Path, tmp_path: Path
) -> None:
    context = open_context(config_of(digits), tmp_path)
    unlabelled = context.data.unlabelled
    assert unlabelled is not None
    n = len(context.data.train)
    assert len(unlabelled) == 1797 - LABELLED
    assert context.steps_per_epoch == (n + len(unlabelled)) // 64
    assert context.for_teacher().data.unlabelled is None
    assert context.for_teacher().steps_per_epoch == n // 64
    assert context.teacher_epoch == n / (n + len(unlabelled))


def test_the_teacher_is_that_of_the_labelled_data(digits: Path, tmp_path: Path) -> None:
    with_, without = (
        open_context(config_of(digits, data={"unlabelled": path}), tmp_path / name)
        for name, path in (("with", digits), ("without", None))
    )
    keys = []
    for context in (with_.for_teacher(), without):
        distiller = distiller_of(context)
        log = TrainingLog(distiller)
        keys.append(distiller.distill(plain_candidate(context.space.size_ladder(6)[0]), 0, 1).key)
        assert len(log.jobs) == 1
    assert keys[0] == keys[1]


def test_steps_are_timed_on_whole_batches_of_labels_however_few_there_are(digits: Path, tmp_path: Path) -> None:
    """A step without distillation takes a batch of labelled samples; on a couple of them it would look far too fast."""
    context = open_context(config_of(digits, data={"train_rows": 160}), tmp_path)
    few = _few_batches(context.with_recipe(replace(context.recipe, batch_size=32)))
    assert few.data.unlabelled is not None
    assert 32 <= len(few.data.train) < len(context.data.train)
    assert len(few.data.unlabelled) < len(context.data.unlabelled or ())
    fewer_than_a_batch = _few_batches(context.with_recipe(replace(context.recipe, batch_size=128)))
    assert len(fewer_than_a_batch.data.train) == len(context.data.train) < 128


@pytest.mark.parametrize("method", ["soft_targets", "similarity", "none"])
def test_a_student_is_resumed_to_the_last_bit(digits: Path, tmp_path: Path, method: str) -> None:
    states = []
    for name, stops in (("whole", [2]), ("stopped", [1, 2])):
        context = open_context(config_of(digits), tmp_path / name)
        for until in stops:
            distiller = distiller_of(context, [untrained_teacher(context, 1)])
            candidate = plain_candidate(context.space.size_ladder(6)[0], method)
            trained = distiller.distill(candidate, 5, 2, until=until)
        states.append(trained.model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_outputs_computed_beforehand_are_those_that_students_look_up(digits: Path, tmp_path: Path) -> None:
    context = open_context(config_of(digits), tmp_path)
    teacher = untrained_teacher(context, 1)
    first = distiller_of(context, [teacher])
    first.trainer.outputs.precompute(["soft_targets"], range(2), Callback())
    before = context.store.counts()
    distiller = distiller_of(context, [teacher])
    assert isinstance(distiller.trainer.outputs, SharedOutputs)
    distiller.distill(plain_candidate(context.space.size_ladder(6)[0], "soft_targets"), 0, 2)
    hits, misses = context.store.counts(before)["logits"]
    assert hits > 0
    assert misses == 0


def test_distill_says_how_many_unlabelled_samples_taught(digits: Path, tmp_path: Path) -> None:
    said: list[str] = []

    class Listener(Callback):
        def on_note(self, text: str) -> None:
            said.append(text)

    teacher = {"space": "resnet", "epochs": 2, "architecture": small_config().teacher[0].architecture}
    config = config_of(digits, teacher=teacher, distill={"methods": ["soft_targets"], "epochs": 1, "batch_size": 64})
    distill_one(config, tmp_path / "run", Listener())
    count = f"{1797 - LABELLED:,}"
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert card["nas_kd.dataset"]["samples"]["unlabelled"] == 1797 - LABELLED
    assert f"{count} unlabelled (with the teacher's outputs as targets)" in (tmp_path / "run/README.md").read_text()
    assert any(f"unlabelled: {count} samples" in text for text in said)
    assert any("are in test, too, to the last bit, and were left out" in text for text in said)
    assert any(text.startswith("teacher: 2 epochs are 4 training steps, which leaves it under-tr") for text in said)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"distill": {"methods": ["none"]}}, "method none would not learn from unlabelled samples"),
        ({"distill": {"methods": ["none", "dml"]}}, "methods none, dml would not learn"),
        ({"data": {"unlabelled_share": 1.0}}, "data.unlabelled_share must be < 1, got 1"),
        ({"data": {"unlabelled_share": -0.1}}, "data.unlabelled_share must be > 0"),
        ({"data": {"unlabelled": "missing"}}, "no such file or folder"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(
    digits: Path, tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    text = dump_config(config_of(digits))
    (tmp_path / "config.toml").write_text(text)
    settings = [f"--set={s}.{k}={json.dumps(v)}" for s, options in section.items() for k, v in options.items()]
    run = ["--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["search", str(tmp_path / "config.toml"), *run, *settings])
    assert result.exit_code == 2, result.output
    errors = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(x)
        return logits


def a_problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labelled samples, their labels, and unlabelled samples: the class is the sign of the first number."""
    x = torch.randn(240, 4, generator=torch.Generator().manual_seed(0))
    return x[:16], (x[:16, 0] > 0).long(), x[16:]


def test_modules_learn_from_unlabelled_samples_what_labels_do_not_show() -> None:
    x, y, more = a_problem()
    torch.manual_seed(0)
    teacher = Small()
    everything = torch.cat([x, more])
    nas_kd.distill(teacher, train=(everything, (everything[:, 0] > 0).long()), method="none", epochs=30)
    agreement = {}
    for unlabelled in (None, more):
        torch.manual_seed(1)
        student = nas_kd.distill(Small(), teacher, train=(x, y), unlabelled=unlabelled, epochs=40)
        test = torch.randn(2000, 4, generator=torch.Generator().manual_seed(9))
        same = student(test).argmax(1) == teacher(test).argmax(1)
        agreement[unlabelled is not None] = float(same.float().mean())
    assert agreement[True] > agreement[False]


@pytest.mark.parametrize(
    ("unlabelled", "message"),
    [
        ((torch.zeros(4, 4), torch.zeros(4)), "unlabelled samples are x alone"),
        (torch.zeros(4, 5), r"have shape \(5,\), those of train \(4,\)"),
        (torch.zeros(0, 4), "has no samples"),
        ("more/", "must be an array or tensor"),
        (torch.full((4, 4), torch.nan), "NaN"),
    ],
)
def test_modules_refuse_what_is_not_like_the_training_samples(unlabelled: Any, message: str) -> None:
    x, y, _ = a_problem()
    with pytest.raises(InputError, match=message):
        nas_kd.distill(Small(), Small(), train=(x, y), unlabelled=unlabelled, epochs=1)


def test_modules_refuse_methods_shares_and_loaders_that_do_not_go_with_it() -> None:
    x, y, more = a_problem()
    with pytest.raises(InputError, match="method 'none' would not learn from unlabelled samples"):
        nas_kd.distill(Small(), train=(x, y), unlabelled=more, method="none", epochs=1)
    with pytest.raises(InputError, match="unlabelled_share must be > 0 and < 1, got 2"):
        nas_kd.distill(Small(), Small(), train=(x, y), unlabelled=more, unlabelled_share=2, epochs=1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    with pytest.raises(InputError, match="unlabelled goes with arrays or a Dataset as train, not with a DataLoader"):
        nas_kd.distill(Small(), Small(), train=loader, unlabelled=more, epochs=1)


class Notes(Callback):
    def __init__(self) -> None:
        self.said: list[str] = []

    def on_note(self, text: str) -> None:
        self.said.append(text)


def shown_unlabelled(monkeypatch: pytest.MonkeyPatch, **given: Any) -> tuple[torch.Tensor, list[str]]:
    """The unlabelled samples that students of a call are shown, and its notes."""
    seen, notes = list[torch.Tensor](), Notes()
    made = MixedBatches.__init__

    def init(self: MixedBatches, labelled: Any, unlabelled: Any, share: float, **options: Any) -> None:
        seen.append(unlabelled.batch(0, torch.arange(len(unlabelled))))
        made(self, labelled, unlabelled, share, **options)

    monkeypatch.setattr(MixedBatches, "__init__", init)
    nas_kd.distill(Small(), Small(), epochs=1, callbacks=notes, **given)
    return seen[0], notes.said


class Items(torch.utils.data.Dataset[Any]):
    def __init__(self, *columns: torch.Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> Any:
        item = tuple(column[index] for column in self.columns)
        return item if len(item) > 1 else item[0]


@pytest.mark.parametrize("kind", ["tensors", "arrays", "Datasets"])
def test_modules_leave_out_copies_of_labelled_samples(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    x, y, more = a_problem()
    train, val, given = (x[:10], y[:10]), (x[10:], y[10:]), torch.cat([x[:3], more[:20], x[10:12]])
    wrap = {"tensors": lambda *t: t, "arrays": lambda *t: tuple(c.numpy() for c in t), "Datasets": Items}[kind]
    unlabelled = Items(given) if kind == "Datasets" else given
    shown, said = shown_unlabelled(monkeypatch, train=wrap(*train), val=wrap(*val), unlabelled=unlabelled)
    assert torch.equal(shown, more[:20])
    left_out = "unlabelled: of 25 samples, 3 are in train, 2 are in val, too, to the last bit, and were left out"
    assert left_out in said
    with pytest.raises(InputError, match="all of its 6 samples are in train or val, too; give others"):
        nas_kd.distill(Small(), Small(), train=wrap(*train), val=wrap(*val), unlabelled=x[8:14], epochs=1)


def test_modules_bring_bytes_of_datasets_into_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 255, (60, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y, unit = torch.arange(20) % 2, pixels / 255
    for more in (Items(pixels[20:]), pixels[20:]):
        shown, _ = shown_unlabelled(monkeypatch, train=Items(pixels[:20], y), unlabelled=more)
        assert torch.equal(shown, pixels[20:].float())
    with pytest.raises(InputError, match="unlabelled: x is float32, x of train uint8; store both in the same units"):
        nas_kd.distill(Small(), Small(), train=Items(pixels[:20], y), unlabelled=Items(unit[20:]), epochs=1)
    with pytest.raises(InputError, match="unlabelled: x is uint8, x of train float32; store both in the same units"):
        nas_kd.distill(Small(), Small(), train=Items(unit[:20], y), unlabelled=Items(pixels[20:]), epochs=1)


class OfTokens(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = torch.nn.Embedding(50, 8), torch.nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.table(x).mean(dim=1))
        return logits


def test_modules_refuse_unlabelled_token_ids() -> None:
    tokens, y = torch.randint(0, 50, (40, 6)), torch.arange(20) % 2
    for train in ((tokens[:20], y), Items(tokens[:20], y)):
        with pytest.raises(InputError, match="samples of train are token ids"):
            nas_kd.distill(OfTokens(), OfTokens(), train=train, unlabelled=tokens[20:], epochs=1)


def test_the_first_generation_learns_from_full_batches_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no teacher: unlabelled rows would take the place of labels that it could learn from."""
    x, y, more = a_problem()
    sizes: dict[str, set[tuple[int, int]]] = {}
    loss = Training.loss

    def watched(self: Training, student: Any, teachers: Any, batch: Any) -> Any:
        sizes.setdefault(self.method.name, set()).add((len(batch.x), len(batch.y)))
        return loss(self, student, teachers, batch)

    monkeypatch.setattr(Training, "loss", watched)
    nas_kd.distill(
        Small(), train=(x, y), unlabelled=more, unlabelled_share=0.5, method="born_again", epochs=2, batch_size=8
    )
    assert sizes == {"none": {(8, 8)}, "born_again": {(8, 4)}}


def test_samples_given_in_python_join_data_given_in_python() -> None:
    x, _, more = a_problem()
    data, files = with_unlabelled((torch.cat([x, more]), (torch.cat([x, more])[:, 0] > 0).long()), more + 1)
    assert files is None
    found = load_dataset(DataOptions(**data_options(data)), 0).unlabelled
    assert found is not None
    assert torch.equal(found.x, more + 1)
    assert with_unlabelled("digits", "more/") == ("digits", "more/")
    with pytest.raises(InputError, match="with files, give a path"):
        with_unlabelled("digits", more)


def a_function() -> dict[str, Any]:
    raise AssertionError("it was called")


def test_samples_given_in_python_beside_other_data_join_them_or_are_refused() -> None:
    x, y, more = a_problem()
    raw = RawData("mine", Arrays(x, y))
    joined, files = with_unlabelled(raw, more)
    assert files is None
    assert np.array_equal(joined.unlabelled, more.numpy())
    assert with_unlabelled(a_function, "more/") == (a_function, "more/")
    for given in (a_function, InMemorySource(raw), InMemorySource):
        with pytest.raises(InputError, match=r"a function or a source returns unlabelled samples by itself"):
            with_unlabelled(given, more)
    twice = ({"train": (x, y), "unlabelled": more}, joined, {"source": "digits", "unlabelled": "more/"})
    for data, unlabelled in product(twice, (more, "other/")):
        with pytest.raises(InputError, match="are given twice: in data, and as unlabelled"):
            with_unlabelled(data, unlabelled)


class Endless(torch.utils.data.Dataset[Any]):
    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.zeros(4)


def test_a_dataset_without_a_length_is_refused_in_one_line() -> None:
    x, y, _ = a_problem()
    with pytest.raises(InputError, match="unlabelled is a Dataset without a length; give one with __len__"):
        nas_kd.distill(Small(), Small(), train=(x, y), unlabelled=Endless(), epochs=1)


class ReadsLabels(nas_kd.Method):
    """Reads the labels without saying so."""

    name, source, summary = "reads_labels", "this test", "reads labels"
    teachers = "one"

    def forward(self, student: Any, teachers: Any, batch: Any) -> dict[str, torch.Tensor]:
        right = student.logits.argmax(dim=1) == batch.y
        return {"reads_labels": (student.logits - teachers[0].logits).square().mean(dim=1)[~right].sum()}


class SaysSo(ReadsLabels):
    name = "says_so"
    needs = frozenset({"logits", "labels"})


def test_a_method_that_reads_labels_without_saying_so_is_told_what_to_declare() -> None:
    x, y, more = a_problem()
    given = {"train": (x, y), "unlabelled": more, "epochs": 1, "batch_size": 16}
    with pytest.raises(InputError) as caught:
        nas_kd.distill(Small(), Small(), method=ReadsLabels, **given)
    assert "method 'reads_labels' failed on a batch with unlabelled samples" in str(caught.value)
    assert 'must have "labels" in `needs`' in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="would not learn from unlabelled samples"):
        nas_kd.distill(Small(), Small(), method=SaysSo, **given)
    nas_kd.distill(Small(), Small(), method=Combined([make_method("soft_targets"), SaysSo()]), **given)


def test_scoring_a_file_reads_labelled_samples_alone(digits: Path, tmp_path: Path) -> None:
    """Options that are for the unlabelled files stay valid, although these are not read."""
    onnx.save(linear_classifier(np.zeros((64, 10), np.float32), np.zeros(10, np.float32)), tmp_path / "t.onnx")
    options = {"unlabelled": tmp_path / "missing", "on_error": "skip", "image_column": "image"}
    found = nas_kd.evaluate(tmp_path / "t.onnx", config_of(digits, data=options))
    assert found.accuracy.samples > 0


@pytest.mark.usefixtures("brief_measurements")
def test_a_search_reports_what_taught(digits: Path, tmp_path: Path) -> None:
    teacher = {"space": "resnet", "epochs": 3, "architecture": small_config().teacher[0].architecture}
    config = config_of(
        digits,
        teacher=[teacher],
        distill={"methods": ["soft_targets", "none"], "epochs": 1, "batch_size": 64, "probe_minutes": 0},
        chain={"max_assistants": 0},
        search={"trials": 2, "rungs": 1, "sampler": "random", "workers": 2},
        finalists={"max": 1, "seeds": 1, "controls": True},
    )
    run = nas_kd.search(config, run_dir=tmp_path / "run")
    assert run.state == "finished"
    record = run.record.dataset
    assert record is not None
    assert record.n_unlabelled == 1797 - LABELLED
    assert record.unlabelled_duplicates == {"train": record.n_train, "val": record.n_val, "test": record.n_test}
    report = (tmp_path / "run/report/report.md").read_text()
    assert f"{record.n_unlabelled:,} samples without labels took 56 of the 64 samples of each batch" in report
    again = nas_kd.search(config, run_dir=tmp_path / "run")
    assert again.winner.id == run.winner.id
    np.save(tmp_path / "other.npy", np.load(digits)[: LABELLED + 50])
    other = config.model_copy(update={"data": config.data.model_copy(update={"unlabelled": tmp_path / "other.npy"})})
    with pytest.raises(InputError, match="other samples or labels"):
        nas_kd.search(other, run_dir=tmp_path / "run")
