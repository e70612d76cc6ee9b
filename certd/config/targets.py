"""The ``[target.NAME]`` tables: a plugin's settings beside the core's own."""

from __future__ import annotations

from collections.abc import Mapping

from certd.api import DeployTarget
from certd.config import kinds
from certd.config.findings import dotted, shown
from certd.config.page import Page
from certd.config.pairs import members
from certd.config.values import TargetSettings


def targets(page: Page) -> dict[str, TargetSettings]:
    """Every target whose table is right, built; what is wrong is noted on the page."""
    built: dict[str, TargetSettings] = {}
    placing: dict[str, DeployTarget] = {}
    for found in kinds.read(page, kinds.TARGETS):
        page.check_twice(("target", found.name, "verify"), found.right.verify)
        if found.plugin is None:
            continue
        placing[found.name] = found.plugin
        if found.table is not None:
            built[found.name] = TargetSettings(
                name=found.name,
                type=found.table.type,
                plugin=found.plugin,
                verify=tuple(found.table.verify),
                verify_timeout=float(found.table.verify_timeout),
                digest=found.digest,
            )
    _check_places(page, placing)
    return built


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
