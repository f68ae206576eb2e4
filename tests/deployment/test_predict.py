"""predict.py beside an exported file: what it reads, what it prints, and that its accuracy is the reported one."""

import importlib.util
import io
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas_kd.data.dataset import Split
from nas_kd.data.picture_steps import Resize, picture_pixels
from nas_kd.data.prepare import load_dataset
from nas_kd.deployment.bundle import PROGRAM
from nas_kd.deployment.predict import Predictor
from tests.deployment.photos import CLASSES, KINDS, labelled, picture, write_picture
from tests.small_runs import small_config

Program = Callable[..., subprocess.CompletedProcess[str]]
LIBRARIES = {"numpy", "onnxruntime", "PIL"}


@pytest.fixture(scope="module")
def digits_test() -> Split:
    return load_dataset(small_config().data, 0).test


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs predict.py of a copied folder, alone in an empty folder."""

    def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        files = shutil.copytree(folder, tmp_path / "deployed", ignore=lambda *_: ["store"], dirs_exist_ok=True)
        command = [sys.executable, "-I", str(files / "predict.py"), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)

    return run


def test_it_reproduces_the_accuracy_of_a_search_to_the_sample(
    run_dir: Path, digits_test: Split, program: Program, tmp_path: Path
) -> None:
    card = json.loads((run_dir / "winner" / "card.json").read_text())
    np.save(tmp_path / "test.npy", digits_test.x.numpy())
    rows = json.loads(program(run_dir / "winner", "--json", "test.npy").stdout)
    right = sum(row["label"] == card["classes"][y] for row, y in zip(rows, digits_test.y.tolist(), strict=True))
    assert right / len(rows) == card["accuracy"]["test"]["mean"] == card["nas_kd.accuracy"]["this_file"]["test"]


def test_it_reproduces_the_accuracy_of_a_distilled_student_on_a_folder_of_photographs(
    distilled_dir: Path, photos: Path, program: Program
) -> None:
    card = json.loads((distilled_dir / "card.json").read_text())
    done = program(distilled_dir, "--json", photos / "test")
    assert (done.returncode, done.stderr) == (0, "")
    found = {row["input"]: row["label"] for row in json.loads(done.stdout)}
    truth = {str(file): name for file, name in labelled(photos, "test")}
    assert found.keys() == truth.keys()
    right = sum(found[file] == name for file, name in truth.items())
    assert right / len(truth) == card["accuracy"]["test"]["mean"]
    assert right / len(truth) > 0.6  # it has learnt something, so that mixed up pictures would show


def test_it_imports_neither_torch_nor_nas_kd(distilled_dir: Path, photos: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); import predict\n"
        "found = predict.Predictor().predict(sys.argv[2])\n"
        "print(len(found), *sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    command = [sys.executable, "-I", "-c", code, str(distilled_dir), str(photos / "test")]
    number, *modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    foreign = {m for m in modules if m not in sys.stdlib_module_names and not m.startswith("_")}
    assert number == "50"
    assert foreign - {"predict", "cython_runtime"} == LIBRARIES


def test_it_is_the_file_of_the_package(distilled_dir: Path, run_dir: Path) -> None:
    for folder in (distilled_dir, run_dir / "winner"):
        assert (folder / "predict.py").read_text(encoding="utf-8") == PROGRAM


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
@pytest.mark.parametrize("size", [(16, 16), (24, 10)])
def test_pictures_are_decoded_as_in_training(
    kind: str, resize: Resize, size: tuple[int, int], tmp_path: Path, distilled_dir: Path
) -> None:
    predictor = Predictor(distilled_dir)
    for seed in range(3):
        image = picture(seed % 2, seed)
        large = image.resize((image.width * 6, image.height * 6)) if seed == 2 else image  # JPEGs at a smaller scale
        write_picture(tmp_path, f"{seed}", large, kind)
    predictor._input["picture"] |= {"image_size": list(size), "resize": resize}
    predictor.shape = (3, *size)
    for file in tmp_path.iterdir():
        with Image.open(file) as image:
            ours = picture_pixels(image, size, resize)
        expected = np.broadcast_to(ours[..., None], (*size, 3)) if ours.ndim == 2 else ours
        assert np.array_equal(predictor.read_picture(file), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_pictures_of_another_shape_than_a_square(resize: str, distilled_dir: Path) -> None:
    predictor = Predictor(distilled_dir)
    predictor._input["picture"] |= {"image_size": [10, 20], "resize": resize}
    predictor.shape = (3, 10, 20)
    image = Image.new("RGB", (40, 80), (10, 200, 30))
    pixels = predictor.read_picture(image)
    bars = int((pixels.sum(axis=0) == 0).sum())
    assert pixels.shape == (3, 10, 20)
    assert bars == (150 if resize == "letterbox" else 0)  # 5 of 20 columns show the picture


def test_a_single_channel_is_grey(run_dir: Path) -> None:
    predictor = Predictor(run_dir / "winner")
    colour = Image.new("RGB", (8, 8), (255, 0, 0))
    assert predictor.shape == (1, 8, 8)
    assert predictor.read_picture(colour).tolist() == [[[76] * 8] * 8]


def test_every_way_to_give_samples(run_dir: Path, digits_test: Split, tmp_path: Path) -> None:
    predictor, x = Predictor(run_dir / "winner" / "card.json"), digits_test.x.numpy()[:5]
    expected = predictor.predict(x)
    assert [p.label for p in expected] == [predictor.labels[p.index] for p in expected]
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "one.npz", samples=x)
    np.savez(tmp_path / "two.npz", a=x, b=x[:1])
    np.savez(tmp_path / "split.npz", x_test=x, y_test=np.arange(5))
    Image.fromarray(x[0, 0]).save(tmp_path / "0.png")

    def same(found: list[Any], until: int = 5) -> bool:
        pairs = zip(found, expected[:until], strict=True)
        return all(np.allclose(a.logits, b.logits, atol=1e-4) and a.label == b.label for a, b in pairs)

    given = [x.astype(float), x[:, 0], x.transpose(0, 2, 3, 1), tmp_path / "x.npy", str(tmp_path / "one.npz")]
    assert all(same(predictor.predict(one)) for one in [*given, tmp_path / "split.npz", list(x)])
    single = [x[0], x[0, 0], Image.fromarray(x[0, 0]), tmp_path / "0.png"]
    assert all(same(predictor.predict(one), 1) for one in single)
    assert same(predictor.predict(tmp_path / "two.npz", "a"))
    assert len(predictor.predict([tmp_path / "0.png", x])) == 6
    for found in expected:
        assert found.probabilities.sum() == pytest.approx(1)
        assert found.probability == found.probabilities.max()


def test_probabilities_are_divided_by_the_temperature(distilled_dir: Path, photos: Path, tmp_path: Path) -> None:
    for file in ("student.onnx", "card.json"):
        shutil.copy(distilled_dir / file, tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    card["nas_kd.output"]["temperature"] = 2.0
    (tmp_path / "card.json").write_text(json.dumps(card))
    (found,) = Predictor(tmp_path).predict(next(labelled(photos, "test"))[0])
    halved = np.exp(found.logits / 2)
    assert found.probabilities == pytest.approx(halved / halved.sum(), rel=1e-5)


def test_the_file_alone_is_enough(distilled_dir: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(distilled_dir / "student.onnx", tmp_path / "any name.onnx")
    alone, carded = Predictor(tmp_path / "any name.onnx"), Predictor(distilled_dir)
    files = [file for file, _ in labelled(photos, "val")][:8]
    pairs = zip(alone.predict(files), carded.predict(files), strict=True)
    assert all(a.label == b.label and np.array_equal(a.probabilities, b.probabilities) for a, b in pairs)


def test_what_is_printed(distilled_dir: Path, photos: Path, program: Program, tmp_path: Path) -> None:
    file = photos / "test" / CLASSES[0] / "00.png"
    done = program(distilled_dir, file, "--top", "2", "--logits")
    assert done.returncode == 0
    name, _, rest = done.stdout.partition(": ")
    assert name == str(file)
    assert all(f"{label} (" in rest for label in CLASSES)
    assert len(rest.partition("; logits ")[2].split()) == 2
    (row,) = json.loads(program(distilled_dir, file, "--json", "--top", "2").stdout)
    assert set(row) == {"input", "label", "index", "probability", "top"}
    assert [one["index"] for one in row["top"]] in ([0, 1], [1, 0])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = program(distilled_dir, "broken.png", file)
    assert done.returncode == 2
    assert done.stderr.startswith("error: broken.png: not a readable image (")
    assert done.stdout.startswith(f"{file}: ")  # the others are classified all the same


def refused(program: Program, folder: Path, *arguments: str) -> str:
    done = program(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr.removeprefix("error: ").strip()


def test_what_cannot_be_used_is_said_in_one_line(distilled_dir: Path, program: Program, tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "short": np.zeros((2, 3, 8, 8), np.uint8),
        "text": np.array(["a"]),
        "nan": np.full((1, 3, 16, 16), np.nan),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "two.npz", a=arrays["nan"], b=arrays["nan"])
    (tmp_path / "empty").mkdir()
    assert refused(program, distilled_dir, "short.npy").startswith(
        "short.npy: has shape (2, 3, 8, 8); this network takes samples of shape (3, 16, 16)"
    )
    assert "type <U1" in refused(program, distilled_dir, "text.npy")
    assert refused(program, distilled_dir, "nan.npy") == "nan.npy: has NaN or infinite values"
    assert refused(program, distilled_dir, "two.npz") == "two.npz: say which array with --array: a, b"
    assert refused(program, distilled_dir, "empty").startswith("empty: no pictures (.bmp")
    assert refused(program, distilled_dir, "nothing.png") == "nothing.png: no such file"
    assert refused(program, distilled_dir, "--card", "empty", "nan.npy").startswith("empty: no card of nas-kd; give")
    (tmp_path / "old.json").write_text('{"nas_kd.classes": [], "file": "student.onnx"}')
    (tmp_path / "student.onnx").write_bytes((distilled_dir / "student.onnx").read_bytes())
    assert "old.json: has no 'nas_kd.input'" in refused(program, distilled_dir, "--card", "old.json", "nan.npy")


def test_likely_mistakes_are_noted(run_dir: Path, tmp_path: Path) -> None:
    predictor = Predictor(run_dir / "winner")
    with pytest.warns(UserWarning, match="no value is above 1, but this network takes pixels 0..255"):
        predictor.predict(np.full((1, 1, 8, 8), 0.5))
    for file in ("student.onnx", "card.json"):
        shutil.copy(run_dir / "winner" / file, tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    with pytest.warns(UserWarning, match=r"student.onnx is not the file that the card was written for"):
        Predictor(tmp_path)


def test_a_picture_given_as_an_object_is_left_open(distilled_dir: Path) -> None:
    content = io.BytesIO()
    picture(0, 1).save(content, "JPEG")
    image = Image.open(content)
    size = image.size
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Predictor(distilled_dir).predict(image)
    assert image.size == size
    assert image.getpixel((0, 0))


def test_it_is_found_by_name_from_another_folder(distilled_dir: Path, photos: Path) -> None:
    spec = importlib.util.spec_from_file_location("predict_of_the_run", distilled_dir / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    assert len(module.Predictor().predict(photos / "val")) == 60
