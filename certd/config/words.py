"""What pydantic found, in the operator's words: what, why, what to do next."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, GetPydanticSchema, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from certd.config.findings import dotted, shown
from certd.references import SecretReference
from certd.secrets import Secret
from certd.settings import MISTAKE

Words = tuple[str, str, str]

_EXPECTED = {
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "dict_type": "a table",
    "model_type": "a table",
}
_LIMITS = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})


@dataclass(frozen=True, slots=True)
class Wording:
    """The words for one kind of table.

    ``needed`` says why a setting without default must be there; the value of a setting in
    ``secrets`` is never repeated.
    """

    model: type[BaseModel]
    needed: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()

    def words(self, error: ErrorDetails) -> Words:
        """What, why and next for one of pydantic's errors."""
        kind, context = error["type"], error.get("ctx", {})
        key = str(error["loc"][0]) if error["loc"] else ""
        if kind == MISTAKE:
            return context["what"], context["why"], context["next"]
        if kind == "missing":
            return self._missing(key)
        if kind == "extra_forbidden":
            return unknown("unknown key", key, self._fields())
        if kind in _EXPECTED:
            return self._wrong_type(error, key)
        value = "the value" if key in self.secrets else _shown_value(error["input"])
        if kind == "too_short":
            return "the list is empty", "", "name at least one"
        if kind == "literal_error":
            known = re.findall(r"'([^']*)'", context["expected"])
            return unknown(f"unknown: {value}", str(error["input"]), known)
        if kind in _LIMITS:
            limit = error["msg"].removeprefix("Input should be ")
            return f"{value} is out of range", f"it must be {limit}", "correct it"
        reason = error["msg"].removeprefix("Input should be ")
        return f"{value} is not accepted", f"expected {reason}", "correct it"

    def keys(self) -> frozenset[str]:
        """The settings of the table, as the operator writes them."""
        return frozenset(self._fields())

    def _fields(self) -> dict[str, FieldInfo]:
        fields = self.model.model_fields
        return {info.alias or name: info for name, info in fields.items()}

    def _missing(self, key: str) -> Words:
        info = self._fields().get(key)
        value = "…"
        if info is not None and info.examples:
            value = toml(info.examples[0])
        elif info is not None and info.annotation in (str, Path, Secret):
            value = '"…"'
        elif info is not None and info.annotation is SecretReference:
            value = '{ file = "…" }'
        return "missing", self.needed.get(key, ""), f"add {dotted([key])} = {value}"

    def _wrong_type(self, error: ErrorDetails, key: str) -> Words:
        expected, value = _EXPECTED[error["type"]], error["input"]
        info = self._fields().get(key) if len(error["loc"]) == 1 else None  # else an element's
        if expected == "a list" and info is not None and _strings(info.annotation):
            expected = "a list of strings"
        what = f"expected {expected}, found {found(value)}"
        right = "" if key in self.secrets else _correction(expected, value)
        if info is not None and right and not _fits(info, expected, value):
            right = ""  # it would be the next mistake
        name = f"{dotted([key])} = " if info is not None else ""
        if right:
            return what, "", f"write {name}{right}"
        if expected == "a string" and isinstance(value, bool | int | float):
            return what, "", "put it in quotes"
        if not error["loc"]:
            return what, "", "write a header in single brackets, and the settings below it"
        form = _form(info, expected) if info is not None and key not in self.secrets else ""
        return what, "", f"write {expected}{f', as in {name}{form}' if form else ''}"


def unknown(what: str, name: str, known: Iterable[str]) -> Words:
    """Something unknown, with the nearest known name, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(
        name.lower(), names, n=1
    )
    if near:
        return what, "", f"did you mean {near[0]}?"
    return what, "", f"known here: {', '.join(names)}" if names else "leave it out"


def found(value: object) -> str:
    """The type of a TOML value, as its manual calls it."""
    match value:
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a float"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "a table"
    return "a date or time"


def toml(value: object) -> str:
    """A value as the operator would write it."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            pairs = ", ".join(f"{dotted([key])} = {toml(value[key])}" for key in value)
            return f"{{ {pairs} }}" if pairs else "{}"
    return shown(str(value))


def _shown_value(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**20:
        return "the number"  # Python refuses to print the longest
    return toml(value) if isinstance(value, bool | int | float | str) else found(value)


def _correction(expected: str, value: object) -> str:
    """The same value as it should have been written, where that is plain to see."""
    match expected, value:
        case "a list of strings", str():
            return toml(_words(value))
        case "a string", [str() as only]:
            return shown(only)
        case "true or false", "true" | "false":
            return value
        case "a whole number", str() if re.fullmatch(r"[0-9]{1,9}", value):
            return str(int(value))
        case "a number", str() if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            return value.lstrip("0") or "0"
    return ""


def _words(text: str) -> list[str]:
    """A command line, or names with spaces or commas between them: one element a word."""
    return [word for word in (each.rstrip(",") for each in text.split()) if word] or [text]


def _fits(info: FieldInfo, expected: str, value: object) -> bool:
    """Whether the list that a string is corrected to would be accepted."""
    if expected != "a list of strings" or not isinstance(value, str):
        return True
    annotation: Any = info.annotation
    try:
        TypeAdapter(annotation).validate_python(_words(value))
    except ValidationError:
        return False
    return True


def _form(info: FieldInfo, expected: str) -> str:
    """How a value of this setting looks: its example, its default, or the bare form."""
    if info.examples:
        return toml(info.examples[0])
    if expected == "true or false":
        return "true"
    if info.default and isinstance(info.default, int | float | str | Path | list | tuple):
        return toml(info.default)
    return {"a string": '"…"', "a list of strings": '["…"]', "a list": "[…]"}.get(expected, "")


def _strings(annotation: Any) -> bool:
    """Is it a list whose elements are strings in TOML?"""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(map(_strings, parts))
    if origin is Annotated:
        return _strings(parts[0])
    if origin not in (list, tuple) or not parts:
        return False
    item = parts[0]
    return item is str or any(isinstance(part, GetPydanticSchema) for part in get_args(item))
