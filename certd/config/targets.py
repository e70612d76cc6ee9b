"""The ``[target.NAME]`` tables: a plugin's settings beside the core's own."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from pydantic import BaseModel

from certd import plugins
from certd.api import DeployTarget
from certd.config.findings import dotted, shown
from certd.config.page import Page
from certd.config.pairs import members
from certd.config.places import Location
from certd.config.tables import NEEDED, TargetTable
from certd.config.values import TargetSettings
from certd.config.words import Wording
from certd.errors import ConfigError

_NEEDED = {"type": NEEDED["target", "type"]}


@dataclass(frozen=True, slots=True)
class TargetType:
    """One installed kind of target."""

    plugin: type[Any]
    wording: Wording

    @classmethod
    def load(cls, name: str, installed: Mapping[str, EntryPoint]) -> TargetType:
        """The kind that the operator calls ``name``.

        Raises:
            ConfigError: it is not installed, or is no plugin.
        """
        plugin = plugins.plugin_class(name, installed)
        model = plugins.settings_model(name, plugin, TargetTable)
        needed = {**_NEEDED, **plugins.needed(plugin, name)}
        return cls(plugin, Wording(model, needed, plugins.secret_settings(plugin)))

    def build(self, settings: BaseModel) -> DeployTarget:
        """The plugin itself.

        Raises:
            ConfigError: its own check refused the settings.
        """
        try:
            target: DeployTarget = plugins.build(self.plugin, settings)
        except ConfigError:
            raise
        except Exception as error:  # a stranger's code: SIGHUP must survive it
            # Its text may repeat any setting, as that of int("…") does.
            why = type(error).__name__ if self.wording.secrets else f"{error}"
            raise ConfigError(
                "the plugin refuses these settings", why, "correct the table"
            ) from error
        return target


def targets(page: Page) -> dict[str, TargetSettings]:
    """Every target whose table is right, built; what is wrong is noted on the page."""
    installed = functools.cache(plugins.deploy_targets)

    @functools.cache
    def type_named(name: str) -> TargetType | ConfigError:
        try:
            return TargetType.load(name, installed())
        except ConfigError as error:
            return error

    built: dict[str, TargetSettings] = {}
    placing: dict[str, DeployTarget] = {}
    for name, raw in page.named("target"):
        location = ("target", name)
        kind = type_named(raw["type"]) if isinstance(raw.get("type"), str) else None
        if isinstance(kind, TargetType):
            settings, plugin = _target(page, location, raw, kind)
            if settings is not None:
                built[name] = settings
            if plugin is not None:
                placing[name] = plugin
            continue
        if kind is not None:
            page.add((*location, "type"), kind.what, kind.why, kind.next)
        # Only the type would know the rest of the table: check what does not depend on it.
        common = {key: raw[key] for key in raw if key in TargetTable.model_fields}
        page.check(location, common, Wording(TargetTable, _NEEDED))
    _check_places(page, placing)
    return built


def _target(
    page: Page, location: Location, raw: Mapping[str, Any], kind: TargetType
) -> tuple[TargetSettings | None, DeployTarget | None]:
    """The target; and its plugin, which of a wrong table is what could be built of the rest."""
    table = page.check(location, raw, kind.wording)
    right = table or page.right_part(raw, kind.wording)
    if right is None:
        return None, None
    page.check_twice((*location, "verify"), right.verify)
    try:
        plugin = kind.build(right)
    except ConfigError as error:
        if table is not None:  # else it may well be for the lack of what is wrong
            _note_refusal(page, location, error, kind.wording.keys())
        return None, None
    if table is None:
        return None, plugin
    settings = TargetSettings(
        name=str(location[1]),
        type=table.type,
        plugin=plugin,
        verify=tuple(table.verify),
        verify_timeout=float(table.verify_timeout),
        digest=hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest(),
    )
    return settings, plugin


def _note_refusal(page: Page, location: Location, error: ConfigError, keys: frozenset[str]) -> None:
    """A plugin's own check: shown at the setting with whose name ``what`` begins, if any."""
    key, _, rest = error.what.partition(" ")
    key = key.rstrip(":")
    if key not in keys:
        page.add(location, error.what, error.why, error.next)
    elif rest:
        page.add((*location, key), rest.removeprefix("= "), error.why, error.next)
    else:
        page.add((*location, key), error.why or "not accepted", "", error.next)


def _check_places(page: Page, placing: Mapping[str, DeployTarget]) -> None:
    """Two certificates in one place would take turns there, for ever."""
    owners: dict[str, str] = {}
    for name, raw in page.tables("certificate").items():
        wanted = raw.get("targets")
        for index, target in enumerate(wanted if isinstance(wanted, list) else ()):
            plugin = placing.get(target) if isinstance(target, str) else None
            if plugin is None:
                continue
            for member in members(name, raw):
                place = _place(page, target, plugin, member)
                if place is None or owners.setdefault(place, member) == member:
                    continue
                page.add(
                    ("certificate", name, "targets", index),
                    f"{shown(target)} puts it in the place of {shown(owners[place])}",
                    f"{place} has room for one certificate only",
                    f"write {{name}}, the name of the certificate, in the path of "
                    f"[{dotted(['target', target])}], or give each a target of its own",
                )


def _place(page: Page, target: str, plugin: DeployTarget, name: str) -> str | None:
    """Where the target puts this certificate; None: the plugin does not say."""
    place = getattr(plugin, "place", None)
    if not callable(place):  # it is none, or a setting of that name
        return None
    try:
        return str(place(name))
    except Exception as error:  # a stranger's code, as in build
        what, why = "the plugin cannot say where it puts a certificate", type(error).__name__
        page.add(("target", target), what, why, "tell its author")
        return None
