"""Options that mean nothing to a command: refused where the result would not be what they ask for, else noted.

`[student]` asks for this one network and `[search]` for a choice among many, so each is refused by the commands that do
the other. Who shares one file on purpose says so: `--ignore student`, `--ignore search`. The other sections say how
networks are trained and what they may cost; what a command does not use of them is noted.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from nas_kd.config.options import SearchConfig, SearchSection
from nas_kd.config.section import Options
from nas_kd.errors import InputError

USED_BY_DISTILL = frozenset({"search.seed", "search.precisions", "search.inherit"})
FIRST_IS_USED = ("methods", "standardize", "checkpoint", "progression")  # of `distill`: what a search chooses from
REFUSED = {"search": "student", "profile": "student", "distill": "search"}  # by command: a section


def ignoring(config: SearchConfig, sections: Sequence[str], command: str) -> SearchConfig:
    """Leave out what a command would refuse of these sections.

    Args:
        config: stays as it is.
        sections: names, as given to `--ignore`.
        command: "search", "profile" or "distill".

    Raises:
        InputError: the command refuses no such section.
    """
    for name in sections:
        if name != REFUSED[command]:
            raise InputError(f"--ignore {name}: `nas-kd {command}` refuses no section but [{REFUSED[command]}]")
    if "student" in sections:
        config = config.model_copy(update={"student": None})
    if "search" in sections:
        used = {
            key.removeprefix("search."): getattr(config.search, key.removeprefix("search.")) for key in USED_BY_DISTILL
        }
        config = config.model_copy(update={"search": SearchSection(**used)})
    return config


def refuse_student(config: SearchConfig, command: str) -> None:
    """Refuse `[student]` in a config for a search, which chooses the student itself.

    Args:
        config: of the run.
        command: such as "search".

    Raises:
        InputError: says what to do.
    """
    if config.student is not None:
        raise InputError(
            f"student: means nothing to `nas-kd {command}`, which looks for students itself; remove [student], "
            "leave it out with --ignore student, or train this one with `nas-kd distill`"
        )


def refuse_search_options(config: SearchConfig) -> list[str]:
    """Refuse options of a search in a config for `nas-kd distill`, which trains one student.

    Values that are the default are no mistake: `nas-kd init` writes them all.

    Returns:
        Notes on what is not used, but may stand in a file that `nas-kd search` reads, too.

    Raises:
        InputError: names the options.
    """
    searched = [key for key in changed_options(config.search, "search") if key not in USED_BY_DISTILL]
    if searched:
        raise InputError(
            f"{', '.join(searched)}: of no use to `nas-kd distill`, which trains one student; remove "
            f"{'it' if len(searched) == 1 else 'them'}, leave [search] out with --ignore search, or run `nas-kd search`"
        )
    sections: dict[str, Options] = {"finalists": config.finalists, "chain": config.chain}
    unused = [key for name, section in sections.items() for key in changed_options(section, name)]
    unused += [f"distill.{name}" for name in ("temperature", "strength") if name in _changed(config.distill)]
    notes = [f"not used by `nas-kd distill`: {', '.join(unused)}"] if unused else []
    changed = _changed(config.distill)
    several = [name for name in FIRST_IS_USED if len(changed.get(name) or ()) > 1]
    return notes + [f"of distill.{name} the first is used: {_plain(changed[name][0])}" for name in several]


def changed_options(section: Options, name: str) -> list[str]:
    """List the dotted keys of a section, and of sections in it, whose values are not the defaults.

    Args:
        section: of a config.
        name: of the section in config.toml.
    """
    return [f"{name}.{key}" for key in _dotted(_changed(section))]


def _changed(section: Options) -> dict[str, Any]:
    default = type(section)()
    values = {name: (getattr(section, name), getattr(default, name)) for name in type(section).model_fields}
    return {
        name: _changed(value) if isinstance(value, Options) else value
        for name, (value, usual) in values.items()
        if value != usual
    }


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _dotted(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _dotted(value))
        else:
            yield name
