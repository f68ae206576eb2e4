"""Every example runs as a user runs it, in a process and a folder of its own, and does what it says."""

import ast
import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import nas_kd
from nas_kd.config.loading import load_config
from nas_kd.models.search_space import check_image_size, load_space
from nas_kd.plugins import available

pytestmark = pytest.mark.xdist_group("examples")
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(folder: Path, *command: str | Path) -> str:
    """What a program prints that runs in this folder."""
    arguments = [sys.executable, *map(str, command)]
    done = subprocess.run(arguments, cwd=folder, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def size_of(image: Path | io.BytesIO) -> tuple[int, int]:
    with Image.open(image) as opened:
        return opened.size


@pytest.fixture(scope="session")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which quick_start.py has run."""
    folder: Path = tmp_path_factory.mktemp("quick_start")
    (folder / "printed").write_text(run(folder, EXAMPLES / "quick_start.py", "runs/first"))
    return folder


@pytest.fixture
def folder(quick_start: Path, tmp_path: Path) -> Path:
    """An empty folder; a run `runs/own` in it would find in its store what quick_start's has."""
    shutil.copytree(quick_start / "runs" / "first" / "store", tmp_path / "runs" / "own" / "store")
    return tmp_path


def test_quick_start(quick_start: Path) -> None:
    printed = (quick_start / "printed").read_text()
    assert re.search(r"^<Finalist [0-9a-f]{12}: \d+\.\d% on test, 0\.\d+ ms, \d", printed, re.MULTILINE)
    first = nas_kd.load_run(quick_start / "runs" / "first")
    assert (first.name, first.state, len(first.trials)) == ("first", "finished", 3)
    assert first.winner is not None
    assert first.winner.test.mean > 0.5
    assert (quick_start / "student.onnx").read_bytes() == (first.folder.winner / "student.onnx").read_bytes()
    assert (first.folder.report / "index.html").is_file()


def test_distill_two_modules(tmp_path: Path) -> None:
    printed = run(tmp_path, EXAMPLES / "distill_two_modules.py")
    taught, alone = printed.split("alone:")
    last = [re.findall(r"accuracy (\d+\.\d)%", part)[-1] for part in (taught, alone)]
    assert float(last[0]) > float(last[1]) > 70
    assert "soft_targets" in taught
    assert "soft_targets" not in alone


def test_own_method(folder: Path) -> None:
    printed = run(folder, EXAMPLES / "own_method.py", "runs/own")
    assert re.findall(r"^trial (\d): (?:cosine_logits|soft_targets), ", printed, re.MULTILINE) == ["0", "1"]
    assert "memory:" not in printed


def test_own_task(folder: Path) -> None:
    printed = run(folder, EXAMPLES / "own_task.py", "runs/own")
    assert re.fullmatch(r"3 stages, .* weights: R2 0\.[5-9]\d on test\n", printed)
    found = json.loads((folder / "runs" / "own" / "front.json").read_text())
    assert (found["schema"], found["metric"]["name"]) == (2, "r2")


def test_own_space(folder: Path) -> None:
    printed = run(folder, EXAMPLES / "own_space.py", "runs/own")
    assert printed.startswith("6 networks, from 2 layers, 16 wide to 3 layers, 32 wide\n<Finalist ")
    own = nas_kd.load_run(folder / "runs" / "own")
    assert {t.candidate.student.space for t in own.trials} == {"plain"}
    assert own.winner is not None
    assert own.winner.test.mean > 0.5


def test_own_data(folder: Path) -> None:
    printed = run(folder, EXAMPLES / "own_data.py", "runs/own")
    assert printed.endswith(f"classes: {' '.join(f'digit_{i}' for i in range(10))}\n")
    own = nas_kd.load_run(folder / "runs" / "own")
    assert own.record.dataset is not None
    assert own.record.dataset.classes[:2] == ("digit_0", "digit_1")
    assert own.record.dataset.scale == 255
    assert own.record.teacher is not None
    assert own.record.teacher.val.mean > 0.8


def test_read_a_run(quick_start: Path, tmp_path: Path) -> None:
    first = quick_start / "runs" / "first"
    shutil.copytree(first, tmp_path / "copy", ignore=shutil.ignore_patterns("store"))
    printed = run(tmp_path, EXAMPLES / "read_a_run.py", first, "copy")
    assert size_of(tmp_path / "first.png") == (1040, 720)
    winner = nas_kd.load_run(first).winner
    assert winner is not None
    assert len(re.findall(rf"^first +{winner.id} +\d", printed, re.MULTILINE)) == 2
    assert printed.count("  trial ") == 6


def test_retarget_and_export(quick_start: Path, tmp_path: Path) -> None:
    first = quick_start / "runs" / "first"
    printed = run(tmp_path, EXAMPLES / "retarget_and_export.py", first)
    gateway, camera, door_bell = printed.splitlines()
    assert door_bell.startswith("door_bell: no finalist meets the budget; closest: ")
    written, lines = ["gateway"], [gateway]
    if len({finalist.costs.size_bytes for finalist in nas_kd.load_run(first).finalists}) > 1:
        written, lines = [*written, "camera"], [*lines, camera]
    else:  # the smallest of three was also the most accurate
        assert camera.startswith("camera: no finalist meets the budget; closest: ")
    sizes = [float(re.search(r"([\d.]+) kB$", line)[1]) for line in lines]  # type: ignore[index]
    assert sizes == sorted(sizes, reverse=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{name}.{ending}" for name in written for ending in ("onnx", "json", "README.md")),
        "predict.py",
        "winner.safetensors",
    }


def test_deploy(quick_start: Path, tmp_path: Path) -> None:
    digits = load_digits()
    pixels = np.rint(digits.images[:20] * 255 / 16).astype(np.uint8)
    names = [f"{i:02d}.png" for i in range(len(pixels))]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    printed = run(tmp_path, "-I", EXAMPLES / "deploy.py", quick_start / "runs" / "first" / "winner", *names)
    found = [int(re.match(r"\d\d\.png: (\d) \(", line)[1]) for line in printed.splitlines()]  # type: ignore[index]
    assert sum(a == b for a, b in zip(found, digits.target, strict=False)) > 10


def test_deploy_needs_no_nas_kd() -> None:
    tree = ast.parse((EXAMPLES / "deploy.py").read_text(encoding="utf-8"))
    imported = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports(tree)}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}


def imports(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_training_log(tmp_path: Path) -> None:
    assert run(tmp_path, EXAMPLES / "training_log.py", "logs/a") == "logs/a/training.csv: 35 rows\n"
    with (tmp_path / "logs" / "a" / "training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["learning_rate", "loss/ce", "loss/soft_targets", "val_accuracy"]
    assert sorted({row["name"] for row in rows}) == [f"student/{name}" for name in names]
    accuracies = [float(row["value"]) for row in rows if row["name"] == "student/val_accuracy"]
    assert len(accuracies) == 10
    assert accuracies[4] > 0.5


def test_the_tour(folder: Path) -> None:
    (folder / "runs" / "own").rename(folder / "runs" / "tour")
    printed = run(folder, Path(__file__).with_name("run_notebook.py"), EXAMPLES / "tour.ipynb", "displayed.json")
    assert printed == ""
    displayed = json.loads((folder / "displayed.json").read_text(encoding="utf-8"))
    assert "<table>" in displayed[0]["text/html"]
    assert displayed[0]["text/html"].count("winner") == 1
    (plot,) = (bundle["image/png"] for bundle in displayed if "image/png" in bundle)
    assert size_of(io.BytesIO(base64.b64decode(plot))) == (1040, 720)
    accuracies = ast.literal_eval(displayed[-1]["text/plain"])
    assert len(accuracies) == 5
    assert accuracies[-1] > 0.5
    assert (folder / "smaller.onnx").stat().st_size <= 30_000


def test_the_tour_is_stored_without_outputs() -> None:
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert {cell["execution_count"] for cell in code} == {None}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_says_what_how_and_how_long(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    header = ast.get_docstring(ast.parse(text)) or ""
    assert re.search(rf"^Shows: .*\nRun:   python {name}\b.*\nTakes: .*\d* ?second", header, re.MULTILINE)
    assert 20 <= len(text.splitlines()) <= 90
    if "sys.argv) " in text and "sys.exit(__doc__)" in text:
        usage = subprocess.run([sys.executable, EXAMPLES / name], env=ENVIRONMENT, check=False, capture_output=True)
        assert (usage.returncode, b"Run:" in usage.stderr) == (1, True)


def test_every_example_is_listed_and_tested() -> None:
    listed = re.findall(r"^\| \[(\S+)\]\(\1\) \|", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted([*SCRIPTS, "tour.ipynb", "photographs.toml"])
    tested = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in listed if f'EXAMPLES / "{name}"' not in tested] == []


def test_the_config_for_photographs_names_what_there_is() -> None:
    config = load_config(EXAMPLES / "photographs.toml")
    assert load_space(config.space.name) is available("space")["mobilenet_photo"]
    assert config.data.image_size == 128
    for name in (config.space.name, config.teacher[0].space):
        check_image_size(load_space(name), (3, 128, 128))
