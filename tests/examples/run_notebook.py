"""Runs a notebook's code cells in order in this process: `python run_notebook.py NOTEBOOK DISPLAYED.json`.

What a notebook would display, the value of each cell's last expression, is written as JSON: one object a value, from
MIME type to text, as IPython asks objects for it.
"""

import ast
import base64
import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the notebook and write what it displays."""
    cells = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    displayed = [bundle for source in sources if (bundle := run_cell(source, namespace)) is not None]
    Path(sys.argv[2]).write_text(json.dumps(displayed), encoding="utf-8")


def run_cell(source: str, namespace: dict[str, Any]) -> dict[str, str] | None:
    """Run a cell; returns what is displayed, None if it does not end with an expression."""
    statements = ast.parse(source).body
    last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
    exec(compile(ast.Module(statements, []), "<cell>", "exec"), namespace)
    if not isinstance(last, ast.Expr):
        return None
    value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
    bundle = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_") and (html := value._repr_html_()) is not None:
        bundle["text/html"] = html
    if hasattr(value, "_repr_png_"):
        bundle["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return bundle


if __name__ == "__main__":
    main()
