"""Networks of a space that start from pretrained weights, as far as names and shapes fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError
from nas_kd.kd.choose_recipe import student_recipe_key, teacher_recipe_key
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder, note_start
from nas_kd.kd.pretrained_start import PretrainedStart, class_tensors
from nas_kd.models.search_space import load_space
from tests.small_runs import TrainingLog, plain_candidate, small_config


class Notes(Callback):
    def __init__(self) -> None:
        self.said: list[str] = []

    def on_note(self, text: str) -> None:
        self.said.append(text)


def published(folder: Path, n_classes: int, prefix: str = "") -> Path:
    """A file of the largest network of space resnet, with weights that no start at random has."""
    space = load_space("resnet")
    torch.manual_seed(7)
    state = space.build(space.size_ladder(2)[-1], (1, 8, 8), n_classes).state_dict()
    path = folder / "published.safetensors"
    save_file({prefix + name: t.contiguous() for name, t in state.items()}, path)
    return path


def context_of(folder: Path, weights: Path | None, callback: Callback | None = None) -> RunContext:
    config = small_config(space={"weights": weights}, search={"rungs": 1})
    return RunContext.prepare(config, RunFolder(folder / "run"), callback or Callback())


def body(network: nn.Module) -> dict[str, Tensor]:
    return {n.removeprefix("body."): t for n, t in network.state_dict().items() if n.startswith("body.")}


@pytest.mark.parametrize("prefix", ["", "body.", "model.module."])
def test_students_start_from_leading_parts(tmp_path: Path, prefix: str) -> None:
    path = published(tmp_path, 100, prefix)
    context = context_of(tmp_path, path)
    builder, random = NetworkBuilder.for_run(context), NetworkBuilder(context.data, context.space)
    small = context.space.size_ladder(6)[2]
    got, fresh, file = body(builder.build(small, 3)), body(random.build(small, 3)), load_file(path)
    stem = "stem.conv.weight"
    width = len(got[stem])
    assert torch.equal(got[stem], file[prefix + stem][:width])
    assert not torch.equal(got[stem], fresh[stem])
    assert torch.equal(got["classifier.weight"], fresh["classifier.weight"])  # the file's is of 100 classes


def test_a_head_of_as_many_classes_is_taken(tmp_path: Path) -> None:
    path = published(tmp_path, 10)
    context = context_of(tmp_path, path)
    small = context.space.size_ladder(6)[2]
    got = body(NetworkBuilder.for_run(context).build(small, 3))["classifier.weight"]
    assert torch.equal(got, load_file(path)["classifier.weight"][:, : got.shape[1]])


def test_networks_of_other_spaces_start_at_random(tmp_path: Path) -> None:
    context, other = context_of(tmp_path, published(tmp_path, 10)), load_space("mobilenet")
    assert NetworkBuilder.for_run(context, other).start is None
    builder, architecture = NetworkBuilder.for_run(context), other.size_ladder(3)[0]
    random = NetworkBuilder(context.data, other).build(architecture, 0).state_dict()
    assert all(torch.equal(t, random[n]) for n, t in builder.build(architecture, 0).state_dict().items())


def test_it_is_said_once_and_refused_where_nothing_fits(tmp_path: Path) -> None:
    notes = Notes()
    context = context_of(tmp_path, published(tmp_path, 100))
    note_start(NetworkBuilder.for_run(context), notes)
    (said,) = notes.said
    assert said.startswith("networks of space 'resnet' start from published.safetensors: the ")
    assert "all but 2 (classifier.weight, classifier.bias), which stay random" in said
    other = tmp_path / "other.safetensors"
    save_file({"encoder.weight": torch.ones(3, 3)}, other)
    with pytest.raises(InputError, match=r"none of its 1 tensors \(encoder.weight, ...\) has the name") as caught:
        note_start(NetworkBuilder.for_run(context_of(tmp_path, other)), notes)
    assert "\n" not in str(caught.value)
    note_start(NetworkBuilder.for_run(context_of(tmp_path, None)), notes)
    assert len(notes.said) == 1


def test_weights_are_part_of_keys(tmp_path: Path) -> None:
    context, plain = context_of(tmp_path, published(tmp_path, 10)), context_of(tmp_path, None)
    assert student_recipe_key(context, []) != student_recipe_key(plain, [])
    teacher = context.config.teacher[0]
    start = NetworkBuilder.for_run(context).start
    assert teacher_recipe_key(context, teacher, 0, start) != teacher_recipe_key(plain, teacher, 0)


def test_a_training_starts_from_them(tmp_path: Path) -> None:
    path = published(tmp_path, 10)
    context = context_of(tmp_path, path)
    candidate = plain_candidate(context.space.size_ladder(6)[1])
    keys = []
    for one in (context, context_of(tmp_path, None)):
        distiller = Distiller.for_run(one, NetworkBuilder.for_run(one))
        log = TrainingLog(distiller)
        keys.append(distiller.distill(candidate, 0, 1).key)
        first = log.initial_weights[0]["body.stem.conv.weight"]
        assert torch.equal(first, load_file(path)["stem.conv.weight"][: len(first)]) == (one is context)
    assert len(set(keys)) == 2


def test_tensors_of_the_head() -> None:
    one, other = (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, n)) for n in (3, 4))
    assert class_tensors(one, other) == {"1.weight", "1.bias"}


def test_only_what_is_of_its_kind_is_taken() -> None:
    start = PretrainedStart("any", "f", "", {"weight": torch.ones(2, 2, dtype=torch.int64), "bias": torch.ones(3)})
    layer = nn.Linear(2, 2)
    assert start.give_to(layer, ()).random == ("weight",)
    assert torch.equal(layer.bias, torch.ones(2))
