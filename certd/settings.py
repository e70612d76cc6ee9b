"""The types that a setting may have besides TOML's own, as pydantic checks them.

Paths, secrets, and references to secrets; and what a check says of one: a mistake of the
file, what this machine lacks, or what is better done otherwise.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from pydantic import GetPydanticSchema, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from certd.errors import ConfigError, NotHere
from certd.references import FORMS, SecretReference, reference
from certd.secrets import Secret

# A plugin's own settings have their own prefix inside the model, for a field may be called
# "json" or "copy", which the model's own class uses; the operator sees the alias.
PREFIX = "setting_"

MISTAKE = "certd_mistake"  # the type of pydantic's errors that carry what, why and next


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """The context of a table's validation: relative paths are relative to ``folder``.

    ``lacking`` collects what the machine lacks, by setting: no reason to refuse the table.
    ``warnings`` collects what is better done otherwise: no reason to refuse anything.
    """

    folder: Path
    lacking: list[tuple[str, NotHere]] = dataclasses.field(default_factory=list)
    warnings: list[tuple[str, ConfigError]] = dataclasses.field(default_factory=list)


def mistake(error: ConfigError) -> PydanticCustomError:
    """The error as pydantic collects it, with its location."""
    context = {"what": error.what, "why": error.why, "next": error.next}
    return PydanticCustomError(MISTAKE, "{what}", context)


def note_lacking(info: ValidationInfo, key: str, error: NotHere) -> None:
    """Something for whoever validates to show; the value counts as right."""
    if isinstance(info.context, Surroundings):
        info.context.lacking.append((key, error))


def _path(text: str, info: ValidationInfo) -> Path:
    if not text or "\0" in text:
        raise mistake(ConfigError(f"{json.dumps(text)} is not a path", "", "correct it"))
    if text.startswith("~"):
        what = f"{json.dumps(text)} begins with ~"
        raise mistake(ConfigError(what, "only a shell knows what ~ means", "write the whole path"))
    return info.context.folder / text if isinstance(info.context, Surroundings) else Path(text)


def _path_schema(_source: object, _handler: object) -> CoreSchema:
    return core_schema.with_info_after_validator_function(
        _path,
        core_schema.str_schema(strict=True),
        serialization=core_schema.to_string_ser_schema(),
    )


def _secret_schema(_source: object, _handler: object) -> CoreSchema:
    return core_schema.no_info_after_validator_function(
        Secret,
        core_schema.str_schema(strict=True),
        serialization=core_schema.to_string_ser_schema(),  # three asterisks
    )


def _reference(value: object, info: ValidationInfo) -> SecretReference:
    around = info.context if isinstance(info.context, Surroundings) else Surroundings(Path())
    key = (info.field_name or "").removeprefix(PREFIX)
    try:
        made = reference(value, around.folder)
        made.check()
    except NotHere as error:
        around.lacking.append((key, error))
    except ConfigError as error:
        raise mistake(error) from None
    if warning := made.warning():
        around.warnings.append((key, ConfigError(*warning)))
    return made


def _referring(function: Callable[[object, ValidationInfo], object]) -> CoreSchema:
    # In the JSON Schema a string, or a table of one of the forms.
    strings = core_schema.str_schema(strict=True)
    words = core_schema.list_schema(strings, min_length=1)
    forms = [
        core_schema.typed_dict_schema(
            {kind: core_schema.typed_dict_field(words if kind == "command" else strings)},
            extra_behavior="forbid",
        )
        for kind in FORMS
    ]
    return core_schema.with_info_plain_validator_function(
        function,
        json_schema_input_schema=core_schema.union_schema([strings, *forms]),
        serialization=core_schema.to_string_ser_schema(),  # no secret is in it
    )


def _reference_schema(_source: object, _handler: object) -> CoreSchema:
    return _referring(_reference)


def _value(value: object, info: ValidationInfo) -> str | SecretReference:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        todo = f"put it in quotes, or write {FORMS['file']}, say"
        raise mistake(ConfigError("it is neither a string nor a place of a secret", "", todo))
    return _reference(value, info)


def _value_schema(_source: object, _handler: object) -> CoreSchema:
    return _referring(_value)


PATH = GetPydanticSchema(_path_schema)  # absolute, if the validation's context is Surroundings
SECRET = GetPydanticSchema(_secret_schema)
REFERENCE = GetPydanticSchema(_reference_schema)
VALUE = GetPydanticSchema(_value_schema)  # a string that is no secret, or a reference
