"""What is wrong with a config, in one line: the option, what is allowed, what was given, and the nearest name."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nas_kd.config.fields import number, several, submodel
from nas_kd.config.options import Options, SearchConfig

# Start of pydantic's error types -> what the value must be.
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


def explain(error: ValidationError, raw: Mapping[str, Any]) -> str:
    """The first of pydantic's complaints about `raw`, in words, and how many more there are."""
    problems = error.errors(include_url=False)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _one(problems[0], raw) + more


def wrong_type(raw: Any, config: Any, name: str = "") -> str | None:
    """The first value that was read as another type than it was written in: "20" as a number, true as 1; else None."""
    if isinstance(config, Options) and isinstance(raw, Mapping):
        pairs = [(raw[k], getattr(config, k), f"{name}.{k}".strip(".")) for k in type(config).model_fields if k in raw]
    elif several(config):
        items = raw if several(raw) else [raw]
        labels = [name] * len(items) if len(items) == 1 else [f"{name}.{n}" for n in range(len(items))]
        pairs = list(zip(items, config, labels, strict=True))
    else:
        return _wrong_leaf(raw, config, name)
    return next((found for pair in pairs if (found := wrong_type(*pair))), None)


def _wrong_leaf(raw: Any, value: Any, name: str) -> str | None:
    is_bool, number = isinstance(value, bool), isinstance(value, int | float)
    if number and (isinstance(raw, bool) != is_bool or isinstance(raw, str)):
        kind = "bool" if is_bool else "int" if isinstance(value, int) else "float"
        return f"{name} must be {_MUST_BE[kind]}, got {_given(raw)}"
    return None


def _one(problem: ErrorDetails, raw: Mapping[str, Any]) -> str:
    name, value = _dotted(problem["loc"], raw), problem["input"]
    if problem["type"] == "extra_forbidden":
        return _unknown(problem["loc"], name, value)
    if problem["type"] == "value_error":
        return f"{name}: {problem['ctx']['error']}"
    must = _must(problem["type"], problem.get("ctx", {}))
    if must is None:
        return f"{name}: {problem['msg']}, got {_given(value)}"
    return f"{name} must {must}, got {_given(value)}{_nearest(value, problem)}"


def _must(kind: str, context: Mapping[str, Any]) -> str | None:
    if kind in _LIMITS:
        limit, sign = _LIMITS[kind]
        return f"be {sign} {number(context[limit])}"
    if kind == "literal_error":
        return f"be {context['expected']}"
    if kind == "too_short":
        return f"have at least {context['min_length']} items"
    if kind == "string_pattern_mismatch":
        return f"match {context['pattern']}"
    return next((f"be {description}" for start, description in _MUST_BE.items() if kind.startswith(start)), None)


def _unknown(loc: tuple[int | str, ...], name: str, value: Any) -> str:
    """An unknown key, with the nearest one of its section, or the section that has one of this name."""
    key, model = str(loc[-1]), _model_at(loc[:-1])
    allowed = sorted(model.model_fields)
    what = "section" if model is SearchConfig and isinstance(value, dict) else "key"
    if near := get_close_matches(key, allowed, n=1):
        return f"{name}: unknown {what}; did you mean {near[0]!r}?"
    sections = ((s, submodel(f)) for s, f in SearchConfig.model_fields.items())
    elsewhere = [f"{s}.{key}" for s, inner in sections if inner and key in inner.model_fields]
    if elsewhere:
        return f"{name}: unknown {what}; did you mean {' or '.join(map(repr, elsewhere))}?"
    return f"{name}: unknown {what}; allowed: {', '.join(allowed)}"


def _model_at(loc: tuple[int | str, ...]) -> type[Options]:
    model: type[Options] = SearchConfig
    for part in loc:
        if isinstance(part, str):
            model = submodel(model.model_fields[part]) or model
    return model


def _dotted(loc: tuple[int | str, ...], raw: Any) -> str:
    """`teacher.epochs`; with its place, from 0, where there are several."""
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
    """The nearest of the allowed values, where they are named."""
    if problem["type"] != "literal_error":
        return ""
    names = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
    near = get_close_matches(str(value), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _given(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
