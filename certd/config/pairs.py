"""``key = ["ec-p256", "rsa-2048"]``: one table for two certificates with the same names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certd.config import identifiers
from certd.config.findings import shown
from certd.config.page import Page
from certd.config.places import Location
from certd.errors import ConfigError
from certd.x509.keys import KEY_TYPES

_RIGHT = 'write two of them, as in key = ["ec-p256", "rsa-2048"]'


def members(name: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The certificates that a table is for: its name, and for a pair that of the second."""
    kinds = raw.get("key")
    if not isinstance(kinds, list) or _mistake(kinds):
        return (name,)
    return name, f"{name}.{_family(kinds[1])}"


def without_pair(page: Page, location: Location, raw: dict[str, Any]) -> dict[str, Any]:
    """The table of the first of the pair; what is wrong with the second is noted."""
    kinds = raw.get("key")
    if not isinstance(kinds, list):
        return raw
    where = (*location, "key")
    rest = {key: value for key, value in raw.items() if key != "key"}
    if mistake := _mistake(kinds):
        page.add(where, *mistake, _RIGHT)
        return rest
    second = members(str(location[1]), raw)[1]
    try:
        identifiers.segment(second)
    except ConfigError as error:
        page.add(where, error.what, error.why, "give the table a shorter name")
    if second in page.tables("certificate"):
        what = f"the second of the pair would be named {shown(second)}"
        page.add(where, what, "there is a table of that name", "rename one of them")
    if "csr" in raw:
        what, todo = "csr and a pair of keys are both there", "write a table for each request"
        page.add(where, what, "a signing request is for one key", todo)
    return {**rest, "key": kinds[0]}


def _mistake(kinds: list[Any]) -> tuple[str, str] | None:
    """What is wrong, and why."""
    known = ", ".join(KEY_TYPES)
    for kind in kinds:
        if kind not in KEY_TYPES:
            return f"{shown(str(kind))} is no type of key", f"certd knows {known}"
    if len(kinds) != 2:
        return f"expected two types of key, found {len(kinds)}", "one alone is no list"
    if _family(kinds[0]) == _family(kinds[1]):
        why = "a pair is for clients that take one kind and for those that take the other"
        return f"{kinds[0]} and {kinds[1]} are of one kind", why
    return None


def _family(kind: str) -> str:
    return "rsa" if kind.startswith("rsa-") else "ecdsa"
