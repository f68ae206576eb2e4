"""Reads users' TOML files with the standard library alone, as device agents have little else installed."""

import tomllib
from pathlib import Path
from typing import Any

from nas_kd.config.other_formats import describe_other_format
from nas_kd.errors import InputError

_DEEP = "nested too deeply"


def read_toml(path: Path, if_missing: str) -> dict[str, Any]:
    """Read the tables of a TOML file.

    Args:
        path: the file.
        if_missing: advice for the message if there is no such file.

    Returns:
        Its tables as nested dictionaries.

    Raises:
        InputError: there is no such file, or it is not readable, not UTF-8 or not TOML.
    """
    text = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {if_missing}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; give the file in it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 (byte {error.start}); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        other = describe_other_format(text, path.name)
        raise InputError(f"{path}: {other or f'not valid TOML: {error or _DEEP}'}") from error
