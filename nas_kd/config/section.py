"""The base class of the sections of a config."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from nas_kd.config.value_types import AUTO, AutoIfUnset
from nas_kd.errors import InputError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as _ModelMetaclass
else:
    _ModelMetaclass = type(BaseModel)  # pydantic has no public name for it


class _OneLineErrors(_ModelMetaclass):
    """Turns the errors of options that are given in Python into the one-line errors of the command line."""

    def __call__(cls, *args: Any, **given: Any) -> Any:
        try:
            return super().__call__(*args, **given)
        except ValidationError as error:
            messages = import_module("nas_kd.config.error_messages")  # which imports this module
            raise InputError(messages.describe_python_error(error, cls, given)) from error


class Options(BaseModel, metaclass=_OneLineErrors):
    """Base class of the sections of config.toml, which refuse unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_auto(cls, given: Any) -> Any:
        """Take "auto" as left out where that is what it means."""
        if not isinstance(given, dict):
            return given
        fields = cls.model_fields
        return {
            name: value
            for name, value in given.items()
            if not (isinstance(value, str) and value == AUTO and name in fields and is_unset_by_auto(fields[name]))
        }


def is_unset_by_auto(field: FieldInfo) -> bool:
    """Whether "auto" stands for leaving the field out."""
    return any(isinstance(mark, AutoIfUnset) for mark in field.metadata)
