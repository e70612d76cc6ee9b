"""The ``[certificate.NAME]`` tables, and what they refer to.

References are looked up in the raw tables: a mistake inside a table must not be reported
a second time as the lack of that table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from certd.config import identifiers
from certd.config.page import Page
from certd.config.places import Location
from certd.config.tables import NEEDED, CertificateTable
from certd.config.values import WELL_KNOWN
from certd.config.words import Wording
from certd.errors import ConfigError
from certd.model import CertificateSpec, Identifier

_WORDING = Wording(CertificateTable, {"names": NEEDED["certificate", "names"]})


def certificates(page: Page) -> dict[str, CertificateSpec]:
    """Every certificate whose table is right; what is wrong is noted on the page."""
    targets, cas = page.tables("target"), {**WELL_KNOWN, **page.tables("ca")}
    specs: dict[str, CertificateSpec] = {}
    for name, raw in page.named("certificate"):
        location = ("certificate", name)
        table: CertificateTable | None = page.check(location, raw, _WORDING)
        names = enumerate(table.names) if table else _readable(raw.get("names"))
        _check_names(page, (*location, "names"), dict(names), raw)
        page.check_references((*location, "targets"), _strings(raw, "targets"), "target", targets)
        page.check_references((*location, "ca"), _strings(raw, "ca"), "ca", cas)
        if table is not None:
            specs[name] = CertificateSpec(
                name=name,
                identifiers=tuple(table.names),
                cas=tuple(table.ca),
                challenge=table.challenge,
                targets=tuple(table.targets),
                key_type=table.key,
                renew_after=table.renew_after,
                self_check=table.self_check,
            )
    return specs


def _check_names(
    page: Page, location: Location, names: Mapping[int, Identifier], raw: Mapping[str, Any]
) -> None:
    seen: set[Identifier] = set()
    for index, name in names.items():
        if name in seen:
            what = f"{name} is there twice"
            page.add((*location, index), what, "", "leave one of them out")
        seen.add(name)
        if name.value.startswith("*.") and raw.get("challenge", "http-01") in (
            "http-01",
            "tls-alpn-01",
        ):
            page.add(
                (*location, index),
                f"{name} is a wildcard",
                "a wildcard needs dns-01, which is not yet available in this version and "
                "arrives with the DNS providers",
                "list the names one by one until then",
            )


def _strings(raw: Mapping[str, Any], key: str) -> list[str]:
    """The list at ``key``, if it is one of strings; anything else has been noted already."""
    value = raw.get(key)
    if isinstance(value, list) and all(isinstance(element, str) for element in value):
        return value
    return []


def _readable(names: object) -> Iterator[tuple[int, Identifier]]:
    """Of a list in which something is wrong, what is right."""
    for index, text in enumerate(names if isinstance(names, list) else ()):
        if isinstance(text, str):
            try:
                yield index, identifiers.identifier(text)
            except ConfigError:
                continue
