"""Lists every module by the first line of its docstring, and makes a page of API reference for each package.

`python -m docs.hooks.module_pages` writes the list into docs/architecture.md; a test holds it current.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- begin: every module, written by `python -m docs.hooks.module_pages` -->"
END = "<!-- end: every module -->"
TOP = "nas_kd"
TOPS = (TOP, "search_spaces")
# Packages in the order in which a reader of the code meets them; others follow by name.
ORDER = ("cli", "commands", "config", "context", "nas", "kd", "engine", "methods", "models", "search_spaces", "data")


def packages() -> dict[str, list[Path]]:
    """Modules by package: the package's name -> its files; of `nas_kd` itself those that lie in no package."""
    found: dict[str, list[Path]] = {}
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).parts
            package = parts[1] if parts[0] == TOP and len(parts) > 2 else parts[0]
            found.setdefault(package, []).append(path)
    return dict(sorted(found.items(), key=lambda item: (_place(item[0]), item[0])))


def _place(package: str) -> int:
    return -1 if package == TOP else ORDER.index(package) if package in ORDER else len(ORDER)


def module_list() -> str:
    """Markdown: a heading for each package and a line for each of its modules."""
    return "\n".join(line for package, paths in packages().items() for line in _lines(package, paths)) + "\n"


def _lines(package: str, paths: list[Path]) -> Iterator[str]:
    folder = package if package in TOPS else f"{TOP}/{package}"
    about = first_line(ROOT / folder / "__init__.py")
    yield from (f"### `{folder}/`", "", *((about, "") if about else ()))
    for path in paths:
        if path.name != "__init__.py":
            name = path.relative_to(ROOT / folder).as_posix()
            yield f"- `{name}`: {first_line(path) or '(no docstring)'}"
    yield ""


def first_line(path: Path) -> str:
    """The first line of a module's docstring; empty if it has none."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0].strip()


def architecture_page() -> str:
    """docs/architecture.md with the list as the modules have it now."""
    before, _, rest = ARCHITECTURE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{module_list()}\n{END}{after}"


def api_pages() -> dict[str, str]:
    """A page for each package: its name -> Markdown that mkdocstrings fills with the modules' docstrings."""
    return {package: _api_page(package, paths) for package, paths in packages().items()}


def _api_page(package: str, paths: list[Path]) -> str:
    shown = [path.relative_to(ROOT) for path in paths if path.name not in ("__init__.py", "__main__.py")]
    title = package if package in TOPS else f"{TOP}.{package}"
    return "\n".join([f"# {title}\n", *(f"::: {'.'.join(path.with_suffix('').parts)}\n" for path in shown)])


def main() -> None:
    """Write the module tables of docs/architecture.md anew."""
    ARCHITECTURE.write_text(architecture_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
