"""What is wrong in a config alone is refused before any data are read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nas_kd.commands.distill import distill_one
from nas_kd.commands.evaluate import evaluate
from nas_kd.commands.profile import profile_space
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.errors import InputError
from tests.onnx_files import linear_classifier

HERE = f"{__name__}:"
NO_FUNCTION = 3


def make() -> nn.Module:
    return nn.Flatten()


def read() -> None:
    """A source that may not be read."""
    raise AssertionError("the data were read")


class Stages(Callback):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def on_stage(self, text: str) -> None:
        self.stages.append(text)


COMMANDS: dict[str, Callable[[SearchConfig, Path, Callback], object]] = {
    "search": search,
    "distill": distill_one,
    "profile": lambda config, _folder, callback: profile_space(config, 2, callback),
}


def refused(command: str, folder: Path, config: dict[str, Any]) -> str:
    """The message; the data were not even begun to be read."""
    stages, given = Stages(), {"data": {"source": f"{HERE}read"}, "distill": {"methods": ["soft_targets"]}} | config
    with pytest.raises(InputError) as caught:
        COMMANDS[command](SearchConfig.model_validate(given), folder, stages)
    assert stages.stages == []
    return str(caught.value)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"teacher": {"factory": f"{HERE}make", "weights": "no.safetensors"}}, "teacher.weights: .*: no such file"),
        (
            {"teacher": {"factory": f"{HERE}make", "weights": "a.pt"}},
            "teacher.weights: .*: not a safetensors file. Pic",
        ),
        (
            {"teacher": {"factory": f"{HERE}make", "weights": "b.bin"}},
            r"teacher.weights: .*: not a safetensors file \(",
        ),
        (
            {"teacher": {"factory": f"{HERE}mak", "weights": "w.safetensors"}},
            "unknown name .* 'mak'; did you mean 'make",
        ),
        ({"teacher": {"factory": "nowhere:f", "weights": "w.safetensors"}}, "cannot import 'nowhere' of 'nowhere:f'"),
        (
            {"teacher": {"factory": f"{HERE}NO_FUNCTION", "weights": "w.safetensors"}},
            "teacher.factory: .* must be a fun",
        ),
        ({"teacher": {"onnx": "no.onnx"}}, "teacher.onnx: .*: no such file"),
        ({"teacher": {"onnx": "b.bin"}}, "b.bin is not an ONNX file"),
        ({"teacher": {"onnx": "t.onnx", "features": ["a"]}}, "teacher.features: an ONNX teacher provides its logits"),
        (
            {"teacher": [{"space": "resnet"}, {"onnx": "no.onnx"}]},
            r"2. \[\[teacher\]\]: teacher.onnx: .*: no such file",
        ),
        ({"teacher": {"space": "resnett"}}, "unknown space 'resnett'; did you mean 'resnet'"),
        ({"space": {"name": "nowhere:Space"}}, "cannot import 'nowhere' of 'nowhere:Space'"),
        ({"device": {"name": "cuda:0"}}, "device 'cuda:0': here the device is where latency is measured"),
        ({"device": {"name": "no.toml"}}, "no.toml: no such file"),
        ({"device": {"name": "http://127.0.0.1:9/cpu-1t", "wait_s": 0}}, "http://127.0.0.1:9"),
        ({"device": {"name": "http://"}}, "http://"),
        (
            {"data": {"source": f"{HERE}read", "unlabelled": "missing"}},
            "data.unlabelled: no such file or folder: missing",
        ),
        ({"data": {"source": f"{HERE}read", "unlabelled": "no.npy"}}, "data.unlabelled: no such file: no.npy"),
        ({"data": {"source": f"{HERE}read", "unlabelled": ["b.bin", "no-*.parquet"]}}, "no such .*no-.*parquet"),
        (
            {"data": {"source": f"{HERE}read", "unlabelled": "b.bin"}, "distill": {"methods": ["none"]}},
            "method none would not learn from unlabelled samples",
        ),
        (
            {"teacher": {"outputs": "b.bin"}, "distill": {"methods": ["born_again+similarity"]}},
            "needs the teacher's features; a teacher given by teacher.outputs provides its logits only",
        ),
        ({"distill": {"methods": ["soft_target"]}}, "unknown method 'soft_target'; did you mean 'soft_targets'"),
        ({"data": {"source": f"{HERE}read", "score": "acuracy"}}, "unknown score 'acuracy'; did you mean 'accuracy'"),
    ],
)
def test_refused_before_data_are_read(
    command: str, config: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_KD_DEVICE_TOKEN", "0123456789abcdef" * 4)
    save_file({"a": torch.zeros(1)}, "w.safetensors")
    torch.save({"a": torch.zeros(1)}, "a.pt")
    Path("b.bin").write_bytes(b"nothing of the kind")
    onnx.save(linear_classifier(torch.zeros(64, 10).numpy(), torch.zeros(10).numpy()), "t.onnx")
    assert re.search(message, refused(command, tmp_path / "run", config))


def test_refused_by_one_command_before_data_are_read(tmp_path: Path) -> None:
    said = refused("distill", tmp_path / "run", {"student": {"space": "mobilenet"}})
    assert said == "student.space is 'mobilenet', but space.name is 'resnet'"
    said = refused("search", tmp_path / "run", {"search": {"sampler": "tpee"}})
    assert said.startswith("unknown sampler 'tpee'; did you mean 'tpe'")


def test_an_unknown_score_is_refused_before_data_are_read(tmp_path: Path) -> None:
    file = tmp_path / "t.onnx"
    onnx.save(linear_classifier(torch.zeros(64, 10).numpy(), torch.zeros(10).numpy()), file)
    config = SearchConfig.model_validate({"data": {"source": f"{HERE}read", "score": "acuracy"}})
    with pytest.raises(InputError, match="unknown score 'acuracy'"):
        evaluate(file, config)
