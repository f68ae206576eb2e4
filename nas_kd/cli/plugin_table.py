"""Prints the plug-ins that a kind of name can choose from: methods, spaces, data sources, ..."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table


def print_plugins(kind: str, plugins: Mapping[str, Any]) -> None:
    """Print the name and summary of each plug-in; of methods, by family, also needs, defaults and source.

    Args:
        kind: what they are: "method", "space", ...
        plugins: by name.
    """
    table = Table(Column("name", no_wrap=True), "description")
    family = _family if kind == "method" else (lambda _: "")
    for name, plugin in sorted(plugins.items(), key=lambda item: (family(item[1]), item[0])):
        summary = escape(getattr(plugin, "summary", ""))
        table.add_row(name, f"{summary}\n[dim]{escape(_method_facts(plugin))}[/dim]" if kind == "method" else summary)
    Console().print(table)


def _method_facts(method: Any) -> str:
    """`feature; needs features; CE x 1, gradient x 4; Romero 2015, arXiv:1412.6550`."""
    made = method()
    needs = ["several teachers"] if made.teachers == "several" else []
    needs += sorted(made.needs - {"logits", "network"})
    if made.teachers == "none" or made.generations:
        needs.append("no teacher")
    if "network" in made.needs:
        needs.append("the teacher's gradients but no training images")
    default = [f"CE x {made.ce_weight:g}"]
    if made.target_grad_ratio is not None and made.teachers != "none":
        default.append(f"gradient x {made.target_grad_ratio:g}")
    if "temperature" in made.tunable:
        default.append(f"T {made.temperature:g}")
    if made.train_cost_factor > 1:
        default.append(f"{made.train_cost_factor:.1f} networks")
    if made.generations:
        default.append(f"{made.generations} generations before")
    needed = [f"needs {', '.join(needs)}"] if needs else []
    return "; ".join([_family(method), *needed, ", ".join(default), made.source])


def _family(method: type) -> str:
    """The family of a method: the name of its folder."""
    parts = method.__module__.split(".")
    return parts[-2].replace("_", " ") if len(parts) > 1 else ""
