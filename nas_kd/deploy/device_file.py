"""A user's own device profile: a TOML file, in which every mistake is one line that names file and key."""

from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from nas_kd.candidate import Precision
from nas_kd.config import Options
from nas_kd.config_errors import explain, wrong_type
from nas_kd.config_file import read_toml
from nas_kd.errors import InputError

Optimisation = Literal["all", "extended", "basic", "none"]
IntegerScheme = Literal["u8s8", "s8s8"]


def version_range(text: str) -> SpecifierSet:
    """What `>=1.20,<2` stands for; nothing: any version.

    Raises:
        InputError: it is no such range.
    """
    try:
        return SpecifierSet(text)
    except InvalidSpecifier as error:
        raise InputError(f"must be a range of versions such as '>=1.20,<2', got {text!r}") from error


def _threads(value: Any) -> int | None:
    if value == "all":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f'must be a whole number >= 1, or "all" (every core), got {value!r}')


def _line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError(f"must be one line of text, got {value!r}")
    return value


def _versions(value: str) -> str:
    version_range(value)
    return value


def _texts(value: Any) -> dict[str, str]:
    plain = isinstance(value, dict) and all(
        isinstance(v, str | int) and not isinstance(v, bool) for v in value.values()
    )
    if not plain:
        raise ValueError(f"must be a table of texts and whole numbers, got {value!r}")
    return {name: str(inner) for name, inner in value.items()}


Line = Annotated[str, AfterValidator(_line)]


class DeviceFile(Options):
    """Every key that a profile can have; all of them may be left out."""

    name: Line | None = Field(None, description="how reports call it (default: the file's name)")
    summary: Line | None = Field(None, description="what it is, in a line")
    provider: str = Field("CPUExecutionProvider", description="ONNX Runtime's execution provider")
    provider_options: Annotated[dict[str, str], BeforeValidator(_texts)] = Field({}, description="a table: its options")
    threads: Annotated[int | None, BeforeValidator(_threads)] = Field(
        1, description='>= 1, or "all": one on every core'
    )
    spinning: bool = Field(False, description="idle threads wait busily: faster, and burns their cores")
    optimisation: Optimisation = Field("all", description="ONNX Runtime's graph level")
    pinned: bool = Field(True, description="bind the measuring process to as many cores as it has threads")
    batch_size: int = Field(1, ge=1, description="samples a call, where the config or the command line names none")
    precisions: tuple[Precision, ...] | None = Field(None, description="what the search may use (default: all)")
    integer_scheme: IntegerScheme | None = Field(
        None, description="activations and weights of int8 networks (default: u8s8 on x86, s8s8 elsewhere)"
    )
    onnxruntime: Annotated[str, AfterValidator(_versions)] = Field(
        "", description='versions of ONNX Runtime that will do: ">=1.20,<2" (default: any)'
    )


def read_device_file(path: Path) -> dict[str, Any]:
    """Arguments of a `DeviceProfile`.

    Raises:
        InputError: no such file, not TOML, an unknown key, a value of the wrong type or out of its range.
    """
    raw = read_toml(path, "docs/devices.md shows how to write one")
    try:
        profile = DeviceFile.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, raw, DeviceFile)}") from error
    if problem := wrong_type(raw, profile):
        raise InputError(f"{path}: {problem}")
    given = profile.model_dump(exclude_none=True)  # what is None follows from the machine, or from the file's name
    return {
        "name": path.stem,
        "summary": f"the profile in {path.name}",
        **given,
        "threads": profile.threads,
        "provider_options": tuple(sorted(profile.provider_options.items())),
    }
