"""A teacher that cannot be exported teaches all the same: its size and latency are unknown, everywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nas_kd.api.run import Run
from nas_kd.cli.console import ConsoleCallback
from nas_kd.commands.search import search
from nas_kd.data.prepare import load_dataset
from nas_kd.kd.teachers import load_teachers
from tests.kd.odd_modules import Plain
from tests.small_runs import open_context, small_config


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `Plain`, trained on the digits for a moment."""
    path, data = tmp_path_factory.mktemp("weights") / "plain.safetensors", load_dataset(small_config().data, 0)
    torch.manual_seed(0)
    model = Plain()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(6):
        for part in torch.split(torch.randperm(len(data.train)), 64):
            loss = torch.nn.functional.cross_entropy(model(data.train.x[part].float()), data.train.y[part])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    save_file(model.state_dict(), path)
    return path


def config_of(weights: Path, **sections: Any) -> Any:
    return small_config(
        teacher=[{"factory": "tests.kd.odd_modules:Unexportable", "weights": weights}],
        distill={"methods": ["soft_targets"], "epochs": 1, "batch_size": 64, "probe_minutes": 0},
        chain={"max_assistants": 0},
        search={"trials": 2, "rungs": 1, "sampler": "random"},
        finalists={"max": 1, "seeds": 1, "controls": False},
        **sections,
    )


@pytest.mark.usefixtures("brief_measurements")
def test_a_search(weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, folder = config_of(weights), tmp_path / "run"
    with ConsoleCallback(config) as console:
        run = search(config, folder, console)
    assert run.teacher is not None
    assert run.teacher.costs.size_bytes is None
    assert run.teacher.costs.latency_ms is None
    assert run.teacher.test is not None
    assert run.teacher.test.mean > 0.8
    front = json.loads((folder / "front.json").read_text())
    assert front["teacher"]["size_bytes"] is front["teacher"]["latency_ms"] is front["hypervolume"] is None
    assert front["winner"]
    Run.read(folder).write_report()
    shown = capfd.readouterr()
    lines = (shown.out + shown.err).splitlines()
    assert not any("graph(" in line or "Warning" in line for line in lines)
    (note,) = [line for line in lines if "its size and latency are unknown" in line]
    assert note == (
        "note: teacher: its size and latency are unknown, as the network cannot be exported to ONNX: Exporting the "
        "operator 'aten::special_bessel_j0' to ONNX opset version 17 is not supported; all else goes on as usual"
    )
    assert any(line.endswith("size and latency unknown") for line in lines)
    assert not any("hypervolume" in line for line in lines)


def test_workers_load_it(weights: Path, tmp_path: Path) -> None:
    (teacher,) = load_teachers(open_context(config_of(weights), tmp_path / "run"))
    assert teacher.parameters == sum(p.numel() for p in Plain().parameters())
