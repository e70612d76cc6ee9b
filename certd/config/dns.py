"""The ``[dns.NAME]`` tables, and which of them the names of a certificate are written by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from certd.config import kinds
from certd.config.findings import dotted, shown
from certd.config.page import Page
from certd.config.places import Location
from certd.config.values import DNSSettings
from certd.config.wishes import rate
from certd.model import BY_DNS, WRITTEN, CertificateSpec, Identifier

LONGEST = 253 - len("_validation-persist.")  # characters of a name that gets a record


def providers(page: Page) -> dict[str, DNSSettings]:
    """Every provider whose table is right, built; what is wrong is noted on the page."""
    built: dict[str, DNSSettings] = {}
    for found in kinds.read(page, kinds.PROVIDERS):
        table, location = found.table, ("dns", found.name)
        page.check_twice((*location, "zones"), found.right.zones)
        page.check_twice((*location, "resolvers"), found.right.resolvers)
        raw = page.tables("dns").get(found.name, {})
        if found.right.propagation == "wait" and "settle" not in raw:
            page.add(
                (*location, "settle"),
                "missing",
                'propagation = "wait" asks no name server, so that this is all that is waited',
                "add settle = 120",
            )
        if table is None or found.plugin is None:
            continue
        known = getattr(found.plugin, "rate", None)
        built[found.name] = DNSSettings(
            name=found.name,
            provider=table.provider,
            plugin=found.plugin,
            zones=tuple(table.zones),
            ttl=table.ttl,
            propagation=table.propagation,
            timeout=float(table.timeout),
            settle=float(table.settle),
            resolvers=tuple(table.resolvers),
            rate=table.rate or (rate(known) if isinstance(known, str) else None),
            digest=found.digest,
        )
    return built


def chosen(
    page: Page,
    location: Location,
    choice: Mapping[str, str] | None,
    names: Mapping[int, Identifier],
    challenges: Collection[str],
) -> tuple[tuple[str, str], ...]:
    """Which tables write the records of these names, the longest name first.

    ``choice`` is None where the operator's is wrong. ``names`` by their place in the list.
    Of several tables one must be chosen; an only one needs no word.
    """
    written = set(challenges) & set(WRITTEN)
    tables = page.tables("dns")
    where = (*location, "dns")
    if choice:
        for table in choice.values():
            if table not in tables:
                known = f"there are {', '.join(sorted(tables))}" if tables else "there is none"
                page.add(
                    where,
                    f"no such dns table: {shown(table)}",
                    known,
                    f"correct it, or add a table [{dotted(['dns', table])}]",
                )
        if not written:
            by = f"its challenge is {', '.join(challenges)}" if challenges else "no CA of it asks"
            todo = 'write challenge = "dns-01", or leave dns out' if challenges else "leave dns out"
            page.add(where, "nothing is written for it", by, todo)
    elif choice is not None and written:
        if len(tables) == 1:
            choice = {"*": next(iter(tables))}
        else:
            known = (
                f"there are {', '.join(sorted(tables))}" if tables else "there is no [dns] table"
            )
            todo = f'add dns = "{sorted(tables)[0]}"' if tables else "add a table [dns.NAME]"
            page.add(
                where, "missing", f"dns-01 needs to know who writes its records; {known}", todo
            )
            return ()
    parts = sorted(
        (choice or {}).items(), key=lambda item: (item[0] == "*", -item[0].count("."), item[0])
    )
    if parts and written:
        _check_covered(page, location, dict(parts), names)
    return tuple(parts) if len(parts) < 2 else _used(parts, names)


def _used(
    parts: list[tuple[str, str]], names: Mapping[int, Identifier]
) -> tuple[tuple[str, str], ...]:
    """Without those that none of the names goes by: what is wrong with them is nothing to it."""
    fits = [
        next((part for part, _ in parts if part == "*" or bare == part or below(bare, part)), "")
        for bare in (name.value.removeprefix("*.") for name in names.values())
    ]
    return tuple(item for item in parts if item[0] in fits)


def below(name: str, part: str) -> bool:
    return name.endswith(f".{part}")


def _check_covered(
    page: Page, location: Location, parts: Mapping[str, str], names: Mapping[int, Identifier]
) -> None:
    for index, name in names.items():
        bare = name.value.removeprefix("*.")
        if "*" in parts or any(bare == part or below(bare, part) for part in parts):
            continue
        if name.type == "dns":
            page.add(
                (*location, "names", index),
                f"{name} has nobody who writes its records",
                f"dns names {', '.join(parts)}",
                'name its part of DNS too, or "*" for the rest',
            )


def check_kinds(
    page: Page, location: Location, names: Mapping[int, Identifier], challenges: Collection[str]
) -> None:
    """Which names can be proved by which challenges. Without any, no CA wants to see one."""
    others = [challenge for challenge in challenges if challenge not in BY_DNS]
    by_dns = [challenge for challenge in challenges if challenge in BY_DNS]
    for index, name in names.items():
        if name.value.startswith("*.") and others:
            page.add(
                (*location, "names", index),
                f"{name} is a wildcard",
                f"CAs give one by a record in DNS only, not by {others[0]}",
                'write challenge = "dns-01", and a [dns] table that says who writes its records',
            )
        if by_dns and len(name.value) > LONGEST:
            page.add(
                (*location, "names", index),
                f"{name} is too long for {by_dns[0]}",
                f"with the prefix of the challenge's record it has more than {LONGEST} characters",
                "prove it by another challenge",
            )
        if name.type == "ip" and by_dns:
            page.add(
                (*location, "names", index),
                f"{name} is an address",
                f"{by_dns[0]} proves names only",
                'give it a certificate of its own, with challenge = "http-01"',
            )


def check_room(
    page: Page, specs: Mapping[str, CertificateSpec], built: Mapping[str, DNSSettings]
) -> None:
    """A name and its wildcard have their values at one name, where some have room for one only."""
    for spec in specs.values():
        if not set(WRITTEN) & set(spec.challenges):
            continue
        values = {name.value for name in spec.identifiers}
        for index, name in enumerate(spec.identifiers):
            bare, table = name.value.removeprefix("*."), spec.dns_for(name.value)
            account = built.get(table or "")
            if bare == name.value or bare not in values or account is None:
                continue
            if getattr(account.plugin, "most_values", None) == 1:
                page.add(
                    ("certificate", spec.name, "names", index),
                    f"{name} and {bare} cannot be in one certificate",
                    f"{account.provider} has room for one value at a name, and each needs its own",
                    "give each a certificate of its own",
                )


def settings_of(raw: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The choice of a table in which something is wrong, if that is right."""
    choice = raw.get("dns", {})
    if isinstance(choice, str):
        return {"*": choice}
    if isinstance(choice, dict) and all(isinstance(item, str) for item in choice.values()):
        return choice
    return None
