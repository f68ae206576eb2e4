"""Teachers of different kinds and input sizes in one run: transformer, convolutional network, ONNX, stored outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from nas_kd.config.options import SearchConfig
from nas_kd.errors import InputError
from nas_kd.kd.config_checks import checked_config
from nas_kd.kd.teachers import untrained_teachers
from nas_kd.kd.weights_file import check_weights_file
from nas_kd.testing.toy_networks import AttentionBlock, toy_network, with_opinions
from tests.onnx_files import linear_classifier
from tests.small_runs import distiller_of, open_context, small_config

HERE = "tests.kd.test_teacher_kinds:"
SIDE = 16  # that the transformer was trained at; the digits have 8


class Patches(nn.Module):
    """16 patches of 4x4 pixels and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(1, 12, 4, 4), nn.Linear(12, 10)
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.blocks = nn.Sequential(*(AttentionBlock(12) for _ in range(6)))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        if patches.shape[1] != (SIDE // 4) ** 2:
            raise ValueError("an image of 16x16 pixels, please")
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1)
        logits: Tensor = self.head(self.blocks(tokens)[:, 0])
        return logits


def patches() -> nn.Module:
    return Patches()


def residual() -> nn.Module:
    return toy_network("residual", 10, large=True)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Options of a teacher of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    torch.manual_seed(0)
    for make in (patches, residual):
        save_model(with_opinions(make()), str(folder / f"{make.__name__}.safetensors"))
    model = linear_classifier(
        np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32), np.zeros(10, np.float32)
    )
    (folder / "t.onnx").write_bytes(model.SerializeToString())
    np.savez(folder / "o.npz", logits_train=np.random.default_rng(1).normal(size=(640, 10)).astype(np.float32))
    given = {
        make.__name__: {"factory": f"{HERE}{make.__name__}", "weights": folder / f"{make.__name__}.safetensors"}
        for make in (patches, residual)
    }
    given["patches"] |= {"image_size": SIDE, "mean": 0.5, "std": 0.5}
    given["residual"] |= {"preprocessing": "unit"}
    return given | {"onnx": {"onnx": folder / "t.onnx"}, "outputs": {"outputs": folder / "o.npz"}}


def config_of(kinds: dict[str, dict[str, Any]], method: str, *names: str) -> SearchConfig:
    return small_config(
        teacher=[kinds[n] for n in names], distill={"methods": [method], "epochs": 1}, chain={"max_assistants": 0}
    )


ALL = ("patches", "residual", "onnx", "outputs")


@pytest.mark.parametrize("method", ["average_teachers", "random_teacher", "adaptive_teachers"])
def test_they_teach_together(method: str, kinds: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    context = open_context(config_of(kinds, method, *ALL), tmp_path)
    teachers = untrained_teachers(context)
    training = distiller_of(context, teachers).untrained(method, context.space.size_ladder(6)[0])
    shown: list[Any] = []
    first = training.method.parts()[0]
    first.register_forward_pre_hook(lambda _, given: shown.append(given[1]))
    training.run(until=1)
    assert all(np.isfinite(v) for v in training.losses.values())
    outputs = shown[-1]
    assert [o.logits.shape[1] for o in outputs] == [10] * 4
    if "adaptive" in method:
        assert [len(o.features) for o in outputs] == [3, 3, 0, 0]
        assert [tuple(f.shape[1:]) for f in outputs[0].features] == [(17, 12)] * 3
        assert len(first.adapters) == 2
        assert "adaptive_hints" in training.losses


@pytest.mark.parametrize("method", ["fitnet", "attention_transfer", "afd", "fsp", "channel_wise", "similarity", "irg"])
def test_methods_of_one_teacher_learn_from_the_first_whatever_the_others_lack(
    method: str, kinds: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    config = config_of(kinds, method, "patches", "onnx")
    checked_config(config)
    context = open_context(config, tmp_path)
    training = distiller_of(context, untrained_teachers(context)).untrained(method, context.space.size_ladder(6)[0])
    training.run(until=1)
    assert all(np.isfinite(v) and v > 0 for v in training.losses.values())


LACKING = [("onnx", "an ONNX teacher"), ("outputs", "a teacher given by teacher.outputs")]


@pytest.mark.parametrize(("first", "kind"), LACKING)
def test_which_teacher_lacks_features_is_said(first: str, kind: str, kinds: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(InputError) as caught:
        checked_config(config_of(kinds, "irg", first, "residual"))
    assert str(caught.value) == (
        f"1. [[teacher]]: method 'irg' needs the teacher's embedding and features; {kind} provides its logits only, "
        "and methods that take one teacher get the first"
    )
    checked_config(config_of(kinds, "irg", "residual", first))
    with pytest.raises(InputError, match=rf"^2. \[\[teacher\]\]: .* needs the teacher's features and stem; {kind}"):
        checked_config(config_of(kinds, "adaptive_teachers+fsp", "residual", first))


def test_a_list_of_tensors_whose_length_looks_like_a_pickle_is_read(tmp_path: Path) -> None:
    """Eight bytes of a safetensors file say how long its list of tensors is: of 640 bytes, as the start of a pickle."""
    found = 0
    for n in range(1, 60):
        path = tmp_path / f"{n}.safetensors"
        save_file({f"tensor_{i:02d}": torch.zeros(1) for i in range(n)}, path)
        found += path.read_bytes()[:1] == b"\x80"
        check_weights_file(path, "teacher.weights")
    assert found
