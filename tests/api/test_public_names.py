"""What `import nas_kd` promises: documented names that work as their examples say, whatever else is imported."""

import doctest
import importlib
import inspect
import pkgutil
import pydoc
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import nas_kd

from .toys import net, samples

pytestmark = pytest.mark.xdist_group("tiny run")
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def examples_of(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(getattr(nas_kd, name)) or "")


def test_names_are_found_by_dir_and_help_and_in_the_reference() -> None:
    assert set(nas_kd.__all__) <= set(dir(nas_kd))
    manual = pydoc.render_doc(nas_kd, renderer=pydoc.plaintext)
    reference = re.findall(r"^::: nas_kd\.(\w+)$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    for name in nas_kd.__all__:
        assert re.search(rf"\b{name}\b", manual), name
        assert name in reference
    assert "__version__" in dir(nas_kd)
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        nas_kd.serach  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("name", nas_kd.__all__)
def test_the_docstring_explains(name: str) -> None:
    value = getattr(nas_kd, name)
    first = (inspect.getdoc(value) or "").splitlines()[0]
    assert first.endswith(".")
    assert len(first.split()) >= 5
    assert value.__name__ == name
    if inspect.isfunction(value):
        text = inspect.getdoc(value) or ""
        assert all(f"    {parameter}: " in text for parameter in inspect.signature(value).parameters), name
    assert len([e for e in examples_of(name) if doctest.SKIP not in e.options]) >= 2


@pytest.mark.parametrize("name", nas_kd.__all__)
def test_the_examples_work(name: str, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run_dir, tmp_path / "runs" / "demo")
    shutil.copy(run_dir / "config.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    runner = doctest.DocTestRunner(verbose=False)
    test = doctest.DocTest(examples_of(name), {}, name, None, None, None)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_no_module_has_the_name_of_a_public_function() -> None:
    modules = {module.name for module in pkgutil.iter_modules(nas_kd.__path__)}
    assert modules & set(nas_kd.__all__) == set()


def call_everything(run_dir: Path, out: Path) -> list[Any]:
    run = nas_kd.search(run_dir / "config.toml", run_dir=run_dir)
    nas_kd.distill(net(), train=samples(), method="none", epochs=1)
    return [run.winner, nas_kd.load_run(run_dir).winner, nas_kd.export_winner(run_dir, out).id]


def test_public_functions_can_be_called_again_whatever_is_imported(run_dir: Path, tmp_path: Path) -> None:
    first, second = (call_everything(run_dir, tmp_path / "a.onnx") for _ in range(2))
    assert repr(first) == repr(second)
    for module in pkgutil.walk_packages(nas_kd.__path__, "nas_kd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert repr(call_everything(run_dir, tmp_path / "a.onnx")) == repr(first)


def test_the_import_is_light() -> None:
    code = "import sys, nas_kd; print(sorted({'torch', 'optuna', 'onnx', 'pydantic', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
