"""Weights as people have them: wrapped, tied, in half precision, or of another network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.kd.weight_names import fit_weights
from nas_kd.kd.weights_file import load_weights_file

Tensors = dict[str, Tensor]


def net(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, classes))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 5), nn.Linear(5, 7, bias=False)
        self.head.weight = self.embedding.weight


def weights(of: nn.Module | None = None) -> Tensors:
    return {name: torch.rand_like(v.float()).to(v.dtype) for name, v in (of or net()).state_dict().items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "state_dict.model.", "a.b.c.", "0."])
def test_shared_prefixes_are_stripped_and_said(prefix: str, tmp_path: Path) -> None:
    expected, network, notes = weights(), net(), list[str]()
    save_file({prefix + name: tensor for name, tensor in expected.items()}, tmp_path / "w.safetensors")
    load_weights_file(network, tmp_path / "w.safetensors", "teacher.weights", whose="it", on_note=notes.append)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name])
    if prefix == "_orig_mod.":
        assert notes == []
    else:
        assert notes == [f"teacher.weights: w.safetensors: the prefix {prefix!r} of their names was stripped"]


def test_names_that_fit_are_taken_as_they_are(tmp_path: Path) -> None:
    assert fit_weights(net(), weights()).notes == ()
    nested = nn.Sequential(net())
    assert fit_weights(nested, weights(nested)).notes == ()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda n: nn.ModuleDict({"model": n})])
def test_a_network_that_is_wrapped_itself(wrap: Callable[[nn.Module], nn.Module]) -> None:
    fitted = fit_weights(wrap(net()), weights())
    assert len(fitted.tensors) == len(weights())
    assert fit_weights(wrap(net()), {f"module.{k}": v for k, v in weights().items()}).tensors.keys() == (
        fitted.tensors.keys()
    )


def test_parts_that_were_compiled_alone() -> None:
    part = {k.replace("0.", "0._orig_mod.", 1) if k.startswith("0.") else k: v for k, v in weights().items()}
    assert fit_weights(net(), part).tensors.keys() == weights().keys()


def test_what_stands_beside_the_prefix_is_left_out_and_said() -> None:
    given = {f"model.{k}": v for k, v in weights().items()} | {"loss.weight": torch.ones(3)}
    fitted = fit_weights(net(), given)
    assert fitted.tensors.keys() == weights().keys()
    assert fitted.notes[1] == "1 other tensor was left out: loss.weight"


def test_two_sets_of_weights_are_ambiguous() -> None:
    given = {f"{p}.{k}": v for p in ("model", "ema") for k, v in weights().items()}
    with pytest.raises(ValueError, match=r"several sets of weights in the file fit, those below 'ema\.' and 'model\.'"):
        fit_weights(net(), given)


@pytest.mark.parametrize("stored", ["embedding.weight", "head.weight", "model.head.weight"])
def test_tied_weights_may_be_stored_once(stored: str) -> None:
    given = {stored: torch.rand(7, 5)}
    fitted = fit_weights(Tied(), given)
    assert {name: torch.equal(t, given[stored]) for name, t in fitted.tensors.items()} == {
        "embedding.weight": True,
        "head.weight": True,
    }


def test_number_formats_are_converted_and_said() -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}
    fitted = fit_weights(net(), half)
    assert fitted.tensors["0.weight"].dtype == torch.float32
    assert fitted.notes == ("8 tensors were converted from float16 to float32",)


def test_counters_of_old_files() -> None:
    old = {k: v for k, v in weights().items() if not k.endswith("num_batches_tracked")}
    assert "1.num_batches_tracked" in fit_weights(net(), old).tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.weight"), "1 of 9 tensors are missing (0.weight)"),
        (lambda w: w.update({f"x{n}": torch.ones(1) for n in range(5)}), "5 unexpected (x0, x1, x2, ...)"),
        (
            lambda w: w.update({"0.bias": torch.ones(5)}),
            "1 of another shape (0.bias: (5,) in the file, (4,) in the network)",
        ),
        (
            lambda w: w.update({"3.bias": torch.ones(9), "3.weight": torch.ones(9, 16)}),
            "2 of another shape (3.weight: (9, 16) in the file, (3, 16) in the network; 3.bias: (9,) in the file, (3,) "
            "in the network); the file seems to be of 9 classes: build the network for as many, it has 3",
        ),
        (
            lambda w: w.update({"0.bias": torch.ones(4, dtype=torch.int8)}),
            "1 of another kind of number (0.bias: int8 in the file, float32 in the network)",
        ),
        (lambda w: w.clear(), "8 of 9 tensors are missing"),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[Tensors], object], message: str, tmp_path: Path) -> None:
    given = weights()
    change(given)
    save_file(given, tmp_path / "w.safetensors")
    with pytest.raises(InputError) as caught:
        load_weights_file(net(), tmp_path / "w.safetensors", "teacher.weights", whose="the network")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    for legacy in (False, True):
        path = tmp_path / "my weights.pt"
        torch.save(weights(), path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(InputError) as caught:
            load_weights_file(net(), path, "teacher.weights", whose="it")
        target = tmp_path / "my weights.safetensors"
        assert str(caught.value).endswith(
            f"convert it once, without running any: nas-kd convert '{path}' --out '{target}'"
        )


def test_lazy_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="lazy layers: run it once"):
        fit_weights(nn.Sequential(nn.LazyLinear(3)), {"0.weight": torch.ones(3, 3)})
