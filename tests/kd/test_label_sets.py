"""A teacher of other classes than the data's: what students learn from it, what is refused, and what is said of it."""

import json
from copy import deepcopy
from math import log
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

import nas_kd
from nas_kd.commands.distill import distill_one
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig, TeacherOptions
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.label_heads import HEAD, methods_of_any_classes
from nas_kd.errors import InputError
from nas_kd.kd.config_checks import checked_config
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.methods.combine import make_method
from nas_kd.methods.response.soft_targets import SoftTargets
from nas_kd.report import write_report
from nas_kd.testing.toy_networks import PatchNet, with_opinions
from tests.commands.test_onnx_teacher_run import Notes
from tests.small_runs import distiller_of, open_context, plain_candidate, small_config

HERE = "tests.kd.test_label_sets:"
K = 3  # classes of the teacher; the digits have 10
REFUSED = ("dkd", "adversarial_logits", "dafl", "dist", "average_teachers+similarity")


class Scaled(nn.Module):
    """A transformer of K classes, on pixels 0..255."""

    def __init__(self) -> None:
        super().__init__()
        self.body = PatchNet(12, K, depth=3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x / 255)
        return out


def make() -> nn.Module:
    return Scaled()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("other") / "w.safetensors"
    save_model(with_opinions(Scaled()), str(path))
    return path


def config_of(
    weights: Path, *methods: str, label_set: str = "other", fine_tune: str = "auto", **sections: Any
) -> SearchConfig:
    teacher = {"factory": f"{HERE}make", "weights": weights, "label_set": label_set, "fine_tune": fine_tune}
    return small_config(
        teacher=[teacher], distill={"methods": list(methods), "epochs": 2}, chain={"max_assistants": 0}, **sections
    )


def no_costs(_onnx: bytes, costs: Any) -> Any:
    return costs


@pytest.mark.parametrize("name", ["soft_targets", "logits", "irg", "soft_targets+similarity"])
def test_logits_are_learnt_by_a_head_that_is_dropped(name: str, weights: Path, tmp_path: Path) -> None:
    context = open_context(config_of(weights, name), tmp_path)
    (ready,) = prepare_teachers(context, no_costs)
    distiller = distiller_of(context, [ready.teacher])
    training = distiller.untrained(name, context.space.size_ladder(6)[0])
    first = training.method.parts()[0]
    head = getattr(first, HEAD)
    assert (head.out_features, training.method.ce_weight, first.ce_weight) == (K, 1.0, 1.0)
    assert all(p in set(training.method.trained()) for p in head.parameters())
    before = head.weight.detach().clone()
    training.run(until=1)
    assert not torch.equal(head.weight, before)
    (student,) = training.averaged_students()
    assert not any(HEAD in key for key in student.state_dict())
    assert student(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_the_terms_are_those_of_the_heads_logits(weights: Path, tmp_path: Path) -> None:
    """T^2 KL between the teacher's probabilities and those of W e + b, e the student's embedding."""
    context = open_context(config_of(weights, "soft_targets"), tmp_path)
    (ready,) = prepare_teachers(context, no_costs)
    training = distiller_of(context, [ready.teacher]).untrained("soft_targets", context.space.size_ladder(6)[0])
    head, t, seen = training.method.label_head, training.method.temperature, []
    training.method.register_forward_pre_hook(lambda _, given: seen.append((given, deepcopy(head))))
    training.run(until=1)
    (student, teachers, batch), at_that_step = seen[-1]
    assert student.logits.shape == teachers[0].logits.shape == (len(batch.y), K)
    z = student.embedding @ at_that_step.weight.T + at_that_step.bias
    assert torch.allclose(z, student.logits, atol=1e-5)
    p, q = (x.detach().double().div(t).softmax(1).tolist() for x in (teachers[0].logits, student.logits))
    by_hand = sum(pc * (log(pc) - log(qc)) for pi, qi in zip(p, q, strict=True) for pc, qc in zip(pi, qi, strict=True))
    (term,) = training.method(student, teachers, batch).values()
    assert term.item() == pytest.approx(0.9 * t**2 * by_hand / len(p), rel=1e-3)


def test_a_training_goes_on_where_it_stopped_to_the_bit(weights: Path, tmp_path: Path) -> None:
    context = open_context(config_of(weights, "soft_targets"), tmp_path)
    (ready,) = prepare_teachers(context, no_costs)

    def fresh() -> Any:
        return distiller_of(context, [ready.teacher]).untrained("soft_targets", context.space.size_ladder(6)[0])

    whole, stopped, resumed = fresh(), fresh(), fresh()
    whole.run()
    stopped.run(until=1)
    assert any(HEAD in key for key in stopped.state())
    resumed.restore({k: v.clone() for k, v in stopped.state().items()})
    resumed.run()
    ours, theirs = whole.state(), resumed.state()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours if k != "progress/seconds")


def test_features_are_learnt_as_from_any_teacher(weights: Path, tmp_path: Path) -> None:
    """Nothing of the classes is read, so that the student is the same, bit for bit, but for the key."""
    states = []
    for label_set in ("other", "same"):
        context = open_context(config_of(weights, "similarity", label_set="other"), tmp_path / label_set)
        (ready,) = prepare_teachers(context, no_costs)
        teacher = ready.teacher
        if label_set == "same":
            teacher = type(teacher)(teacher.model, teacher.key, features=teacher.features, paired=True)
        trained = distiller_of(context, [teacher]).distill(
            plain_candidate(context.space.size_ladder(6)[0], "similarity"), 0, 1
        )
        states.append(trained.model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_compare_class_by_class_are_refused(name: str, weights: Path) -> None:
    config = config_of(weights, name)
    if "average" in name:
        config = config.model_copy(update={"teacher": (*config.teacher, TeacherOptions())})
    with pytest.raises(InputError) as caught:
        checked_config(config)
    first, known = name.split("+", maxsplit=1)[0], ", ".join(methods_of_any_classes())
    which = "the 1. [[teacher]]" if "average" in name else "the teacher"
    assert str(caught.value) == (
        f"method {first!r} needs a teacher of the data's classes, and {which} has other ones "
        f'(label_set = "other"); use one of {known}'
    )
    for other in methods_of_any_classes():
        if "pairs" not in make_method(other).needs:
            checked_config(config_of(weights, other))


def test_once_for_all_is_refused(weights: Path) -> None:
    config = config_of(weights, "soft_targets", search={"strategy": "once-for-all"})
    with pytest.raises(InputError, match=r"^search.strategy = 'once-for-all' trains its network by a teacher [^\n]+$"):
        checked_config(config)


@pytest.mark.parametrize("policy", ["dense", "residual"])
def test_chains_that_mix_teachers_are_refused(policy: str, weights: Path) -> None:
    config = config_of(weights, "soft_targets")
    chain = config.chain.model_copy(update={"max_assistants": 1, "policy": (policy,)})
    with pytest.raises(InputError, match=rf"^chain.policy '{policy}' needs teachers of the data's classes[^\n]+$"):
        checked_config(config.model_copy(update={"chain": chain}))


@pytest.mark.parametrize("options", [{"space": "resnet"}, {"outputs": "o.npz"}])
def test_only_a_given_network_has_classes_of_its_own(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r'label_set = "other" is for a teacher of your own|label_set means nothing'):
        TeacherOptions(label_set="other", **options)
    assert "label_set" in TeacherOptions(factory="memory:x", label_set="other").model_dump(exclude_defaults=True)


def test_without_the_option_the_message_names_it(weights: Path, tmp_path: Path) -> None:
    context = open_context(config_of(weights, "fitnet", label_set="same", fine_tune="never"), tmp_path)
    with pytest.raises(InputError, match=r"the data has 10 classes: .*; if it was trained on other classes, label_set"):
        prepare_teachers(context, no_costs)


def test_a_run_says_that_its_accuracy_does_not_apply(weights: Path, tmp_path: Path) -> None:
    notes = Notes()
    distilled = distill_one(config_of(weights, "soft_targets"), tmp_path / "run", notes)
    assert (distilled.teacher.val, distilled.teacher.test, distilled.teacher.knows_other_classes) == (None, None, True)
    assert any("classes are not the data's" in note for note in notes.notes)
    assert not any("validation was drawn" in note or "better than chance" in note for note in notes.notes)
    file = next((tmp_path / "run").glob("*.onnx"))
    graph = onnx.load(file).graph
    assert [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim][1:] == [10]
    assert not any(HEAD in i.name for i in graph.initializer)
    card = json.loads(next((tmp_path / "run").glob("card.json")).read_text())
    assert card["teacher"]["val"] is None
    assert "not applicable" in (tmp_path / "run/README.md").read_text()


def test_modules_in_python() -> None:
    x, y = torch.rand(64, 1, 8, 8), torch.arange(64) % 4
    torch.manual_seed(1)
    teacher = with_opinions(PatchNet(12, K, depth=3))

    def student() -> nn.Module:
        torch.manual_seed(2)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))

    given = {"module": teacher, "label_set": "other"}
    taught = nas_kd.distill(student(), given, train=(x, y), method="soft_targets", epochs=2, threads=1)
    assert taught(x).shape == (64, 4)
    method = SoftTargets()  # which keeps nothing of one training for the next
    nas_kd.distill(student(), given, train=(x, y), method=method, epochs=1, threads=1)
    assert method.ce_weight == 1
    nas_kd.distill(student(), student(), train=(x, y), method=method, epochs=1, threads=1)
    assert method.ce_weight == SoftTargets.ce_weight
    with pytest.raises(InputError, match="student gives 4 logits, teacher 3"):
        nas_kd.distill(student(), teacher, train=(x, y), method="soft_targets", epochs=1)
    with pytest.raises(InputError, match=r"^.*'dkd' needs a teacher of the data's classes"):
        nas_kd.distill(student(), given, train=(x, y), method="dkd", epochs=1)


def test_a_search_has_no_score_to_compare_with(weights: Path, tmp_path: Path) -> None:
    config = config_of(
        weights,
        "soft_targets",
        "similarity",
        search={"trials": 2, "rungs": 1},
        finalists={"max": 1, "seeds": 1, "controls": False},
    )
    search(config, tmp_path, Notes())
    front = json.loads((tmp_path / "front.json").read_text())
    assert front["teacher"]["accuracy"] == dict.fromkeys(
        ("val", "val_low", "val_high", "test", "test_low", "test_high")
    )
    assert (front["teacher"]["label_set"], front["hypervolume"]) == ("other", None)
    assert front["winner"] is not None
    write_report(read_run(RunFolder(tmp_path)), tmp_path / "report")
    assert "Its classes are not the data's" in (tmp_path / "report/report.md").read_text()
