"""Plugins: found by their entry points, described by their dataclass fields, built from a table.

A plugin is a frozen dataclass (see ``certd.api``); a field is a setting of the same name.
Field metadata says what the type cannot: ``description`` (for editors and the reference),
``missing`` (why the setting is needed), ``example`` (a value to show when it is) and
``check``: called with each value that the operator wrote and whose type is right, whatever
is wrong elsewhere in the table; it raises ConfigError, with nothing of the field's name in
it, or NotHere. What several fields say together is for ``__post_init__``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import operator
import types
import typing
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    Strict,
    ValidationInfo,
    create_model,
)
from pydantic.errors import PydanticUserError

from certd.errors import ConfigError, NotHere
from certd.references import SecretReference
from certd.secrets import Secret
from certd.settings import PATH, PREFIX, REFERENCE, SECRET, VALUE, mistake, note_lacking

DEPLOY_TARGETS = "certd.deploy_targets"
DNS_PROVIDERS = "certd.dns_providers"


def deploy_targets() -> Mapping[str, EntryPoint]:
    """The installed kinds of deploy target, by the ``type`` that the operator writes."""
    return _installed(DEPLOY_TARGETS)


def dns_providers() -> Mapping[str, EntryPoint]:
    """The installed DNS providers, by the name that the operator writes."""
    return _installed(DNS_PROVIDERS)


def plugin_class(
    type_name: str, installed: Mapping[str, EntryPoint], key: str = "type"
) -> type[Any]:
    """The class behind one kind, imported. ``key`` is the setting that names it.

    Raises:
        ConfigError: no such kind is installed, or what is installed is no plugin.
    """
    entry = installed.get(type_name)
    if entry is None:
        raise ConfigError(
            f"no such {key}: {json.dumps(type_name)}",
            f"installed: {', '.join(sorted(installed)) or 'none'}",
            _nearest(type_name, installed) or "correct it, or install the package that brings it",
        )
    try:
        plugin = entry.load()
    except Exception as error:  # what a stranger's module raises on import is its own choice
        raise ConfigError(
            f"{type_name} is installed but does not load",
            f"{entry.value}: {type(error).__name__}: {error}",
            "install what it needs, or reinstall the package that brings it",
        ) from error
    if not (
        isinstance(plugin, type)
        and dataclasses.is_dataclass(plugin)
        and getattr(plugin, "__dataclass_params__").frozen  # noqa: B009 - not in the type stubs
    ):
        raise ConfigError(
            f"{type_name} is not a plugin",
            f"{entry.value} is not a frozen dataclass",
            "tell the author of the package that brings it",
        )
    return plugin


def settings_model(
    type_name: str,
    plugin: type[Any],
    base: type[BaseModel],
    key: str = "type",
    noun: str = "target",
) -> type[BaseModel]:
    """A model of one plugin's table: the fields of ``base`` and the plugin's own.

    ``key`` is the setting that names the plugin, ``noun`` what it is one of.

    Validate with ``context=Surroundings(folder)``: paths become absolute against it.

    Raises:
        ConfigError: the plugin's fields cannot be settings.
    """
    definitions: dict[str, Any] = {key: (typing.Literal[type_name], Field())}
    try:
        hints = typing.get_type_hints(plugin)
        secrets = secret_settings(plugin)
        for field in _settings(plugin):
            if field.name in base.model_fields:
                raise TypeError(f"the core's own settings have a {field.name} already")
            metadata = field.metadata
            described = Field(
                default=... if _required(field) else _default(field),
                alias=field.name,
                description=metadata.get("description"),
                examples=[metadata["example"]] if "example" in metadata else None,
            )
            annotation = _setting(hints[field.name])
            if "check" in metadata:
                secret = field.name in secrets
                check = _own_check(field.name, metadata["check"], secret)
                annotation = typing.Annotated[annotation, AfterValidator(check)]
            definitions[PREFIX + field.name] = (annotation, described)
        return create_model(f"{type_name} {noun}", __base__=base, **definitions)
    except (PydanticUserError, NameError, TypeError) as error:
        raise ConfigError(
            f"{type_name} is not a plugin",
            f"its fields cannot be settings: {error}",
            "tell the author of the package that brings it",
        ) from error


def build(plugin: type[Any], settings: BaseModel) -> Any:
    """The plugin, from a table that :func:`settings_model` has validated.

    Raises:
        ConfigError: the plugin's own check refused the settings.
    """
    given = settings.model_fields_set
    values = {
        field.name: getattr(settings, PREFIX + field.name)
        for field in _settings(plugin)
        if PREFIX + field.name in given
    }
    return plugin(**values)


def needed(plugin: type[Any], type_name: str, noun: str = "target") -> Mapping[str, str]:
    """The settings that have no default, and why each is needed."""
    return {
        field.name: field.metadata.get("missing", f"every {type_name} {noun} needs it")
        for field in _settings(plugin)
        if _required(field)
    }


def secret_settings(plugin: type[Any]) -> frozenset[str]:
    """The settings whose value must not be repeated to anyone."""
    hints = typing.get_type_hints(plugin)
    return frozenset(
        field.name
        for field in _settings(plugin)
        if _mentions(hints[field.name], Secret) or _mentions(hints[field.name], SecretReference)
    )


def _own_check(
    key: str, check: Callable[[Any], object], secret: bool
) -> Callable[[Any, ValidationInfo], Any]:
    """A plugin's check of one setting, as pydantic calls it."""

    def checked(value: Any, info: ValidationInfo) -> Any:
        try:
            check(value)
        except NotHere as error:
            note_lacking(info, key, error)
        except ConfigError as error:
            raise mistake(error) from None
        except Exception as error:  # a stranger's code: its text may repeat the value
            why = "" if secret else str(error)
            refused = ConfigError(
                "the plugin refuses the value", why or type(error).__name__, "correct it"
            )
            raise mistake(refused) from None
        return value

    return checked


def _installed(group: str) -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else ""


def _settings(plugin: type[Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(plugin) if field.init]


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _default(field: dataclasses.Field[Any]) -> Any:
    # For the JSON Schema only: build() leaves defaults to the dataclass.
    if field.default is not dataclasses.MISSING:
        return field.default
    assert field.default_factory is not dataclasses.MISSING  # noqa: S101 - it is not required
    return field.default_factory()


def _mentions(annotation: Any, wanted: type[Any]) -> bool:
    return annotation is wanted or any(
        _mentions(part, wanted) for part in typing.get_args(annotation)
    )


def _setting(annotation: Any) -> Any:
    """The annotation as the model checks it: TOML has strings for paths, lists for tuples."""
    if annotation is Path:
        return typing.Annotated[Path, PATH]
    if annotation is Secret:
        return typing.Annotated[Secret, SECRET]
    if annotation is SecretReference:
        return typing.Annotated[SecretReference, REFERENCE]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if set(parts) == {str, SecretReference}:
            return typing.Annotated[str | SecretReference, VALUE]
        return functools.reduce(operator.or_, map(_setting, parts))
    if origin is tuple:
        inner = tuple(part if part is ... else _setting(part) for part in parts)
        return typing.Annotated[tuple[inner], Strict(False)]  # type: ignore[valid-type]
    if origin in (list, dict):
        return origin[tuple(map(_setting, parts))]
    return annotation
