"""README and guides: configs load, Python compiles and uses documented names only, links lead somewhere."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import nas_kd
from nas_kd.cli.app import app
from nas_kd.config.loading import load_config

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
API = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"^::: nas_kd\.(\w+)$", API, re.MULTILINE))
OTHER_TOML = ("docs/devices.md", "docs/how-to/own-device.md")  # profiles of devices


def blocks(language: str) -> list[object]:
    found = []
    for guide in GUIDES:
        name = guide.relative_to(ROOT).as_posix()
        texts = re.findall(rf"^```{language}\n(.*?)^```", guide.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        found += [pytest.param(name, text, id=f"{name}:{i}") for i, text in enumerate(texts)]
    return found


@pytest.mark.parametrize(("guide", "text"), blocks("toml"))
def test_configs_load(guide: str, text: str, tmp_path: Path) -> None:
    parsed = tomllib.loads(text)
    if guide in OTHER_TOML and "device" not in parsed:
        return
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    assert set(parsed) <= set(load_config(tmp_path / "config.toml").model_dump())


@pytest.mark.parametrize(("guide", "text"), blocks("python"))
def test_python_uses_documented_names(guide: str, text: str) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nas_kd"
    }
    assert used <= DOCUMENTED | {"testing"}, guide


def test_every_public_name_is_documented() -> None:
    assert set(nas_kd.__all__) - {"__version__"} <= DOCUMENTED


def test_links_of_the_readme_lead_to_files() -> None:
    readme = GUIDES[0].read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in t]
    assert len(targets) > 5
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_the_readme_names_every_command() -> None:
    readme = GUIDES[0].read_text(encoding="utf-8")
    names = [c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands]
    assert [name for name in names if f"`nas-kd {name}" not in readme] == []
