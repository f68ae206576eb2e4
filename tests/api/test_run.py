"""A finished run as an object: its fronts, tables and pictures, and its finalists as files and modules."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import nas_kd

from .search_toys import TinySpace, agrees, logits_of, splits
from .toys import net, same

pytestmark = pytest.mark.xdist_group("tiny run")


def test_what_is_known_of_a_run(run: nas_kd.Run, run_dir: Path) -> None:
    assert (run.name, run.state) == ("demo", "finished")
    assert [t.number for t in run.trials] == list(range(len(run.trials)))
    assert run.budget == nas_kd.Budget(max_latency_ms=5, max_size_kb=50)
    assert re.match(r"<Run 'demo': finished, \d+ trials, [12] finalists, winner <Finalist [0-9a-f]{12}: ", repr(run))
    document = json.loads((run_dir / "front.json").read_text())
    assert run.winner is not None
    assert run.winner.id == document["winner"]
    assert [f.id for f in run.finalists] == [c["id"] for c in document["candidates"]]
    for which in ("size", "latency", "joint"):
        expected = {c["id"] for c in document["candidates"] if c["on_front"][which]}
        assert {f.id for f in run.front(which)} == expected
    with pytest.raises(nas_kd.InputError, match=r"^front must be one of size, latency, joint, got 'speed'$"):
        run.front("speed")  # type: ignore[arg-type]


def test_fronts_run_from_the_smallest_or_fastest(run: nas_kd.Run) -> None:
    sizes = [f.costs.require_size() for f in run.front("size")]
    latencies = [f.costs.require_latency().p50 for f in run.front("latency")]
    assert (sizes, latencies) == (sorted(sizes), sorted(latencies))


def test_a_finalist(run: nas_kd.Run) -> None:
    best = run.finalists[0]
    assert best.within_budget
    assert best.val.low <= best.val.mean <= best.val.high
    assert best.test.seeds == 2
    assert best.trial in [t.number for t in run.trials]
    assert best.candidate.id == best.id
    assert best.description in repr(best)
    assert best.controls[0].kind == "no_distillation"
    assert best.candidate.recipe.method_name in ("logit_matching", "soft_targets")


def test_tables(run: nas_kd.Run) -> None:
    pandas = pytest.importorskip("pandas")
    table = run.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == len(run.trials)


def test_a_table_without_pandas_says_what_to_install(run: nas_kd.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(nas_kd.InputError, match=r"^to_pandas needs pandas: pip install pandas$"):
        run.to_pandas()


def test_a_notebook_shows_a_run_and_its_plots(run: nas_kd.Run) -> None:
    page = run._repr_html_()
    assert page.count("<tr>") == 1 + len(run.finalists)
    assert page.count("winner") == 1
    assert "memory:" not in page
    assert "logit_matching" in page or "soft_targets" in page
    for front in ("latency", "size"):
        figure: Any = run.plot(front)
        assert Image.open(io.BytesIO(figure._repr_png_())).size == (1040, 720)


def test_methods_are_named_in_the_report_as_their_author_names_them(run: nas_kd.Run, tmp_path: Path) -> None:
    page = run.write_report(tmp_path / "report")
    text = (page.parent / "report.md").read_text(encoding="utf-8")
    before_the_config = text.partition("```toml")[0]
    assert "memory:" not in before_the_config
    assert "given in Python" in before_the_config


def test_a_loaded_student_is_the_exported_one(run: nas_kd.Run, tmp_path: Path) -> None:
    x = splits()["test"][0]
    for finalist in run.finalists:
        student = finalist.load_model()
        assert not any(module.training for module in student.modules())
        agrees(student, finalist.export(tmp_path / f"{finalist.id}.onnx"), x)
        weights = load_file(finalist.save_weights(tmp_path / f"{finalist.id}.safetensors"))
        assert same(weights, student.state_dict())


def test_the_winners_folder(run: nas_kd.Run, run_dir: Path) -> None:
    assert run.winner is not None
    student = run.winner.load_model()
    assert same(load_file(run_dir / "winner" / "student.safetensors"), student.state_dict())
    agrees(student, run_dir / "winner" / "student.onnx", splits()["val"][0])


def test_predict_needs_the_winners_folder_alone(run: nas_kd.Run, run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir / "winner", tmp_path / "winner")
    x = splits()["test"][0][:5]
    np.save(tmp_path / "samples.npy", x.numpy())
    command = [sys.executable, "-I", "winner/predict.py", "samples.npy"]
    lines = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.splitlines()
    expected = logits_of(run_dir / "winner" / "student.onnx", x).argmax(dim=1).tolist()
    assert [re.match(r"samples.npy\[(\d)\]: (\d) \(", line).groups() for line in lines] == [  # type: ignore[union-attr]
        (str(i), str(label)) for i, label in enumerate(expected)
    ]
    Image.new("L", (8, 8)).save(tmp_path / "photo.png")
    command[-1] = "photo.png"
    refused = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: photo.png: this network takes arrays (1, 8, 8)")


def test_another_budget(run: nas_kd.Run, run_dir: Path, tmp_path: Path) -> None:
    smallest = min(run.finalists, key=lambda f: f.costs.require_size())
    budget = nas_kd.Budget(max_size_kb=smallest.costs.require_size() / 1000)
    assert run.export(tmp_path / "a.onnx", budget=budget).id == smallest.id
    assert nas_kd.export_winner(run_dir, tmp_path / "b.onnx", budget).id == smallest.id
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    card = json.loads((tmp_path / "b.json").read_text())
    assert card["nas_kd.candidate"]["id"] == smallest.id
    other = run.finalists[0]
    assert run.export(tmp_path / "c.onnx", trial=other.trial).id == other.id
    with pytest.raises(nas_kd.BudgetError, match=r"^no finalist meets the budget; closest: "):
        run.export(tmp_path / "d.onnx", budget=nas_kd.Budget(max_size_kb=0.1))
    with pytest.raises(nas_kd.InputError, match=r"^trial 99 is not a finalist, its weights were not kept; finalists: "):
        nas_kd.export_winner(run_dir, tmp_path / "d.onnx", trial=99)
    assert not (tmp_path / "d.onnx").exists()


def test_a_program_without_the_space_is_asked_for_it(run_dir: Path, tmp_path: Path) -> None:
    code = (
        "import sys, nas_kd; winner = nas_kd.load_run(sys.argv[1]).winner\n"
        "try: winner.load_model()\nexcept nas_kd.InputError as error: print(error)\n"
        "from tests.api.search_toys import TinySpace; print(winner.load_model(TinySpace()).training)"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(run_dir)]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert done.stdout == "the space 'tiny' was given in Python: pass it, load_model(space=...)\nFalse\n"


def test_a_space_of_the_wrong_size_does_not_take_the_weights(run: nas_kd.Run) -> None:
    class OtherSpace(TinySpace):
        def network(self, choices: Any, channels: int, n_classes: int) -> nn.Module:
            return net()

    assert run.winner is not None
    with pytest.raises(nas_kd.InputError, match=r"^the weights are not those of candidate [0-9a-f]{12}: "):
        run.winner.load_model(OtherSpace())


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nas_kd.InputError, match=r"nowhere: no such run folder$"):
        nas_kd.load_run(tmp_path / "nowhere")
    with pytest.raises(nas_kd.InputError, match=r"not a nas-kd run \(no config.toml in it\)$"):
        nas_kd.load_run(tmp_path)
