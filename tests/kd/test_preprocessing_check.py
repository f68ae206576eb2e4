"""A teacher that is shown samples in the wrong units is found out, and which units fit."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_kd.api.in_memory import teacher_options
from nas_kd.config.options import DataOptions, SearchConfig, TeacherOptions
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.dataset import Split
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.preprocessing_check import CLEAR_GAIN, CheckedSamples, better_preprocessing, evenly_spread
from nas_kd.kd.teacher_inputs import SampleFacts, TeacherInputs
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.models.wrappers import Normalized
from nas_kd.nas.gate import Gate
from nas_kd.results.run_record import TeacherRecord
from tests.small_runs import small_config

pytestmark = pytest.mark.usefixtures("brief_measurements")


class Sine(nn.Module):
    """An activation that makes a network sensitive to the scale of its inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(2 * x)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A network of pixels in 0..1 that is right about most digits."""
    data = load_dataset(DataOptions(source="digits"), 0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), Sine(), nn.Linear(48, 10))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(12):
        for rows in torch.randperm(len(data.train)).split(64):
            loss = nn.functional.cross_entropy(net(data.train.x[rows].float() / 255), data.train.y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def wants(net: nn.Module, mean: float, std: float) -> nn.Module:
    """The same network, for samples (x - mean) / std of pixels in 0..1."""
    return Normalized(net, torch.tensor([-mean / std]), torch.tensor([1 / std]))


class Notes(Callback):
    """Keeps notes and records."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.records: list[TeacherRecord] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_teacher(self, record: TeacherRecord) -> None:
        self.records.append(record)


def prepared(folder: Path, *teachers: object) -> Notes:
    config = small_config().model_dump()
    config["teacher"] = [options for given in teachers for options in teacher_options(given)]
    callback = Notes()
    context = RunContext.prepare(SearchConfig.model_validate(config), RunFolder(folder), callback)
    callback.notes.clear()
    prepare_teachers(context, Gate(context, NetworkBuilder(context.data, context.space)).of_file)
    return callback


@pytest.mark.parametrize(
    ("wanted", "given", "says"),
    [
        ((0.0, 1.0), (-0.5, 1.0), 'teacher.preprocessing = "unit"'),
        ((0.5, 0.5), (0.0, 0.5), "teacher.mean = 0.5 and teacher.std = 0.5"),
    ],
)
def test_a_warning_says_what_fits_and_a_resumed_run_says_the_same(
    wanted: tuple[float, float], given: tuple[float, float], says: str, net: nn.Module, tmp_path: Path
) -> None:
    teacher = {"module": wants(net, *wanted), "mean": given[0], "std": given[1]}
    first = prepared(tmp_path, teacher)
    drawn, note = first.notes
    assert drawn.startswith("teacher: validation was drawn from the training samples: if it was trained")
    assert re.fullmatch(
        r"teacher: the preprocessing is probably wrong: accuracy [\d.]+% on 97 validation and 159 training samples "
        rf"as it is, [\d.]+% with {says}",
        note,
    )
    assert first.records[0].advice == note.removeprefix("teacher: ")
    assert prepared(tmp_path, teacher).notes == first.notes


def test_training_samples_fill_up_a_validation_split_of_18(net: nn.Module) -> None:
    """18 samples alone cannot show it, by the exact test and the interval."""
    data = load_dataset(DataOptions(source="digits"), 0)
    few = replace(data, val=Split(data.val.x[:18], data.val.y[:18]))
    inputs = TeacherInputs.of(TeacherOptions(factory="a:b", weights=Path("w"), mean=0.5, std=0.5), SampleFacts.of(few))
    options = TeacherOptions(factory="a:b", weights=Path("w"), mean=0.0, std=0.3)
    wanted = wants(net, 0.0, 1.0)

    def behind(other: TeacherOptions) -> nn.Module:
        return inputs.like(other).in_front_of(wanted)

    said = better_preprocessing(options, behind, CheckedSamples.of(few))
    assert said is not None
    assert re.search(r"accuracy [\d.]+% on 18 validation and 238 training samples as it is, .* with teacher\.", said)
    assert said == better_preprocessing(options, behind, CheckedSamples.of(few))


def test_enough_validation_samples_are_not_filled_up() -> None:
    x, y = torch.arange(300).float().reshape(-1, 1), torch.arange(300) % 2
    assert CheckedSamples.filled_up((x, y), (x, y)).description == "256 validation samples"
    few = CheckedSamples.filled_up((x[:6], y[:6]), (x, y))
    assert (few.description, len(few.x), len(few.y)) == ("6 validation and 250 training samples", 256, 256)
    assert few.x[:6].equal(x[:6])
    assert few.x[6:].equal(x[evenly_spread(300, 250)])
    assert CheckedSamples.filled_up(None, (x[:9], y[:9])).description == "9 training samples"
    assert CheckedSamples.filled_up((x[:6], y[:6]), None).description == "6 validation samples"
    longer = torch.zeros(300, 2)  # a network with pooling takes samples of several sizes
    assert CheckedSamples.filled_up((x[:6], y[:6]), (longer, y)).description == "6 validation samples"


def test_no_warning_where_it_is_right(net: nn.Module, tmp_path: Path) -> None:
    callback = prepared(
        tmp_path, {"module": net, "preprocessing": "unit"}, {"module": wants(net, 0.5, 0.5), "mean": 0.5, "std": 0.5}
    )
    assert not [note for note in callback.notes if "preprocessing" in note]
    assert [record.advice for record in callback.records] == [None, None]


def test_a_teacher_no_better_than_chance_is_refused_with_what_fits(net: nn.Module, tmp_path: Path) -> None:
    wrong = {"module": wants(net, 0.0, 1.0), "mean": 0.9, "std": 0.001}
    with pytest.raises(InputError, match=r"no better than chance: .*; the preprocessing is probably .* = \"unit\""):
        prepared(tmp_path, wrong)


def test_what_is_not_clear_is_not_said() -> None:
    """A few samples, or a small gain, show nothing."""
    y = torch.arange(200) % 2

    def behind(right: dict[str, int]) -> object:
        def made(options: object) -> nn.Module:
            n = right[getattr(options, "preprocessing", "raw")]
            return Answers(torch.where(torch.arange(200) < n, y, 1 - y))

        return made

    def said(given: int, other: int, n: int = 200) -> str | None:
        right = {"raw": given, "unit": other, "normalized": given}
        x = torch.arange(200).float().reshape(-1, 1)
        samples = CheckedSamples(x[:n], y[:n], "samples")
        return better_preprocessing(TeacherOptions(), behind(right), samples)  # type: ignore[arg-type]

    assert said(100, 150) is not None
    assert said(100, 100 + int(200 * CLEAR_GAIN) - 1) is None
    assert said(1, 4, n=5) is None
    assert said(195, 200) is None
    assert said(150, 100) is None


class Answers(nn.Module):
    """Looks the answers of numbered samples up."""

    def __init__(self, answers: torch.Tensor) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(self.answers[x[:, 0].long()], 2).float()


def test_samples_are_spread() -> None:
    assert evenly_spread(3).tolist() == [0, 1, 2]
    rows = evenly_spread(1000)
    assert (len(rows), int(rows[0]), int(rows[-1])) == (256, 0, 999)


def test_what_is_no_better_than_chance_is_not_recommended() -> None:
    class Shift(nn.Module):
        """Names class 1 for small values, class 0 for large ones: of these samples, all have one value."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            level = x.flatten(1).mean(1)
            return torch.stack([level - 2.0, 2.0 - level], 1)

    x, y = torch.full((200, 1, 4, 4), 100.0), (torch.arange(200) % 5 < 3).long()
    options = TeacherOptions(factory="nets:make", weights=Path("w.safetensors"))
    behind = {"raw": Shift(), "unit": Normalized(Shift(), torch.zeros(1), torch.full((1,), 255.0))}
    assert better_preprocessing(options, lambda o: behind[o.preprocessing], CheckedSamples(x, y, "samples")) is None
