"""Reference pages made from the code: commands, the config's options, and what there is to choose from."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import PurePath
from typing import Any

from typer.main import get_command

from nas_kd.cli.app import app
from nas_kd.config.options import SearchConfig
from nas_kd.models.search_space import SpaceOfTeacher
from nas_kd.plugins import available

Schema = Mapping[str, Any]
LIMITS = (
    ("exclusiveMinimum", ">"),
    ("minimum", "≥"),
    ("exclusiveMaximum", "<"),
    ("maximum", "≤"),
    ("minItems", "items ≥"),
)
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "object": "table"}


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table; `|` in a cell is escaped."""
    cells = [list(header), *(list(row) for row in rows)]
    lines = ["| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in row) + " |" for row in cells]
    return [lines[0], "|" + "---|" * len(cells[0]), *lines[1:], ""]


def commands_page() -> str:
    """Every command with its arguments and options, from the command line itself."""
    group: Any = get_command(app)
    lines = ["# Command line", "", group.help, ""]
    for name, command in group.commands.items():
        lines += [f"## nas-kd {name}", "", command.help, ""]
        rows = [_parameter(p) for p in command.params if not p.hidden]
        if rows:
            lines += table(("argument or option", "default", "what it is"), rows)
        elif command.context_settings.get("allow_extra_args"):
            lines += [
                f"`nas-kd {name} --help` lists its options; [Device agent](../device-agent.md) explains them.",
                "",
            ]
    return "\n".join(lines)


def _parameter(parameter: Any) -> tuple[str, str, str]:
    is_option = parameter.opts[0].startswith("-")
    shown = parameter.opts[-1] if is_option else parameter.name.upper()
    if is_option and parameter.metavar:
        shown += f" {parameter.metavar}"
    default = "required" if parameter.required else ""
    if parameter.default is not None and not (is_option and parameter.is_flag):
        default = f"`{parameter.default}`"
    return f"`{shown}`", default, parameter.help or ""


def config_page() -> str:
    """Every option of config.toml: type, default, limits and description, from the models that check it."""
    schema = SearchConfig.model_json_schema()
    lines = [
        "# config.toml",
        "",
        "Every option may be left out. `nas-kd init config.toml` writes a file with all of them; "
        "`--set section.key=value` sets any of them on the command line. A mistake is answered in one line: "
        "`distill.epoch: unknown key; did you mean 'epochs'?` "
        "Relative paths are relative to the file, and `$VARIABLES` of the environment are expanded in paths.",
        "",
        "## Top level",
        "",
    ]
    lines += _options({k: v for k, v in schema["properties"].items() if _section(v, schema) is None})
    for name, option in schema["properties"].items():
        lines += _section_lines(name, option, schema)
    return "\n".join(lines)


def _section_lines(name: str, option: Schema, schema: Schema) -> Iterator[str]:
    """The section called `name`, then those within it; nothing if the option is no section."""
    section = _section(option, schema)
    if section is None:
        return
    several = "" if "items" not in option else f", or `[[{name}]]` twice and more"
    yield from (f"## `[{name}]`", "", f"{section.get('description', '')}{several and f' `[{name}]`{several}.'}", "")
    properties = section["properties"]
    yield from _options({k: v for k, v in properties.items() if _section(v, schema) is None})
    for inner, inner_option in properties.items():
        yield from _section_lines(f"{name}.{inner}", inner_option, schema)


def _section(option: Schema, schema: Schema) -> Schema | None:
    """The model that the option holds, or None."""
    reference = option.get("$ref") or option.get("items", {}).get("$ref")
    return None if reference is None else schema["$defs"][reference.rpartition("/")[2]]


def _options(options: Mapping[str, Schema]) -> list[str]:
    rows = [
        (f"`{k}`", _type(v), _default(v.get("default")), _limits(v), v.get("description", ""))
        for k, v in options.items()
    ]
    return table(("option", "type", "default", "limits", "what it is"), rows)


def _type(option: Schema) -> str:
    kinds = [part for part in option.get("anyOf", [option]) if part.get("type") != "null"]
    return " or ".join(_one_type(kind) for kind in kinds)


def _one_type(kind: Schema) -> str:
    if "enum" in kind:
        return " | ".join(map(str, kind["enum"]))
    if "const" in kind:
        return str(kind["const"])
    if kind.get("type") == "array":
        items = kind.get("items") or kind.get("prefixItems", [{}])[0]
        return "two numbers, low and high" if "prefixItems" in kind else f"list of {_type(items)}"
    return "path" if kind.get("format") == "path" else TYPES[kind["type"]]


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(_default(item).strip('`') for item in value)}]`"
    return f'`"{value}"`' if isinstance(value, str | PurePath) else f"`{value:.15g}`"


def _limits(option: Schema) -> str:
    parts = [part for part in option.get("anyOf", [option]) if part.get("type") != "null"]
    shown = [part for part in parts if "prefixItems" not in part]
    return ", ".join(f"{sign} {part[key]:.15g}" for part in shown for key, sign in LIMITS if key in part)


def plugins_page() -> str:
    """Everything that can be chosen by name, from the folders that are its registries."""
    lines = ["# What there is to choose from", ""]
    lines += ["The tables of `nas-kd list`. Anything of your own is named `package.module:Name`.", ""]
    lines += ["## Methods", "", METHODS, ""]
    methods = sorted(available("method").values(), key=lambda m: (_family(m), m.name))
    header = ("method", "what it does", "looks at", "teachers", "CE", "gradient", "source")
    for family, members in groupby(methods, key=_family):
        lines += [f"### {family.capitalize()}", "", *table(header, map(_method, members))]
    spaces = available("space").values()
    lines += ["## Search spaces", "", *table(("space", "what it is", "students"), map(_space, spaces))]
    sources = available("dataset").values()
    lines += ["## Data sources", "", *table(("source", "what it is", "options of `[data]`"), map(_source, sources))]
    devices = available("device").values()
    lines += ["## Devices", "", *table(("device", "what it is"), ((f"`{d.name}`", d.summary) for d in devices))]
    lines += ["Your own is a TOML file: [Devices](../devices.md).", ""]
    precisions = available("precision").values()
    lines += [
        "## Precisions",
        "",
        *table(("precision", "what it is"), ((f"`{p.name}`", p.summary) for p in precisions)),
    ]
    policies = available("policy").values()
    rows = ((f"`{p.name}`", p.summary, p.source) for p in policies)
    lines += ["## Chain policies", "", *table(("policy", "how a chain of assistants is taught", "source"), rows)]
    for kind in ("sampler", "executor", "task", "score", "baseline", "collection", "head"):
        rows_of_kind = ((f"`{p.name}`", p.summary) for p in available(kind).values())
        lines += [f"## {kind.capitalize()}s", "", *table((kind, "what it is"), rows_of_kind)]
    return "\n".join(lines)


METHODS = (
    "`a+b` sums the terms of two methods. *CE*: weight of cross-entropy with the labels. *Gradient*: length of the "
    "method's gradient on the student as a multiple of cross-entropy's, at `strength` 1; none: the published weights "
    "are used as they are."
)


def _family(method: Any) -> str:
    """The folder that the method lies in."""
    return str(method.__module__.split(".")[-2]).replace("_", " ")


def _method(method: Any) -> tuple[str, ...]:
    made = method()
    gradient = made.target_grad_ratio
    return (
        f"`{made.name}`",
        made.summary,
        ", ".join(sorted(made.needs)),
        made.teachers,
        f"{made.ce_weight:g}",
        "" if gradient is None else f"{gradient:g}",
        made.source,
    )


def _space(space: Any) -> tuple[str, ...]:
    students = "as the teacher allows" if isinstance(space, SpaceOfTeacher) else f"{space.cardinality():,}"
    return f"`{space.name}`", space.summary, students


def _source(source: Any) -> tuple[str, ...]:
    return f"`{source.name}`", source.summary, ", ".join(f"`{use}`" for use in sorted(source.uses))
