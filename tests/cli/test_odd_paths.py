"""Names of folders and files that mean something to databases, templates, terminals, shells or patterns."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from nas_kd.cli.app import app
from nas_kd.commands.load_run import read_run
from nas_kd.config.loading import dump_config, load_config
from nas_kd.config.options import Budget
from nas_kd.context.run_folder import RunFolder, locked
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.nas.study import RunStudy
from nas_kd.serialization import write_atomic
from tests.small_runs import small_config

ODD = [
    "{lr}",
    "{",
    "exp?v=2",
    "a#b",
    "50%20",
    "[bold]x[]",
    "[",
    "*",
    "two words",
    'it\'s "quoted"',
    "Übung-日本",
    "~",
    "$HOME",
    ":warning:",
    "back\\slash",
    "a;b&c|d",
    "line\nbreak",
    "-x",
    "x" * 255,
]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("name", ODD)
def test_a_run_folder_of_any_name(name: str, tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path / name), small_config()
    with locked(folder, config) as resumed:
        assert not resumed
        with closing(RunStudy(folder, "test", Budget(), 3)) as study:
            study.save("state", "finalists")
        with closing(RunStudy(folder, "test", Budget(), 3)) as study:
            assert study.state == "finalists"
    assert read_run(folder).state == "finalists"
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with locked(folder, config) as resumed:
        assert resumed


@pytest.mark.parametrize("name", ["{lr}?v=2#a%20 [bold]x[/bold] :warning: 'q' \"r\" \\", "-[/red]Ü{}"])
def test_report_and_export_of_a_finished_run(name: str, run_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / name))
    result = call("report", str(folder))
    assert (result.exit_code, result.output.strip()) == (0, str(folder / "report" / "index.html"))
    assert name in (folder / "report" / "index.html").read_text().replace("&#39;", "'").replace("&#34;", '"')
    out = tmp_path / name / f"{name}.onnx"
    exported = call("export", str(folder), "--out", str(out))
    assert exported.exit_code == 0
    assert exported.output.startswith(f"{out}: trial ")
    assert out.is_file()


@pytest.mark.parametrize("name", ODD)
def test_data_of_any_name(name: str, tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 16, (60, 1, 4, 4)).astype(np.float32)
    path = tmp_path / name[:200] / f"{name[:200]}.npz"
    path.parent.mkdir()
    np.savez(path, x_train=digits, y_train=np.arange(60) % 3)
    file = tmp_path / "config.toml"
    file.write_text(dump_config(small_config(data={"source": "npz", "path": path, "train_rows": None})))
    if "$" in name:  # an environment variable in a config
        with pytest.raises(InputError, match="no such file"):
            load_dataset(load_config(file).data, 0)
        return
    assert load_dataset(load_config(file).data, 0).input_shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [("x" * 256, "File name too long"), (os.fsdecode(b"\xff"), "must be UTF-8")],
)
def test_names_that_cannot_be_are_refused(name: str, message: str, tmp_path: Path) -> None:
    result = call("search", "--run-dir", str(tmp_path / name), "--trials", "1")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert message in result.output


def test_paths_in_a_config_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for path, message in (("a\\u0000b", "cannot have a NUL"), ("x" * 300, "File name too long"), ("~absent-x", "user")):
        (tmp_path / "c.toml").write_text(f'[data]\nsource = "npz"\npath = "{path}"')
        result = call("search", str(tmp_path / "c.toml"), "--run-dir", str(tmp_path / "run"))
        assert (result.exit_code, message in result.output) == (2, True), result.output


def test_files_of_the_longest_name_are_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("x" * 255), b"1")
    assert [p.name for p in tmp_path.iterdir()] == ["x" * 255]
