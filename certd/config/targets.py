"""The ``[target.NAME]`` tables: a plugin's settings beside the core's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from certd.api import DeployTarget
from certd.config import kinds
from certd.config.findings import dotted, shown
from certd.config.page import Page
from certd.config.pairs import members
from certd.config.values import Hooks, TargetSettings
from certd.model import CertificateSpec, TargetRule


def targets(page: Page) -> dict[str, TargetSettings]:
    """Every target whose table is right, built; what is wrong is noted on the page."""
    built: dict[str, TargetSettings] = {}
    placing: dict[str, DeployTarget] = {}
    for found in kinds.read(page, kinds.TARGETS):
        page.check_twice(("target", found.name, "verify"), found.right.verify)
        page.check_twice(("target", found.name, "window"), found.right.window)
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
                look_every=found.table.look_every,
                after=tuple(found.table.after),
                window=tuple(found.table.window),
                hooks=Hooks(
                    tuple(found.table.pre_hook),
                    tuple(found.table.post_hook),
                    float(found.table.hook_timeout),
                ),
                digest=found.digest,
            )
    _check_places(page, placing)
    _check_turns(page)
    return built


def ruled(
    specs: Mapping[str, CertificateSpec], targets: Mapping[str, TargetSettings]
) -> dict[str, CertificateSpec]:
    """The certificates, with what the tables of their targets say of when and in which order."""
    rules = {
        name: TargetRule(name, one.after, one.window)
        for name, one in targets.items()
        if one.after or one.window
    }
    return {
        name: replace(spec, rules=tuple(rules[one] for one in spec.targets if one in rules))
        if not rules.keys().isdisjoint(spec.targets)
        else spec
        for name, spec in specs.items()
    }


def _check_turns(page: Page) -> None:
    """Whom ``after`` names is there, and nobody waits for itself."""
    tables = page.tables("target")
    turns: dict[str, list[str]] = {}
    for name, raw in tables.items():
        wanted = raw.get("after")
        named = wanted if isinstance(wanted, list) else []
        turns[name] = [one for one in named if isinstance(one, str)]
        page.check_references(("target", name, "after"), turns[name], "target", tables)
    try:
        TopologicalSorter(turns).prepare()
    except CycleError as error:
        ring: list[str] = error.args[1][::-1]
        page.add(
            ("target", ring[0], "after"),
            f"{shown(ring[0])} waits for itself",
            " waits for ".join(ring),
            "take one of them out of the other's after",
        )


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
