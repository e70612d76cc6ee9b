"""Google Cloud DNS: what it holds, and what it refuses."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import dns.rdata

from tests.fake_google_account import PROJECT, Doorman, Forms, problem
from tests.http_server import Request, Response

PAGE = 2


@functools.cache
def forms() -> Forms:
    methods = ("managedZones.list", "managedZones.get", "resourceRecordSets.list", "changes.create")
    return Forms("dns.v1", {f"dns.{one}": f"dns.{one}" for one in methods})


@dataclass
class Google(Doorman):
    """``sets``: by managed zone, name and type."""

    scope: ClassVar[str] = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"

    zones: dict[str, dict[str, str]] = field(default_factory=dict)
    sets: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    def zone(self, name: str, dns_name: str, visibility: str = "public") -> None:
        self.zones[name] = {"name": name, "dnsName": f"{dns_name}.", "visibility": visibility}

    def values(self, zone: str, name: str) -> list[str]:
        found = self.sets.get((zone, f"{name}.", "TXT"), {"rrdatas": []})
        return ["".join(part.split('"')[1::2]) for part in found["rrdatas"]]

    def may_not(self, permission: str) -> Response:
        return problem(403, "forbidden", f"Permission '{permission}' denied on the resource")

    def done(self, method: str, path: dict[str, str], request: Request) -> Response:
        zone = path.get("managedZone")
        if path["project"] != PROJECT or (zone is not None and zone not in self.zones):
            told = f"The 'parameters.managedZone' resource named '{zone}' does not exist."
            return problem(404, "notFound", told)
        if method == "dns.managedZones.list":
            return self._list(request)
        if method == "dns.managedZones.get":
            return Response(200, self.zones[str(zone)])
        if method == "dns.resourceRecordSets.list":
            asked = (str(zone), request.query["name"], request.query["type"])
            return Response(200, {"rrsets": [self.sets[asked]] if asked in self.sets else []})
        return self._change(str(zone), request.json, self.may[str(self.whose(request))])

    def _list(self, request: Request) -> Response:
        wanted = request.query.get("dnsName")
        found = [
            zone for _, zone in sorted(self.zones.items()) if wanted in (None, zone["dnsName"])
        ]
        start = int(request.query.get("pageToken", "0"))
        page: dict[str, Any] = {"managedZones": found[start : start + PAGE]}
        if start + PAGE < len(found):
            page["nextPageToken"] = str(start + PAGE)
        return Response(200, page)

    def _change(self, zone: str, change: dict[str, Any], may: frozenset[str]) -> Response:
        after, additions, deletions = dict(self.sets), change["additions"], change["deletions"]
        if not additions and not deletions:
            return problem(400, "required", "Required entity.change")
        verb = "update" if additions and deletions else "create" if additions else "delete"
        if f"dns.resourceRecordSets.{verb}" not in may:
            return self.may_not(f"dns.resourceRecordSets.{verb}")
        for index, old in enumerate(deletions):
            where = (zone, old["name"], old["type"])
            if after.pop(where, None) != old:  # their order counts too
                told = f"Precondition not met for 'entity.change.deletions[{index}]'"
                return problem(412, "conditionNotMet", told)
        for index, new in enumerate(additions):
            where = (zone, new["name"], new["type"])
            if where in after:
                told = (
                    f"The resource 'entity.change.additions[{index}]' named '{new['name']} (TXT)'"
                )
                return problem(409, "alreadyExists", f"{told} already exists")
            if _wrong(new, self.zones[zone]["dnsName"]):
                told = f"Invalid value for 'entity.change.additions[{index}].rrdata[0]'"
                return problem(400, "invalid", told)
            after[where] = new
        self.sets = after
        number = str(next(self.count))
        return Response(200, {**change, "kind": "dns#change", "id": number, "status": "pending"})


def _wrong(new: dict[str, Any], zone: str) -> bool:
    if not (new["name"] == zone or new["name"].endswith(f".{zone}")) or not new["rrdatas"]:
        return True
    if len(set(new["rrdatas"])) < len(new["rrdatas"]) or not 0 <= new["ttl"] < 2**31:
        return True
    try:
        for text in new["rrdatas"]:
            dns.rdata.from_text("IN", "TXT", text)
    except dns.exception.DNSException:
        return True
    return not all(text.startswith('"') for text in new["rrdatas"])
