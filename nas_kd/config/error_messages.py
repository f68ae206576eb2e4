"""One-line messages about faulty configs: the option, what is allowed, what was given, and the nearest name."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nas_kd.config.fields import format_number, is_auto, is_list, section_class
from nas_kd.config.options import RENAMED, SearchConfig
from nas_kd.config.section import Options
from nas_kd.config.value_types import AUTO

# Prefixes of pydantic's error types -> the kind of value that is expected.
_MUST_BE = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string_type": "a text",
    "path": "a path (a text)",
    "tuple_type": "a list",
    "dict": "a table",
    "model": "a section (a table)",
}
_LIMITS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


def describe_validation_error(error: ValidationError, raw: Mapping[str, Any]) -> str:
    """Describe the first of pydantic's errors and count the others.

    Args:
        error: pydantic's error.
        raw: the config that it is about, as nested dictionaries.
    """
    problems = error.errors(include_url=False)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _describe(problems[0], raw) + more


def describe_python_error(error: ValidationError, section: type[Options], given: Mapping[str, Any]) -> str:
    """Describe the first error in options that were given in Python, by their names in config.toml.

    Args:
        error: pydantic's error.
        section: the class that refused them.
        given: its arguments by name.
    """
    path = section_path(section)
    problems = [{**problem, "loc": (*path, *problem["loc"])} for problem in error.errors(include_url=False)]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raw = given
    for name in reversed(path):
        raw = {name: raw}
    return _describe(cast(ErrorDetails, problems[0]), raw) + more


def section_path(section: type[Options], parent: type[Options] = SearchConfig) -> tuple[str, ...]:
    """Names that lead to a section in config.toml, such as ("data", "augment"); empty if none does.

    Args:
        section: its class.
        parent: the section to search.
    """
    for name, field in parent.model_fields.items():
        inner = section_class(field)
        if inner is section:
            return (name,)
        if inner is not None and (path := section_path(section, inner)):
            return (name, *path)
    return ()


def renamed_options(keys: Iterable[str]) -> str | None:
    """Describe options that are given by an old name; None if there are none.

    Args:
        keys: dotted keys of the config, such as "chain.ladder".
    """
    return "; ".join(f"{key}: renamed to {new}" for key in keys if (new := _new_name(key))) or None


def _new_name(key: str) -> str | None:
    for old in sorted(RENAMED, key=len, reverse=True):  # a renamed option before its renamed section
        if key == old or key.startswith(f"{old}."):
            return RENAMED[old] + key.removeprefix(old)
    return None


def wrong_type(raw: Any, config: Any, name: str = "") -> str | None:
    """Describe the first value that pydantic converted from another type, such as "20" to a number or true to 1.

    Args:
        raw: the config as it was written, or a part of it.
        config: the validated config, or the same part.
        name: dotted key of the part.

    Returns:
        A message, or None if all types match.
    """
    if isinstance(config, Options) and isinstance(raw, Mapping):
        given = [k for k in type(config).model_fields if k in raw and k in config.model_fields_set]
        pairs = [(raw[k], getattr(config, k), f"{name}.{k}".strip(".")) for k in given]
    elif is_list(config):
        items = raw if is_list(raw) else [raw]
        labels = [name] * len(items) if len(items) == 1 else [f"{name}.{n}" for n in range(len(items))]
        pairs = list(zip(items, config, labels, strict=True))
    else:
        return _wrong_leaf(raw, config, name)
    return next((found for pair in pairs if (found := wrong_type(*pair))), None)


def _wrong_leaf(raw: Any, value: Any, name: str) -> str | None:
    is_bool, number = isinstance(value, bool), isinstance(value, int | float)
    if number and (isinstance(raw, bool) != is_bool or isinstance(raw, str)):
        kind = "bool" if is_bool else "int" if isinstance(value, int) else "float"
        or_auto = _or_auto(name.split("."))
        return f"{name} must be {_MUST_BE[kind]}{or_auto}, got {_given(raw)}"
    return None


def _describe(problem: ErrorDetails, raw: Mapping[str, Any]) -> str:
    name, value = _dotted(problem["loc"], raw), problem["input"]
    if problem["type"] == "extra_forbidden":
        return _unknown(problem["loc"], name, value)
    if problem["type"] == "value_error":
        return f"{name}: {problem['ctx']['error']}".removeprefix(": ")
    must = _must(problem["type"], problem.get("ctx", {}), _or_auto(problem["loc"]))
    if must is None:
        return f"{name}: {problem['msg']}, got {_given(value)}"
    return f"{name} must {must}, got {_given(value)}{_nearest(value, problem)}"


def _or_auto(loc: Iterable[int | str]) -> str:
    """What a message adds to the values of an option that may be "auto"; empty for others."""
    names = [part for part in loc if isinstance(part, str) and not part.isdecimal()]
    field = _model_at(tuple(names[:-1])).model_fields.get(names[-1]) if names else None
    return f' or "{AUTO}"' if field is not None and is_auto(field) else ""


def _must(kind: str, context: Mapping[str, Any], or_auto: str) -> str | None:
    if kind in _LIMITS:
        limit, sign = _LIMITS[kind]
        return f"be {sign} {format_number(context[limit])}"
    if kind == "literal_error":
        expected = context["expected"]
        return f"be {expected.replace(' or ', ', ')} or '{AUTO}'" if or_auto else f"be {expected}"
    if kind == "too_short":
        return f"have at least {context['min_length']} items"
    if kind == "string_pattern_mismatch":
        return f"match {context['pattern']}"
    described = (description for start, description in _MUST_BE.items() if kind.startswith(start))
    return next((f"be {description}{or_auto}" for description in described), None)


def _unknown(loc: tuple[int | str, ...], name: str, value: Any) -> str:
    """Describe an unknown key, with the nearest key of its section or the section that has this key."""
    key, model = str(loc[-1]), _model_at(loc[:-1])
    allowed = sorted(model.model_fields)
    what = "section" if model is SearchConfig and isinstance(value, dict) else "key"
    if near := get_close_matches(key, allowed, n=1):
        return f"{name}: unknown {what}; did you mean {near[0]!r}?"
    sections = ((s, section_class(f)) for s, f in SearchConfig.model_fields.items())
    elsewhere = [f"{s}.{key}" for s, inner in sections if inner and key in inner.model_fields]
    if elsewhere:
        return f"{name}: unknown {what}; did you mean {' or '.join(map(repr, elsewhere))}?"
    return f"{name}: unknown {what}; allowed: {', '.join(allowed)}"


def _model_at(loc: tuple[int | str, ...]) -> type[Options]:
    model: type[Options] = SearchConfig
    for part in loc:
        if isinstance(part, str):
            model = section_class(model.model_fields[part]) or model
    return model


def _dotted(loc: tuple[int | str, ...], raw: Any) -> str:
    """Dotted key of a value, such as `teacher.epochs`; `teacher.1.epochs` if there are several teachers."""
    parts: list[str] = []
    for part in loc:
        known = raw if isinstance(raw, Mapping | list) else {}
        if isinstance(part, str):
            parts.append(part)
            raw = known.get(part) if isinstance(known, Mapping) else None
        elif isinstance(known, list):
            if len(known) != 1 or not isinstance(known[0], Mapping):
                parts.append(str(part))
            raw = known[part] if part < len(known) else None
    return ".".join(parts)


def _nearest(value: Any, problem: ErrorDetails) -> str:
    """Suggest the nearest of the allowed values, if they are a fixed set."""
    if problem["type"] != "literal_error":
        return ""
    names = [*re.findall(r"'([^']*)'", problem["ctx"]["expected"]), *([AUTO] if _or_auto(problem["loc"]) else [])]
    near = get_close_matches(str(value), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _given(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
