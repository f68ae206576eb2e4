"""Checkpoints as people have them become safetensors; what is not weights is refused, and nothing of it is run."""

import argparse
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from nas_kd.cli.app import app
from nas_kd.conversion import convert
from nas_kd.conversion.checkpoint import NoWeightsError, find_weights
from nas_kd.conversion.convert import convert_checkpoint
from nas_kd.errors import InputError
from nas_kd.kd.weight_names import fit_weights

SANDBOX = Path(convert.__file__).with_name("sandbox.py")


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def weights() -> dict[str, Tensor]:
    return {name: torch.rand_like(v.float()).to(v.dtype) for name, v in net().state_dict().items()}


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_checkpoint_of_a_training_program(tmp_path: Path) -> None:
    expected, path, out = weights(), tmp_path / "my c.ckpt", tmp_path / "new" / "w.safetensors"
    state = {f"module._orig_mod.{name}": tensor for name, tensor in expected.items()}
    args = argparse.Namespace(lr=0.1, path=Path("x"), score=np.float64(0.5))
    torch.save({"args": args, "epoch": 3, "state_dict": state, "state_dict_ema": expected, "optimizer": {}}, path)
    before = path.read_bytes()
    code, said = call(path, "--out", out)
    assert (code, said.splitlines()) == (
        0,
        [
            f"{out}: 7 tensors, {out.stat().st_size / 1000:,.1f} kB",
            "taken from 'state_dict' of the checkpoint; also there, by --key: state_dict_ema",
            "stripped the prefix 'module._orig_mod.', which all names had",
            "left out: args (Inert), epoch (int), state_dict_ema (table of 7), optimizer (table of 0)",
        ],
    )
    stored = load_file(out)
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], expected[name]) for name in expected)
    assert fit_weights(net(), stored).notes == ()
    assert path.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == ["w.safetensors"]

    assert call(path, "--out", out) == (
        2,
        f"error: {out}: exists already; choose another --out, or replace it with --force\n",
    )
    code, said = call(path, "--out", out, "--force", "--key", "state_dict_ema")
    assert (code, "taken from 'state_dict_ema'" in said) == (0, True)
    code, said = call(path, "--out", tmp_path / "x.safetensors", "--key", "nothing")
    assert (code, "has no 'nothing'; it holds args (Inert), epoch (int)" in said) == (2, True)
    assert not (tmp_path / "x.safetensors").exists()


def test_tied_views_and_formats_of_an_old_file(tmp_path: Path) -> None:
    shared, path = torch.rand(5, 4), tmp_path / "w.pt"
    given = {
        "a": shared,
        "b": shared,
        "c": shared[1:3].T,
        "d": torch.ones(2, dtype=torch.bfloat16),
        "e": torch.ones(()),
    }
    torch.save(given, path, _use_new_zipfile_serialization=False)
    made = convert_checkpoint(path, tmp_path / "w.safetensors")
    assert (made.tensors, made.tied, made.key, made.prefix, made.left_out) == (5, 1, "", "", ())
    stored = load_file(made.path)
    assert all(torch.equal(stored[name], given[name]) and stored[name].dtype == given[name].dtype for name in given)


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.path}'",)


def malicious(path: Path, mark: Path) -> None:
    torch.save({"state_dict": weights(), "x": Harmful(mark)}, path)


def plain_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Harmful(mark)))


def whole_module(path: Path, _mark: Path) -> None:
    torch.save(net(), path)


def random_bytes(path: Path, _mark: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + np.random.default_rng(0).bytes(500))


def no_tensors(path: Path, _mark: Path) -> None:
    torch.save({"epoch": 3}, path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (malicious, "holds Python objects (posix.system), which could run any code, not only tensors; in a program"),
        (plain_pickle, "holds Python objects that could run any code, or is damaged; in a program that you trust"),
        (whole_module, "holds Python objects (torch.nn.modules.batchnorm.BatchNorm1d, "),
        (random_bytes, "cannot be read as a checkpoint of torch"),
        (no_tensors, "holds no state dict, but epoch (int); name it with --key"),
    ],
)
def test_what_is_not_weights_is_refused_in_one_line(make: Any, reason: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "c.pt", tmp_path / "mark"
    make(path, mark)
    code, said = call(path, "--out", tmp_path / "w.safetensors")
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: {path}: {reason}")
    if "could run" in said:
        assert said.endswith("load it and save only the weights: torch.save(model.state_dict(), 'weights.pt')\n")
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_missing_files_and_the_checkpoint_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        convert_checkpoint(tmp_path / "no.pt", tmp_path / "w.safetensors")
    (tmp_path / "c.pt").write_bytes(b"1")
    with pytest.raises(InputError, match="is the checkpoint itself"):
        convert_checkpoint(tmp_path / "c.pt", tmp_path / "c.pt", force=True)


@pytest.mark.parametrize(
    ("loaded", "key", "names"),
    [
        ({"model": {"state_dict": {"w": torch.ones(1)}}}, "model.state_dict", {"w"}),
        ({"net": {"w": torch.ones(1), "x": 3}}, "net", {"w"}),
        ({"w": torch.ones(1), "epoch": 3}, "", {"w"}),
        ({"loss": torch.ones(1), "model": {"w": torch.ones(1)}}, "model", {"w"}),
        ({"ema": {"w": torch.ones(1)}}, "ema", {"w"}),
    ],
)
def test_where_checkpoints_keep_their_weights(loaded: Any, key: str, names: set[str]) -> None:
    found = find_weights(loaded, None)
    assert (found[1], found[0].keys()) == (key, names)


@pytest.mark.parametrize("loaded", [[1], torch.ones(3), {"a": 1}, {}])
def test_what_holds_no_weights(loaded: Any) -> None:
    with pytest.raises(NoWeightsError):
        find_weights(loaded, None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 16,
        (2).to_bytes(8, "little") + b"{}" + b"more",
        (74).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}'.ljust(74) + b"1234",
    ],
)
def test_an_output_that_is_not_sound_is_not_kept(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(InputError, match="not sound"):
        convert._check_output(tmp_path / "w", {"tensors": 1, "bytes": len(content)})


ATTEMPTS = """
import os, runpy, socket, sys
sandbox = runpy.run_path(sys.argv[1])
sandbox["limit_resources"](2**28, 1000, 5)
version = sandbox["deny_files_and_network"](["/usr"])
def attempt(name, act):
    try:
        act()
        print(name, "done")
    except (OSError, MemoryError) as error:
        print(name, type(error).__name__)
out = int(sys.argv[2])
attempt("write", lambda: open("x", "w"))
attempt("remove", lambda: os.remove(sys.argv[3]))
attempt("read", lambda: open(sys.argv[3]).read())
attempt("connect", lambda: socket.create_connection(("127.0.0.1", 9), timeout=1))
attempt("allocate", lambda: bytearray(2**30))
attempt("output", lambda: os.write(out, b"1"))
print(version)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock")
def test_the_sandbox_leaves_nothing_but_the_output(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1")
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-I", "-c", ATTEMPTS, str(SANDBOX), str(out.fileno()), str(secret)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            pass_fds=(out.fileno(),),
            check=True,
        )
    *attempts, version = done.stdout.splitlines()
    assert "allocate MemoryError" in attempts
    assert "output done" in attempts
    assert secret.exists()
    if int(version) >= 4:
        assert attempts[:4] == [f"{what} PermissionError" for what in ("write", "remove", "read", "connect")]
