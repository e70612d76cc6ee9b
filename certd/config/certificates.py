"""The ``[certificate.NAME]`` tables, and what they refer to.

References are looked up in the raw tables: a mistake inside a table must not be reported
a second time as the lack of that table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

from certd.config import dns, hubs, identifiers
from certd.config.findings import shown
from certd.config.local import local_cas
from certd.config.page import Page
from certd.config.pairs import members, without_pair
from certd.config.places import Location
from certd.config.requests import own_request
from certd.config.tables import NEEDED, CertificateTable
from certd.config.values import DEFAULT_CA
from certd.config.wellknown import WELL_KNOWN
from certd.config.words import Wording
from certd.errors import ConfigError
from certd.model import CertificateSpec, Identifier, Usage

_WORDING = Wording(CertificateTable, {"names": NEEDED["certificate", "names"]})


def certificates(page: Page) -> dict[str, CertificateSpec]:
    """Every certificate whose table is right; what is wrong is noted on the page."""
    targets, own = page.tables("target"), local_cas(page)
    cas = {**WELL_KNOWN, **page.tables("ca"), **dict.fromkeys(own)}
    others = hubs.hubs(page)
    specs: dict[str, CertificateSpec] = {}
    for name, written in page.named("certificate"):
        location = ("certificate", name)
        raw = without_pair(page, location, written)
        table: CertificateTable | None = page.check(location, raw, _WORDING)
        found = enumerate(table.names) if table else _readable(raw.get("names"))
        named = _strings({"ca": [DEFAULT_CA], **raw}, "ca")
        hub = next((ca for ca in named if ca in others), None)
        ours = hub is not None or (bool(named) and own.issuperset(named))
        if hub is not None:
            hubs.check_certificate(page, location, written, hub)
        challenges = table.challenge if table else _challenges(raw)
        names, challenged = dict(found), () if ours else challenges
        _check_names(page, (*location, "names"), names)
        dns.check_kinds(page, location, names, challenged)
        choice = table.dns if table else dns.settings_of(raw)
        chosen = dns.chosen(page, location, choice, names, challenged)
        page.check_twice((*location, "challenge"), challenges)
        _check_usage(page, location, raw, ours=ours)
        page.check_references((*location, "targets"), _strings(raw, "targets"), "target", targets)
        page.check_references((*location, "ca"), _strings(raw, "ca"), "ca", cas)
        if hub is None:
            _check_profiles(page, location, raw, ours=ours)
        request = own_request(page, location, table, raw) if table and table.csr else None
        if table is not None:
            specs[name] = CertificateSpec(
                name=name,
                identifiers=tuple(table.names),
                cas=tuple(table.ca),
                challenges=tuple(table.challenge),
                targets=tuple(table.targets),
                key_type=request[1] if request else table.key,
                renew_after=table.renew_after,
                self_check=table.self_check,
                usages=tuple(usage for usage in get_args(Usage) if usage in table.usage),
                preferred_chain=table.preferred_chain,
                profile=table.profile,
                fallback_profile=table.fallback_profile,
                lifetime=table.lifetime,
                reuse_key=table.reuse_key,
                backup_key=table.backup_key,
                csr=request[0] if request else None,
                dns=chosen,
                pulled=hub is not None,
            )
            if len(both := members(name, written)) > 1:
                specs[both[1]] = replace(
                    specs[name], name=both[1], key_type=written["key"][1], sibling=name
                )
                specs[name] = replace(specs[name], sibling=both[1])
    return specs


def _check_names(page: Page, location: Location, names: Mapping[int, Identifier]) -> None:
    seen: set[Identifier] = set()
    for index, name in names.items():
        if name in seen:
            what = f"{name} is there twice"
            page.add((*location, index), what, "", "leave one of them out")
        seen.add(name)


def _check_usage(page: Page, location: Location, raw: Mapping[str, Any], *, ours: bool) -> None:
    """``ours``: its CAs are all of certd's own."""
    usages = _strings(raw, "usage")
    page.check_twice((*location, "usage"), usages)
    if "client" in usages and not ours:
        page.add(
            (*location, "usage", usages.index("client")),
            "client needs a CA of certd's own",
            "public CAs certify servers",
            'write ca = ["local"], or leave it out',
        )
    if usages != ["client"]:
        return
    for index, target in enumerate(_strings(raw, "targets")):
        if page.tables("target").get(target, {}).get("verify"):
            page.add(
                (*location, "targets", index),
                f"{target} is verified at its endpoints",
                "no server presents a certificate that is for clients only",
                "use a target without verify",
            )


def _check_profiles(page: Page, location: Location, raw: Mapping[str, Any], *, ours: bool) -> None:
    """``ours``: its CAs are all of certd's own."""
    for key in ("profile", "lifetime") if ours else ():
        if key in raw:
            why = "a CA of certd's own has no profiles, and one lifetime for all"
            todo = "leave it out" + (", or write it in the CA's table" if key == "lifetime" else "")
            page.add((*location, key), "does not belong here", why, todo)
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


def _challenges(raw: Mapping[str, Any]) -> list[str]:
    one = raw.get("challenge", "http-01")
    return [one] if isinstance(one, str) else _strings(raw, "challenge")


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
