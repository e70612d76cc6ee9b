"""``certd plugins``: what is installed, and which settings each has."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click

from certd import plugins
from certd.cli.options import command as certd_command
from certd.cli.options import say
from certd.config.words import toml
from certd.errors import ConfigError, plain
from certd.references import SecretReference
from certd.secrets import Secret

_WORDS: Mapping[Any, str] = {
    str: "string",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    Secret: "secret",
    SecretReference: "place of a secret",
}
# What a DNS provider may say of itself, and how it is told.
_LIMITS: Mapping[str, tuple[type, str]] = {
    "rate": (str, "changes that it allows: {}"),
    "most_values": (int, "values that one name can have: {}"),
    "exclusive": (str, "changed by one at a time: the {}"),
}


@certd_command("plugins")
@click.argument("name", required=False)
def command(context: click.Context, name: str | None) -> int:
    """List the installed deploy targets and DNS providers; of one, its settings."""
    kinds = {
        "deploy target": plugins.deploy_targets(),
        "DNS provider": plugins.dns_providers(),
    }
    if name is None:
        return _list(kinds)
    found = [(kind, installed) for kind, installed in kinds.items() if name in installed]
    if not found:
        known = sorted({each for installed in kinds.values() for each in installed})
        near = difflib.get_close_matches(name, known, n=1)
        todo = f"did you mean {near[0]}?" if near else "install the package that brings it"
        why = f"installed: {', '.join(known)}"
        raise ConfigError(f"no plugin is named {json.dumps(name)}", why, todo)
    for number, (kind, installed) in enumerate(found):
        click.echo("\n" * (number > 0), nl=False)
        _show(name, kind, installed)
    return 0


def _list(kinds: Mapping[str, Mapping[str, EntryPoint]]) -> int:
    """All of them, a line each. Exit status 1 when one does not load."""
    good = True
    width = max((len(name) for installed in kinds.values() for name in installed), default=0)
    for kind, installed in kinds.items():
        say(f"{kind}s:")
        for name, entry in sorted(installed.items()):
            try:
                text = _about(plugins.plugin_class(name, installed))
            except ConfigError as error:
                text, good = f"FAILED {error}", False
            say(f"  {name:<{width}}  {plain(text)} ({_package(entry)})")
    return int(not good)


def _show(name: str, kind: str, installed: Mapping[str, EntryPoint]) -> None:
    plugin = plugins.plugin_class(name, installed)
    say(f"{name}: {_about(plugin)} ({kind}, {_package(installed[name])})")
    rows = [("setting", "type", "default", ""), *_settings(plugin)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows if len(rows) > 1 else ():
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        say("  ".join([*cells, row[3]]).rstrip())
    credential = getattr(plugin, "credential", None)
    if isinstance(credential, str):
        say(f"credential: {plain(credential)}")
    for attribute, (wanted, text) in _LIMITS.items():
        # Of what depends on the settings the class has a descriptor only.
        value = getattr(plugin, attribute, None)
        if isinstance(value, wanted):
            say(text.format(plain(str(value))))


def _about(plugin: type[Any]) -> str:
    """The first line of its own docstring; a dataclass without one has its signature there."""
    lines = (inspect.cleandoc(plugin.__doc__ or "")).splitlines()
    text = plain(lines[0]) if lines else ""
    return "" if text.startswith(f"{plugin.__name__}(") else text.replace("``", "")


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _settings(plugin: type[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Of each setting its name, its type in words, its default, what it is."""
    hints = typing.get_type_hints(plugin)
    for field in dataclasses.fields(plugin):
        if field.init:
            described = plain(str(field.metadata.get("description", "")))
            yield field.name, in_words(hints[field.name]), _default(field), described


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if value is None or value == () or value == [] or value == {}:
        return "none"
    return plain(toml(value))


def in_words(annotation: Any) -> str:
    """A type as the operator meets it in TOML."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(part) for part in parts if part is not types.NoneType)
    if origin is typing.Literal:
        return " or ".join(toml(part) for part in parts)
    if origin in (tuple, list) and parts:
        return f"list of {_many(parts[0])}"
    if origin is dict:
        return f"table of {_many(parts[1])}"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _many(annotation: Any) -> str:
    words = in_words(annotation)
    each = [f"{word}s" if not word.startswith("place") else word for word in words.split(" or ")]
    return " or ".join(word.replace("place of a secret", "places of secrets") for word in each)
