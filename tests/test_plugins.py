"""Plug-ins are found by their folder; the user's own by `package.module:Name`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_kd.errors import InputError
from nas_kd.plugins import REGISTRIES, available, import_object, load


@pytest.mark.parametrize("kind", REGISTRIES)
def test_names_are_those_of_the_plugins_in_order(kind: str) -> None:
    plugins = available(kind)
    assert list(plugins) == sorted(p.name for p in plugins.values())
    assert all(load(kind, name) is plugin for name, plugin in plugins.items())
    assert all(isinstance(p.summary, str) and "\n" not in p.summary for p in plugins.values())


def test_what_is_built_in() -> None:
    assert {"none", "soft_targets", "dkd", "fitnet", "attention_transfer", "similarity"} <= available("method").keys()
    assert {"resnet", "mobilenet"} <= available("space").keys()
    assert {"digits", "parquet", "image_folder", "npz"} <= available("dataset").keys()
    assert "cpu-1t" in available("device")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("method", "fitnets", "unknown method 'fitnets'; did you mean 'fitnet'?"),
        ("space", "mobilnet", "unknown space 'mobilnet'; did you mean 'mobilenet'?"),
        ("device", "cpu1t", "unknown device 'cpu1t'; did you mean 'cpu-1t'?"),
        ("dataset", "zzz", "unknown dataset 'zzz'; allowed: coco, digit_boxes, digit_masks, digits, "),
        ("method", "", "unknown method ''; allowed: "),
    ],
)
def test_unknown_names(kind: str, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(kind, name)
    assert str(caught.value).startswith(message)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder of the user's; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - before:
        del sys.modules[name]


def test_an_object_of_the_user_s(own: Path) -> None:
    (own / "my_things.py").write_text("class Space: ...\nanswer = 42\n")
    assert import_object("my_things:answer") == 42
    assert load("space", "my_things:Space").__name__ == "Space"


def test_objects_that_cannot_be_had(own: Path) -> None:
    (own / "my_broken.py").write_text("import json\n1 / 0\n")
    (own / "my_other.py").write_text("Space = 1\n")
    with pytest.raises(InputError, match="cannot import 'my_missing' of 'my_missing:Space': ModuleNotFoundError"):
        import_object("my_missing:Space")
    with pytest.raises(InputError, match="cannot import 'my_broken' of 'my_broken:Space': ZeroDivisionError"):
        import_object("my_broken:Space")
    with pytest.raises(InputError, match=r"unknown name in my_other 'Spaces'; did you mean 'Space'\?"):
        import_object("my_other:Spaces")
    with pytest.raises(InputError, match="cannot import ''"):
        import_object(":Space")
