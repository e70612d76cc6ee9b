"""CAs of certd's own: which they are, and what belongs in their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from certd.config import hubs
from certd.config.authorities import CASettings
from certd.config.catables import CATable
from certd.config.page import Page
from certd.config.values import LOCAL

# What has a meaning in the table of one; all else there is concerns a server that is asked.
_OWN = ("type", "lifetime")
_OF_A_SERVER = tuple(key for key in CATable.model_fields if key not in _OWN)


def is_local(name: str, raw: Mapping[str, Any]) -> bool:
    """Whether a table ``[ca.NAME]`` is for one; ``local`` has been a free name once."""
    return raw.get("type") == "local" or (
        name == LOCAL and "type" not in raw and "directory" not in raw
    )


def local_cas(page: Page) -> set[str]:
    """Their names, whatever else is wrong with their tables."""
    tables = {LOCAL: {}, **page.tables("ca")}
    return {name for name, raw in tables.items() if is_local(name, raw)}


def settings(name: str, table: CATable | None = None) -> CASettings:
    lifetime = table.lifetime if table else CATable.model_fields["lifetime"].default
    return CASettings(name, f"local:{name}", lifetime=timedelta(seconds=lifetime))


def check_keys(page: Page, name: str, raw: Mapping[str, Any]) -> None:
    """Note what a CA of the other kind would need."""
    if is_local(name, raw):
        _refuse(page, name, raw, _OF_A_SERVER, "a CA of certd's own has none", "leave it out")
    else:
        why = "an ACME server decides that by itself"
        todo = 'leave it out, or write type = "local" for a CA of certd\'s own'
        _refuse(page, name, raw, ("lifetime",), why, todo)
        hubs.refuse_keys(page, name, raw)


def _refuse(
    page: Page, name: str, raw: Mapping[str, Any], keys: Iterable[str], why: str, todo: str
) -> None:
    for key in keys:
        if key in raw:
            page.add(("ca", name, key), "does not belong here", why, todo)
