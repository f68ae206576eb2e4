"""Markdown that shows text from outside literally, whatever is in it."""

import re

MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#!&$])")
_LIST_OR_HEADING = re.compile(r"^(\s*)(?:([-+=])|(\d+)([.)]))")


class Markdown(str):
    """Text that is Markdown already and must not be escaped again."""

    __slots__ = ()


def escape_markdown(text: object) -> str:
    """Escape text so that Markdown shows it literally, on one line."""
    return MARKDOWN_SPECIAL.sub(r"\\\1", str(text).replace("\r", " ").replace("\n", " "))


def paragraph(text: object) -> str:
    """Escape text that begins a line, where a hyphen or `1.` would begin a list."""
    return _LIST_OR_HEADING.sub(r"\1\3\\\2\4", escape_markdown(text))


def code_span(text: object) -> str:
    """Format text as a Markdown code span, whatever back-ticks it contains."""
    line = " ".join(str(text).split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def code_block(text: str, language: str = "") -> str:
    """Format text as a fenced Markdown block that nothing in it can close."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
