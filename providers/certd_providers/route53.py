"""Amazon Route 53: TXT records in the public hosted zones of an AWS account.

A record set is one thing with all its values: each change reads the set and writes it whole, so
whatever else is at that name stays, with its TTL. A set is made by CREATE and deleted by what was
read, which both fail if somebody else was faster; so a change is both, done at once or not at all.

How sets are changed: https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
How values are written: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#TXTFormat
How many requests: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/throttling-api-requests.html
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import ProviderError, TxtRecord
from certd_providers.aws import AWS

STRING = 255  # bytes of one character-string
_STRINGS = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2}|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Route53(AWS):
    """Amazon Route 53: the public hosted zones of one account."""

    service: ClassVar[str] = "route53"
    credential: ClassVar[str] = (
        "an access key of an IAM user, or whatever boto3 finds by itself (environment, profile, "
        "the machine's role), allowed: route53:ListHostedZones and route53:ListHostedZonesByName "
        "on *, route53:ListResourceRecordSets and route53:ChangeResourceRecordSets on "
        "arn:aws:route53:::hostedzone/ID (the latter can be limited by the condition "
        "route53:ChangeResourceRecordSetsRecordTypes to TXT), route53:GetChange on "
        "arn:aws:route53:::change/*; with zone_id instead of the first two "
        "route53:GetHostedZone on that zone"
    )
    rate: ClassVar[str] = "3/1s"  # ten requests a second and account, and a change takes three

    zone_id: str | None = field(
        default=None,
        metadata={"description": "the only hosted zone to write to; else they are found by name"},
    )
    # The change that published a record, for settled(); of no use to anyone after a restart.
    _changes: dict[TxtRecord, str] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def add_txt(self, record: TxtRecord) -> None:
        with self.client(record.zone) as route53:
            zone = self._hosted_zone(route53, record.zone)
            found = _record_set(route53, zone, record.name)
            values = found["ResourceRecords"] if found else []
            if record.value not in [_text(value) for value in values]:
                values = [*values, {"Value": _quoted(record.value)}]
            new = found or {"Name": f"{record.name}.", "Type": "TXT", "TTL": record.ttl}
            # Even if the value was there: only a change tells when all servers have it.
            change = _change(route53, zone, found, {**new, "ResourceRecords": values})
            self._changes[record] = change

    def remove_txt(self, record: TxtRecord) -> None:
        self._changes.pop(record, None)
        with self.client(record.zone) as route53:
            zone = self._hosted_zone(route53, record.zone)
            found = _record_set(route53, zone, record.name)
            values = found["ResourceRecords"] if found else []
            others = [value for value in values if _text(value) != record.value]
            if found and others != values:
                new = {**found, "ResourceRecords": others} if others else None
                _change(route53, zone, found, new)

    def settled(self, record: TxtRecord) -> bool:
        change = self._changes.get(record)
        if change is None:  # of another process, and minutes old
            return True
        with self.client() as route53:
            return bool(route53.get_change(Id=change)["ChangeInfo"]["Status"] == "INSYNC")

    def zones(self) -> Collection[str]:
        with self.client() as route53:
            if self.zone_id is not None:
                return {_name(route53.get_hosted_zone(Id=self.zone_id)["HostedZone"])}
            pages = route53.get_paginator("list_hosted_zones").paginate()
            return {_name(zone) for page in pages for zone in page["HostedZones"] if _public(zone)}

    def resource(self, operation: str) -> str:
        if operation.startswith("ListHostedZones"):
            return "*"
        if operation == "GetChange":
            return "arn:aws:route53:::change/*"
        return f"arn:aws:route53:::hostedzone/{self.zone_id or '*'}"

    def of_zone(self, operation: str) -> bool:
        return operation in ("ListResourceRecordSets", "ChangeResourceRecordSets")

    def _hosted_zone(self, route53: Any, name: str) -> str:
        """The id of this zone. Raises ProviderError if there is none, or more than one."""
        if self.zone_id is not None:
            return self.zone_id
        # They come sorted from this name on: its own are the first.
        found = route53.list_hosted_zones_by_name(DNSName=f"{name}.", MaxItems="100")
        zones = [zone for zone in found["HostedZones"] if _name(zone) == name and _public(zone)]
        ids = [str(zone["Id"]).removeprefix("/hostedzone/") for zone in zones]
        if len(ids) == 1:
            return ids[0]
        if not ids:
            why = "the account has no public hosted zone of that name"
            todo = "create it, or correct which provider the name belongs to"
            raise ProviderError(f"Route 53 does not have the zone {name}", why, todo)
        why = f"of {', '.join(sorted(ids))} the world sees one"
        todo = "compare their name servers with the delegation, and write zone_id"
        raise ProviderError(f"Route 53 has {len(ids)} public zones {name}", why, todo)


def _record_set(route53: Any, zone: str, name: str) -> dict[str, Any] | None:
    sets = route53.list_resource_record_sets(
        HostedZoneId=zone, StartRecordName=f"{name}.", StartRecordType="TXT", MaxItems="1"
    )["ResourceRecordSets"]
    # The list begins at the name, or at whatever follows it.
    if not sets or sets[0]["Type"] != "TXT" or _name(sets[0]) != name:
        return None
    found: dict[str, Any] = sets[0]
    if "SetIdentifier" in found or "ResourceRecords" not in found:
        why = "its record set has a routing policy, or is an alias"
        raise ProviderError(f"{name} cannot be written", why, "make it a simple record set")
    return found


def _change(route53: Any, zone: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    """Put one set in the place of the other; returns the change's id."""
    actions = (
        (("UPSERT", new),)  # nothing to overtake, and no need to take it away in between
        if old == new
        else (("DELETE", old), ("CREATE", new))
    )
    changes = [{"Action": what, "ResourceRecordSet": one} for what, one in actions if one]
    batch = {"Changes": changes}
    done = route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)
    return str(done["ChangeInfo"]["Id"]).removeprefix("/change/")


def _name(what: dict[str, Any]) -> str:
    return str(what["Name"]).removesuffix(".").lower()


def _public(zone: dict[str, Any]) -> bool:
    return not zone.get("Config", {}).get("PrivateZone", False)


def _quoted(text: str) -> str:
    """Character-strings in quotes; what is not printable is in octal, unlike in zone files."""
    data = text.encode()
    parts = [data[at : at + STRING] for at in range(0, len(data), STRING)] or [b""]
    return " ".join(f'"{"".join(map(_character, part))}"' for part in parts)


def _character(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{byte:c}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def _text(value: dict[str, str]) -> str:
    joined = "".join(_STRINGS.findall(value["Value"])).encode()
    return _ESCAPE.sub(_unescaped, joined).decode("utf-8", "replace")


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8)]) if len(escape[1]) == 3 else escape[1]
