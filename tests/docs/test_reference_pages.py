"""Generated reference pages: nothing that users can set, call or choose is missing from them."""

from collections.abc import Iterator

from pydantic import BaseModel
from typer.main import get_command

from docs.hooks.reference_pages import commands_page, config_page, plugins_page, table
from nas_kd import SearchConfig
from nas_kd.cli.app import app
from nas_kd.plugins import REGISTRIES, available


def options(model: type[BaseModel]) -> Iterator[str]:
    for name, option in model.model_json_schema()["properties"].items():
        if "$ref" not in option and "$ref" not in option.get("items", {}):
            yield name


def test_every_option_has_a_row() -> None:
    page = config_page()
    models = [SearchConfig, *(type(value) for value in vars(SearchConfig()).values() if isinstance(value, BaseModel))]
    missing = [name for model in models for name in options(model) if f"| `{name}` |" not in page]
    assert missing == []


def test_a_row_has_type_default_limits_and_description() -> None:
    row = "| `val_fraction` | number | `0.15` | > 0, < 0.5 | share of train used for validation where val is missing |"
    assert row in config_page().splitlines()


def test_every_command_and_its_options_are_there() -> None:
    page = commands_page()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        _, _, section = page.partition(f"## nas-kd {name}\n")
        section = section.partition("\n## ")[0]
        assert section, name
        assert all(f"`{p.opts[-1]}" in section for p in command.params if p.opts[0].startswith("-")), name


def test_everything_that_can_be_chosen_is_there() -> None:
    page = plugins_page()
    assert [name for kind in REGISTRIES for name in available(kind) if f"| `{name}` |" not in page] == []


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert table(("a",), [("x | y",)]) == ["| a |", "|---|", r"| x \| y |", ""]
