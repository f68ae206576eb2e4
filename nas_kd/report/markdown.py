"""report.md: what the page says, with the pictures as images."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from nas_kd.report.content import ReportContent
from nas_kd.report.finalists import COLUMNS

SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#!&$])")


def escape(text: object) -> str:
    """Text as Markdown shows it literally, on one line: neither markup nor HTML in it has an effect."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split(" ")).replace("\r", " ").replace("\n", " "))


def code(text: object) -> str:
    """Text as a code span, whatever back-ticks it holds."""
    line = " ".join(str(text).split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def block(text: str, language: str = "") -> str:
    """A fenced block that nothing in `text` can close."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def markdown(content: ReportContent) -> str:
    """The whole of report.md."""
    environment = Environment(
        loader=PackageLoader("nas_kd.report"),
        autoescape=False,  # not HTML: every value goes through the finaliser below
        finalize=lambda value: value if isinstance(value, _Done) else escape(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = lambda text: _Done(code(text))
    environment.filters["block"] = lambda text: _Done(block(text, "toml"))
    text = environment.get_template("report.md").render(
        **{name: getattr(content, name) for name in content.__dataclass_fields__},
        run=content.context.run,
        columns=COLUMNS,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


class _Done(str):
    """Markdown already: not to be escaped again."""

    __slots__ = ()
