"""A teacher that is trained together with cuts of itself before the search: when it is used, and what depends on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import nas_kd
from nas_kd.commands.search import search
from nas_kd.commands.step_timing import StepTimes
from nas_kd.commands.time_estimate import SearchCostModel
from nas_kd.commands.training_costs import student_friendly_cost
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.kd import training_job
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.own_space import with_own_space
from nas_kd.kd.teachers import load_teachers
from nas_kd.kd.training_work import STEP_WORK, TrainingWork
from nas_kd.models.derived.derived_space import DerivedSpace
from nas_kd.models.subnetwork import kept_parts
from nas_kd.nas.search_plan import SupernetPlan
from nas_kd.nas.supernet import student_friendly_plan
from nas_kd.nas.supernet.student_friendly import StudentFriendly, student_friendly
from nas_kd.nas.supernet.student_friendly_plan import StudentFriendlyPlan
from nas_kd.report.number_format import MINUS, NBSP
from nas_kd.report.training_facts import training_facts
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.student_friendly_record import BeforeAfter, CutComparison, Outcome, StudentFriendlyRecord
from tests.records import costs, run, teacher
from tests.small_runs import SMALL_TEACHER, Seed, small_config

pytestmark = pytest.mark.usefixtures("brief_measurements")
EPOCHS = 3


@pytest.fixture(autouse=True)
def _short() -> Iterator[None]:
    """Few cuts, a learning rate for thirty steps, and a comparison whose outcome is the same on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student_friendly_plan, "POOL_SIZE", 6)
        patch.setattr(student_friendly_plan, "LEARNING_RATE", 5e-3)
        patch.setattr(student_friendly_plan, "COMPARED_COSTS", (0.2,))
        yield


def config_of(epochs: int = EPOCHS, **sections: Any) -> SearchConfig:
    options: dict[str, Any] = {
        "space": {"name": "own"},
        "teacher": {**SMALL_TEACHER, "student_friendly_epochs": epochs},
        "chain": {"max_assistants": 0},
        "distill": {"methods": ["soft_targets"], "epochs": 1},
        "search": {"trials": 2, "rungs": 1},
        "finalists": {"max": 1, "seeds": 1, "controls": False},
    }
    return small_config(**(options | sections))


class Heard(Callback):
    """Keeps notes and epochs of this training, and stops it after a given one."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.notes: list[str] = []
        self.epochs: list[int] = []
        self._stop_at = stop_at

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_progress(self, what: str, done: int, total: int) -> None:
        if what.startswith("training the teacher and its cuts"):
            self.epochs.append(done)
            if done == self._stop_at:
                raise KeyboardInterrupt


def adjust(config: SearchConfig, folder: Path, heard: Callback | None = None) -> tuple[RunContext, StudentFriendly]:
    """The context with the space of the teacher as it was, and what became of the teacher."""
    context = RunContext.prepare(config, RunFolder(folder), heard or Callback(), check_device=False)
    (original,) = load_teachers(context)
    context = with_own_space(context, [original])
    found = student_friendly(context, original)
    assert found is not None
    return context, found


def weights(of: Teacher) -> dict[str, torch.Tensor]:
    return dict(of.model.state_dict())


def test_it_teaches_and_is_cut_where_that_pays(tmp_path: Path, with_teachers: Seed) -> None:
    folder = with_teachers(tmp_path / "run")
    heard = Heard()
    before, found = adjust(config_of(), folder, heard)
    record, space, original = found.record, found.context.space, load_teachers(before)[0]
    assert heard.epochs == [1, 2, 3]
    assert (record.outcome, record.epochs, record.networks_per_step) == ("kept", EPOCHS, 4)
    (cut,) = record.cuts
    assert cut.cost == pytest.approx(0.2, abs=0.03)
    assert cut.distilled is not None
    assert min(cut.inherited.gain.mean, cut.distilled.gain.mean) > 0.1
    assert record.student_epochs == 1
    assert found.teacher.key != original.key
    assert found.teacher.description.endswith("student-friendly")
    assert isinstance(space, DerivedSpace)
    assert isinstance(before.space, DerivedSpace)
    assert space.identity != before.space.identity
    shape, classes = before.data.input_shape, before.data.n_classes
    small = space.size_ladder(5)[1]
    whole = weights(found.teacher)
    part, part_before = (of.build(small, shape, classes) for of in (space, before.space))
    kept, kept_before = (kept_parts(network) for network in (part, part_before))
    assert kept.keys() == kept_before.keys()
    for name, tensor in part.state_dict().items():  # of the same channels as before, the new weights
        known = kept_before.get(name)
        assert torch.equal(tensor, whole[name] if known is None else known.select(whole[known.tensor]))
    assert not any(torch.equal(p, part_before.get_parameter(n)) for n, p in part.named_parameters())
    again = Heard()  # a worker, or the same run later
    _, known = adjust(config_of(), folder, again)
    assert not again.epochs
    assert known.record == record
    assert known.teacher.key == found.teacher.key
    assert all(torch.equal(t, whole[name]) for name, t in weights(known.teacher).items())


def test_a_killed_training_goes_on(tmp_path: Path, with_teachers: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_job, "CHECKPOINT_EVERY_S", 0.0)
    _, whole = adjust(config_of(), with_teachers(tmp_path / "whole"))
    folder = with_teachers(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        adjust(config_of(), folder, Heard(stop_at=2))
    heard = Heard()
    _, resumed = adjust(config_of(), folder, heard)
    assert heard.epochs == [2, 3]
    assert resumed.teacher.key == whole.teacher.key
    assert all(torch.equal(t, weights(resumed.teacher)[name]) for name, t in weights(whole.teacher).items())
    clock = {"seconds": 0.0, "compared_s": 0.0}
    assert resumed.record.model_copy(update=clock) == whole.record.model_copy(update=clock)
    assert not list((folder / "store").glob("checkpoint/*/*.safetensors"))


@pytest.mark.parametrize(("learning_rate", "outcome"), [(1e-9, "no cut better"), (1.0, "teacher worse")])
def test_the_teacher_stays_as_it_was_where_it_does_not_pay(
    tmp_path: Path, with_teachers: Seed, monkeypatch: pytest.MonkeyPatch, learning_rate: float, outcome: str
) -> None:
    monkeypatch.setattr(student_friendly_plan, "LEARNING_RATE", learning_rate)
    context, found = adjust(config_of(1), with_teachers(tmp_path / "run"))
    assert found.record.outcome == outcome
    assert found.context is context
    assert found.teacher.key == load_teachers(context)[0].key


def score(mean: float, half: float = 0.01) -> Accuracy:
    return Accuracy(mean=mean, low=mean - half, high=mean + half, samples=100)


def change(gain: float) -> BeforeAfter:
    return BeforeAfter(before=score(0.9), after=score(0.9 + gain), gain=score(gain))


def record_of(gain: float, inherited: tuple[float, ...], distilled: tuple[float | None, ...]) -> StudentFriendlyRecord:
    cuts = [
        CutComparison(
            description="inner 8",
            macs=1000,
            cost=0.5,
            inherited=change(before),
            distilled=None if after is None else change(after),
        )
        for before, after in zip(inherited, distilled, strict=True)
    ]
    return StudentFriendlyRecord(
        epochs=4,
        batch_size=32,
        learning_rate=1e-3,
        augment="standard",
        networks_per_step=4,
        macs=1e6,
        seconds=61.0,
        compared_s=2.0,
        teacher=change(gain),
        cuts=tuple(cuts),
        student_epochs=30,
    )


@pytest.mark.parametrize(
    ("gains", "outcome"),
    [
        ((0.0, (0.05, 0.0), (0.02, 0.0)), "kept"),
        ((-0.005, (0.05, -0.005), (0.02, 0.0)), "kept"),  # within the intervals
        ((-0.02, (0.05, 0.05), (None, None)), "teacher worse"),
        ((0.0, (0.05, -0.02), (None, None)), "cut worse"),
        ((0.05, (0.005, 0.0), (None, None)), "no cut better"),
        ((0.0, (0.05, 0.0), (0.02, -0.001)), "student worse"),
        ((0.0, (0.05, 0.0), (0.005, 0.0)), "no student better"),
    ],
)
def test_nothing_may_be_worse_and_cuts_must_be_clearly_better(gains: Any, outcome: Outcome) -> None:
    record = record_of(*gains)
    assert record.outcome == outcome
    assert record.is_kept == (outcome == "kept")
    assert record.is_promising == (None not in gains[2])


def test_what_a_report_says() -> None:
    given = teacher().model_copy(update={"student_friendly": record_of(0.01, (0.05,), (0.02,))})
    text = dict(training_facts(run(teacher=given)))["Student-friendly training of the teacher"]
    text = text.replace(NBSP, " ").replace(MINUS, "-")
    assert text.startswith("Before the search it was trained for 4 epochs together with cuts of itself")
    assert "Its accuracy on validation: 90.0 % before and 91.0 % after, +1.0 (0.0 to +2.0) points." in text
    assert "inner 8 (50 % of its multiply-adds), 90.0 % before and 95.0 % after, +5.0 (+4.0 to +6.0) points." in text
    assert "distilled for 30 epochs: 90.0 % before and 92.0 % after, +2.0 (+1.0 to +3.0) points. It taught" in text
    assert "The training took 1 min 01 s, comparing 2.0 s." in text
    given = teacher().model_copy(update={"student_friendly": record_of(-0.05, (0.05,), (None,))})
    text = dict(training_facts(run(teacher=given)))["Student-friendly training of the teacher"]
    assert "It was clearly worse, so the teacher as it was taught" in text
    assert "distilled" not in text


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"space": {"name": "resnet"}}, "students of space 'resnet' are none"),
        ({"teacher": [{**SMALL_TEACHER, "student_friendly_epochs": 1}, SMALL_TEACHER]}, "for a single teacher"),
        ({"space": {"name": "own", "start": ["fresh"]}}, "begin with the teacher's weights"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        search(config_of(**sections), tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"onnx": "a.onnx"}, "an ONNX file cannot be trained"),
        ({"outputs": "a.npz"}, "means nothing to a teacher that is known by its outputs"),
        ({"space": "resnet", "checkpoints": 2}, "leave out either"),
        ({"space": "resnet", "student_friendly_epochs": -1}, "student_friendly_epochs"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        SearchConfig(teacher={"student_friendly_epochs": 1, **options})
    assert "\n" not in str(caught.value)


def test_its_cost_is_counted(tmp_path: Path, with_teachers: Seed) -> None:
    parts, folder = {}, with_teachers(tmp_path / "run")
    for epochs in (0, 7):
        context = RunContext.prepare(config_of(epochs), RunFolder(folder), Callback(), check_device=False)
        context = with_own_space(context, load_teachers(context))
        builder = NetworkBuilder.for_run(context)
        second = StepTimes(((1, 1.0), (1, 1.0)), {}, outputs_s=0.0, begin_s=0.0, judge_s=0.0)
        model = SearchCostModel(context, builder, second, 0.0, 10**9)
        measured = {a: costs(1000, 0.1) for a in context.space.size_ladder(3)}
        parts[epochs] = model.parts(measured, [10**6])
    steps = context.steps_per_epoch
    low, high = (after - before for after, before in zip(parts[7]["teacher"], parts[0]["teacher"], strict=True))
    assert low == pytest.approx(7 * 4 * steps)
    assert high - low == pytest.approx(2 * context.recipe.epochs * steps)  # a student of each of both teachers
    plan, work = StudentFriendlyPlan.of(context, builder), TrainingWork(builder, 64)
    students = [float(builder.macs(a)) for a in plan.compared]
    counted = student_friendly_cost(7, plan.macs(builder), 3, students, work)
    assert counted == pytest.approx(7 * sum(plan.macs(work)) + 2 * 3 * sum(map(work.macs, plan.compared)))
    assert counted > (7 * 4 + 2 * 3) * STEP_WORK / 64


@pytest.mark.parametrize("strategy", ["trials", "once-for-all"])
def test_a_search_with_it(tmp_path: Path, with_teachers: Seed, monkeypatch: pytest.MonkeyPatch, strategy: str) -> None:
    elastic = {"epochs": 1, "evaluations": 8, "members": 2}
    small = {"pool_size": 4, "ladder_size": 2, "n_sampled": 2, "population": 4}
    plan_of = SupernetPlan.of
    monkeypatch.setattr(
        SupernetPlan, "of", lambda config, epochs: SupernetPlan(**(vars(plan_of(config, epochs)) | small))
    )
    sections = {"search": {"trials": 2, "rungs": 1, "strategy": strategy, "once_for_all": elastic}}
    folder = with_teachers(tmp_path / "run")
    heard = Heard()
    record = search(config_of(**sections), folder, heard)
    assert record.teacher is not None
    friendly = record.teacher.student_friendly
    assert friendly is not None
    assert friendly.is_kept
    assert record.teacher.val_score == friendly.teacher.before  # the report's teacher is the network as it was
    (said,) = [note for note in heard.notes if "together with cuts" in note]
    assert said.startswith("teacher: trained together with cuts of itself for 3 epochs (")
    assert said.endswith("it teaches like this, and students begin with these weights")
    assert record.seconds["teacher"] > friendly.seconds
    assert record.finalists
    assert nas_kd.load_run(folder).winner is not None
    assert "Student-friendly training of the teacher" in dict(training_facts(nas_kd.load_run(folder).record))
