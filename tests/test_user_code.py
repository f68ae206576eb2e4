"""The door to users' code: settings that it changes are put back."""

import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_kd.errors import InputError
from nas_kd.models.search_space import load_space
from nas_kd.plugins import import_object
from nas_kd.user_code import describe_error, unchanged_settings


def flushes_subnormals() -> bool:
    return float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0.0


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
    "number type": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "device": (torch.get_default_device, lambda: torch.set_default_device("meta")),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
    "subnormal numbers": (flushes_subnormals, lambda: torch.set_flush_denormal(True)),
    "determinism": (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    ),
    "products": (torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    "autocast": (lambda: torch.is_autocast_enabled("cpu"), lambda: torch.set_autocast_enabled("cpu", True)),
    "anomaly detection": (torch.is_anomaly_enabled, lambda: torch.set_anomaly_enabled(True)),
    "attention": (
        torch.backends.mha.get_fastpath_enabled,
        lambda: torch.backends.mha.set_fastpath_enabled(False),
    ),
    "torch's random numbers": (lambda: torch.get_rng_state().tolist(), lambda: torch.manual_seed(5)),
    "Python's random numbers": (random.getstate, lambda: random.seed(5)),
    "NumPy's random numbers": (
        lambda: list(np.random.get_state(legacy=False)["state"]["key"]),
        lambda: np.random.seed(5),
    ),
    "NumPy's errors": (np.geterr, lambda: np.seterr(all="raise")),
    "warnings": (lambda: list(warnings.filters), lambda: warnings.simplefilter("ignore")),
    "working folder": (os.getcwd, lambda: os.chdir("/")),
}


def fail_after(change: Callable[[], Any]) -> None:
    change()
    raise KeyError


@pytest.mark.parametrize("what", CHANGES)
def test_settings_are_put_back(what: str) -> None:
    read, change = CHANGES[what]
    before = read()
    with unchanged_settings():
        change()
        assert read() != before
    assert read() == before
    with pytest.raises(KeyError), unchanged_settings():
        fail_after(change)
    assert read() == before


def test_filters_that_are_put_back_work_again() -> None:
    with unchanged_settings():
        warnings.simplefilter("ignore")
        warnings.warn("not shown", UserWarning, stacklevel=1)
    with pytest.raises(UserWarning):  # an error, as in all of these tests
        warnings.warn("shown", UserWarning, stacklevel=1)


def test_a_folder_that_is_gone_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with unchanged_settings():
        os.chdir(tmp_path)
    assert Path.cwd() == tmp_path  # there is nothing to go back to


def test_imports_go_through_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "turns_gradients_off.py").write_text("import torch\ntorch.set_grad_enabled(False)\nvalue = 3\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit('no licence')\n")
    (tmp_path / "broken_space.py").write_text("class Space:\n    def __init__(self):\n        self.size = 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_object("turns_gradients_off:value") == 3
    assert torch.is_grad_enabled()
    with pytest.raises(InputError, match=r"cannot import 'leaves' of 'leaves:x': SystemExit: it called exit\('no lic"):
        import_object("leaves:x")
    with pytest.raises(InputError, match="space 'broken_space:Space' cannot be created: ZeroDivisionError: division"):
        load_space("broken_space:Space")


def test_errors_in_a_line() -> None:
    assert describe_error(ValueError("\n  first  thing \nsecond")) == "ValueError: first thing"
    assert describe_error(KeyError()) == "KeyError"
    assert describe_error(SystemExit(2)) == "SystemExit: it called exit(2)"
    assert len(describe_error(ValueError("x" * 1000))) == len("ValueError: ") + 300
