"""The ``[certificate.NAME]`` tables, and what they refer to.

References are looked up in the raw tables: a mistake inside a table must not be reported
a second time as the lack of that table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from certd.config import identifiers
from certd.config.findings import shown
from certd.config.page import Page
from certd.config.pairs import members, without_pair
from certd.config.places import Location
from certd.config.requests import own_request
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
    for name, written in page.named("certificate"):
        location = ("certificate", name)
        raw = without_pair(page, location, written)
        table: CertificateTable | None = page.check(location, raw, _WORDING)
        names = enumerate(table.names) if table else _readable(raw.get("names"))
        _check_names(page, (*location, "names"), dict(names), raw)
        page.check_references((*location, "targets"), _strings(raw, "targets"), "target", targets)
        page.check_references((*location, "ca"), _strings(raw, "ca"), "ca", cas)
        _check_profiles(page, location, raw)
        own = None
        if table is not None and table.csr:
            own = own_request(page, location, table.csr, table.names, raw)
        if table is not None:
            specs[name] = CertificateSpec(
                name=name,
                identifiers=tuple(table.names),
                cas=tuple(table.ca),
                challenge=table.challenge,
                targets=tuple(table.targets),
                key_type=own[1] if own else table.key,
                renew_after=table.renew_after,
                self_check=table.self_check,
                profile=table.profile,
                fallback_profile=table.fallback_profile,
                lifetime=table.lifetime,
                reuse_key=table.reuse_key,
                backup_key=table.backup_key,
                csr=own[0] if own else None,
            )
            if len(both := members(name, written)) > 1:
                specs[both[1]] = replace(
                    specs[name], name=both[1], key_type=written["key"][1], sibling=name
                )
                specs[name] = replace(specs[name], sibling=both[1])
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
        if name.value.startswith("*.") and raw.get("challenge", "http-01") == "http-01":
            page.add(
                (*location, index),
                f"{name} is a wildcard",
                "a wildcard needs dns-01, which is not yet available in this version and "
                "arrives with the DNS providers",
                "list the names one by one until then",
            )


def _check_profiles(page: Page, location: Location, raw: Mapping[str, Any]) -> None:
    fallback = raw.get("fallback_profile")
    if fallback is not None and "profile" not in raw:
        page.add(
            (*location, "fallback_profile"),
            "there is no profile that it could take the place of",
            "",
            "name it by profile, or add one",
        )
    if fallback is not None and fallback == raw.get("profile"):
        page.add(
            (*location, "fallback_profile"),
            f"{shown(str(fallback))} is the profile already",
            "",
            "name another, or leave it out",
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
