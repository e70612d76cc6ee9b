"""Tables whose settings are mostly a plugin's: ``[target.NAME]``, ``[dns.NAME]``."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from pydantic import BaseModel

from certd import plugins
from certd.config.catables import Table
from certd.config.page import Page
from certd.config.places import Location
from certd.config.tables import NEEDED, DNSTable, TargetTable
from certd.config.words import Wording
from certd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Group:
    """All tables of one sort: ``key`` is the setting that says which plugin it is."""

    table: str
    key: str
    noun: str
    base: type[Table]
    installed: Callable[[], Mapping[str, EntryPoint]]

    @property
    def needed(self) -> Mapping[str, str]:
        return {self.key: NEEDED[self.table, self.key]}


TARGETS = Group("target", "type", "target", TargetTable, lambda: plugins.deploy_targets())
PROVIDERS = Group("dns", "provider", "provider", DNSTable, lambda: plugins.dns_providers())


@dataclass(frozen=True, slots=True)
class Kind:
    """One installed plugin of a group."""

    plugin: type[Any]
    wording: Wording

    @classmethod
    def load(cls, name: str, group: Group, installed: Mapping[str, EntryPoint]) -> Kind:
        """The kind that the operator calls ``name``.

        Raises:
            ConfigError: it is not installed, or is no plugin.
        """
        plugin = plugins.plugin_class(name, installed, group.key)
        model = plugins.settings_model(name, plugin, group.base, group.key, group.noun)
        needed = {**group.needed, **plugins.needed(plugin, name, group.noun)}
        return cls(plugin, Wording(model, needed, plugins.secret_settings(plugin)))

    def build(self, settings: BaseModel) -> Any:
        """The plugin itself.

        Raises:
            ConfigError: its own check refused the settings.
        """
        try:
            return plugins.build(self.plugin, settings)
        except ConfigError:
            raise
        except Exception as error:  # a stranger's code: SIGHUP must survive it
            # Its text may repeat any setting, as that of int("…") does.
            why = type(error).__name__ if self.wording.secrets else f"{error}"
            raise ConfigError(
                "the plugin refuses these settings", why, "correct the table"
            ) from error


@dataclass(frozen=True, slots=True)
class Read:
    """What was found of one table. ``right`` is what is right in it, ``table`` the whole of it.

    ``plugin`` is what could be built of that.
    """

    name: str
    right: Any
    table: Any
    plugin: Any
    digest: str  # SHA-256 of the table: another one is another thing


def read(page: Page, group: Group) -> Iterator[Read]:
    """Each table of the group that has a known kind; what is wrong is noted on the page."""
    installed = functools.cache(group.installed)

    @functools.cache
    def kind_named(name: str) -> Kind | ConfigError:
        try:
            return Kind.load(name, group, installed())
        except ConfigError as error:
            return error

    for name, raw in page.named(group.table):
        location = (group.table, name)
        kind = kind_named(raw[group.key]) if isinstance(raw.get(group.key), str) else None
        if isinstance(kind, Kind):
            found = _read(page, location, raw, kind)
            if found is not None:
                yield found
            continue
        if kind is not None:
            page.add((*location, group.key), kind.what, kind.why, kind.next)
        # Only the kind would know the rest of the table: check what does not depend on it.
        common = {key: raw[key] for key in raw if key in group.base.model_fields}
        page.check(location, common, Wording(group.base, group.needed))


def _read(page: Page, location: Location, raw: Mapping[str, Any], kind: Kind) -> Read | None:
    table = page.check(location, raw, kind.wording)
    right = table or page.right_part(raw, kind.wording)
    if right is None:
        return None
    plugin = None
    try:
        plugin = kind.build(right)
    except ConfigError as error:
        if table is not None:  # else it may well be for the lack of what is wrong
            _note_refusal(page, location, error, kind.wording.keys())
    digest = hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()
    return Read(str(location[1]), right, table, plugin, digest)


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
