"""What the run's log has: events, warnings, messages of libraries, tracebacks; over resumes, and of workers, too."""

import logging
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder
from nas_kd.context.run_log import LoggedCallback, run_log
from nas_kd.errors import InputError

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) \d+ [\w.]+: ")


@pytest.mark.filterwarnings("default")
def test_events_warnings_and_messages_are_appended(tmp_path: Path) -> None:
    folder, heard = RunFolder(tmp_path), list[str]()

    class Heard(Callback):
        def on_note(self, text: str) -> None:
            heard.append(text)

    for number in range(2):
        with run_log(folder):
            callback = LoggedCallback(Heard())
            callback.on_note(f"note {number}")
            callback.on_progress("x", 1, 2)
            warnings.warn("beware", UserWarning, stacklevel=1)
            logging.getLogger("torch.onnx").warning("from a library")
            logging.getLogger("optuna").error("from optuna")
    text = folder.log.read_text()
    assert heard == ["note 0", "note 1"]
    for said in ("note: note 0", "note: note 1", "UserWarning: beware", "torch.onnx: from a library", "from optuna"):
        assert said in text
    assert all(LINE.match(line) for line in text.splitlines() if not line.startswith(" ") and line)
    logging.getLogger("nas_kd").warning("after the run")
    assert "after the run" not in folder.log.read_text()
    assert not logging.getLogger("optuna").propagate


def test_a_crash_leaves_its_traceback_and_says_where(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ZeroDivisionError) as caught, run_log(folder):
        print(1 / 0)
    assert caught.value.__notes__ == [f"the traceback is in {folder.log}"]
    assert "Traceback (most recent call last)" in folder.log.read_text()
    with pytest.raises(InputError), run_log(folder):
        raise InputError("wrong input")
    assert folder.log.read_text().splitlines()[-1].endswith("nas_kd: wrong input")


NETS = """
    import logging, os, sys, warnings
    import torch
    from torch import nn

    def teacher():
        print("printed by a user")
        os.write(1, b"dumped past Python\\n")
        os.write(2, b"dumped to stderr\\n")
        warnings.warn("a warning of a user")
        logging.getLogger("mine").error("logged by a user")
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def broken():
        raise KeyError("x")
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "nets.py").write_text(textwrap.dedent(NETS))
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file({"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}, folder / "w.safetensors")
    command = [sys.executable, "-m", "nas_kd", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


CONFIG = """
    [teacher]
    factory = "nets:teacher"
    weights = "w.safetensors"
    [distill]
    methods = ["soft_targets"]
"""


def test_what_others_write_goes_to_the_log_and_not_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(textwrap.dedent(CONFIG))
    done = run(tmp_path, "distill", "c.toml", "--run-dir", "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("error: teacher: no better than chance")
    log = (tmp_path / "run" / "run.log").read_text()
    others = ("printed by", "dumped past Python", "dumped to stderr", "a warning of a user", "logged by a user")
    for said in others:
        assert said not in done.stderr
        assert said in log
    assert "no better than chance" in log
    verbose = run(tmp_path, "distill", "c.toml", "--run-dir", "run", "-v")
    for said in others:
        assert said in verbose.stderr + verbose.stdout


def test_a_fault_is_one_line_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("")
    program = (
        "from nas_kd.commands import search; search._open = lambda *_: {}['x']; from nas_kd.cli.app import main; main()"
    )
    command = [sys.executable, "-c", program, "search", "c.toml", "--run-dir", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: KeyError: 'x'; this is a fault of nas-kd or of a plug-in: the traceback is in run/run.log"
    )
    assert "Traceback" not in done.stderr
    assert "KeyError: 'x'" in (tmp_path / "run" / "run.log").read_text()
