"""docs/architecture.md: its list of modules is the one that the modules' docstrings give."""

import re
from pathlib import Path

from docs.hooks.module_pages import ARCHITECTURE, ROOT, architecture_page, first_line, packages


def test_the_list_of_modules_is_current() -> None:
    message = "out of date; write it anew with: python -m docs.hooks.module_pages"
    assert ARCHITECTURE.read_text(encoding="utf-8") == architecture_page(), message


def test_every_module_is_listed_once() -> None:
    listed = [path for paths in packages().values() for path in paths]
    assert sorted(listed) == sorted(p for top in ("nas_kd", "search_spaces") for p in (ROOT / top).rglob("*.py"))


def test_every_module_says_what_it_is_for() -> None:
    silent = [p for paths in packages().values() for p in paths if p.name != "__init__.py" and not first_line(p)]
    assert silent == []


def test_the_first_line_of_a_docstring_is_taken(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('"""Says this.\n\nAnd that.\n"""\n', encoding="utf-8")
    assert first_line(tmp_path / "module.py") == "Says this."


def test_examples_are_set_as_code() -> None:
    """Under "Examples:"; any other heading makes prose of them, in which brackets are links."""
    paths = [path for paths in packages().values() for path in paths]
    wrong = [p for p in paths if re.search(r"^ +Example:$", p.read_text(encoding="utf-8"), re.MULTILINE)]
    assert wrong == []
