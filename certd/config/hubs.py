"""Other certds that certificates come from: which they are, and what belongs in their tables.

Their tables are among those of the CAs, for a certificate names whom it comes from by ``ca``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certd.config.authorities import CASettings, HubSettings
from certd.config.catables import CATable
from certd.config.findings import shown
from certd.config.page import Page
from certd.config.places import Location

_NEEDED = {
    "server": ("it is where the other certd is asked", '"https://hub.example.com:8443"'),
    "certificate": ("the other certd knows this machine by it", '"client/fullchain.pem"'),
    "key": ("it belongs to the certificate", '"client/privkey.pem"'),
}
_KEYS = ("type", *_NEEDED, "ca_bundle", "proxy", "proxy_password", "source_address")
# Of a certificate: all that concerns an order, which is the other certd's.
_OF_ORDERS = (
    *("challenge", "dns", "key", "renew_after", "self_check", "preferred_chain", "profile"),
    *("fallback_profile", "lifetime", "reuse_key", "backup_key"),
)


def is_hub(raw: Mapping[str, Any]) -> bool:
    return raw.get("type") == "certd"


def hubs(page: Page) -> set[str]:
    """Their names, whatever else is wrong with their tables."""
    return {name for name, raw in page.tables("ca").items() if is_hub(raw)}


def check_keys(page: Page, name: str, raw: Mapping[str, Any]) -> None:
    """Note what is missing in the table of one, and what is a CA's."""
    for key, (why, example) in _NEEDED.items():
        if key not in raw:
            page.add(("ca", name, key), "missing", why, f"add {key} = {example}")
    for key in raw:
        if key in CATable.model_fields and key not in _KEYS:
            why = "what another certd has is ordered there"
            page.add(("ca", name, key), "does not belong here", why, "leave it out")


def refuse_keys(page: Page, name: str, raw: Mapping[str, Any]) -> None:
    """Note what only the table of one may have."""
    for key in _NEEDED:
        if key in raw:
            why, todo = "no other certd is asked", 'leave it out, or write type = "certd"'
            page.add(("ca", name, key), "does not belong here", why, todo)


def settings(page: Page, name: str, table: CATable | None) -> CASettings:
    """What is missing has been noted."""
    if table is None:
        return CASettings(name, "", hub=HubSettings(Path(), Path()))
    for key in ("certificate", "key"):
        path: Path | None = getattr(table, key)
        if path is not None and not path.is_file():
            page.lack(
                ("ca", name, key),
                f"there is no file {shown(str(path))}",
                "",
                "bring it here from the other machine, or correct the path",
            )
    return CASettings(
        name,
        table.server or "",
        table.ca_bundle,
        proxy=table.proxy,
        proxy_password=table.proxy_password,
        source_address=table.source_address,
        hub=HubSettings(table.certificate or Path(), table.key or Path()),
    )


def check_certificate(page: Page, location: Location, raw: Mapping[str, Any], hub: str) -> None:
    """Note what has no meaning where a certificate comes from ``hub``."""
    if raw.get("ca") != [hub]:
        why = f"what comes from {hub} is ordered there, and nowhere else"
        page.add((*location, "ca"), f"{hub} stands alone", why, f'write ca = ["{hub}"]')
    for key in _OF_ORDERS:
        if key in raw:
            page.add((*location, key), "does not belong here", f"{hub} orders it", "leave it out")
