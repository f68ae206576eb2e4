"""The site's hook: adds generated pages and files from outside docs/, and mends the links between them.

MkDocs calls the functions `on_...`. Run it from the repository's root: `python -m mkdocs build --strict`.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.hooks.module_pages import api_pages
from docs.hooks.reference_pages import commands_page, config_page, plugins_page

ROOT = Path(__file__).resolve().parents[2]
DEVELOPERS = "reference/packages"
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "reports/README.md", "reports/*/*.md")
OUTSIDE_ASSETS = ("reports/*/*.png", "reports/*/*.html", "reports/*/*/*.md", "reports/*/*/*.png")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List a page for each package under the heading that mkdocs.yml leaves empty."""
    for section in config.nav or []:
        for title, pages in section.items():
            if title == "Developers":
                pages.append({"Packages": [{name: f"{DEVELOPERS}/{name}.md"} for name in api_pages()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated, and what lies outside docs/, under its path in the repository."""
    generated = {
        "reference/commands.md": commands_page(),
        "reference/config.md": config_page(),
        "reference/choices.md": plugins_page(),
        **{f"{DEVELOPERS}/{name}.md": page for name, page in api_pages().items()},
    }
    for uri, content in generated.items():
        files.append(File.generated(config, uri, content=content))
    for path in _outside():
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def _outside() -> Iterator[Path]:
    for pattern in (*OUTSIDE, *OUTSIDE_ASSETS):
        yield from sorted(ROOT.glob(pattern))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links between docs/ and the rest of the repository work; one to a file that is not on the site is text."""
    uri = page.file.src_uri
    here = uri if _is_outside(uri) else f"docs/{uri}"
    if uri.startswith("reports/") and uri != "reports/README.md":
        page.meta["search"] = {"exclude": True}
    elif uri.startswith(DEVELOPERS):
        page.meta["search"] = {"boost": 0.3}

    def mended(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        wanted = path.removeprefix("docs/")
        if path.startswith("docs/") or files.get_file_from_path(wanted) is not None:
            return f"{image}[{text}]({posixpath.relpath(wanted, posixpath.dirname(uri) or '.')}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # MkDocs names it
        return text

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(mended, part) for part in parts)


def _is_outside(uri: str) -> bool:
    return not (ROOT / "docs" / uri).is_file() and (ROOT / uri).is_file()
