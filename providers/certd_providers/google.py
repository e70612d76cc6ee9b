"""Google Cloud DNS: TXT records in the public managed zones of one project.

A change takes whole record sets away and puts whole ones in, at once or not at all. What it takes
away must be exactly what is there (HTTP 412), and what it puts in must not be there (409): so
nobody's value is lost, and who was slower tries again.

Changes: https://docs.cloud.google.com/dns/docs/reference/rest/v1/changes
Errors: https://docs.cloud.google.com/dns/docs/error-messages
Permissions: https://docs.cloud.google.com/dns/docs/access-control
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

from certd.api import ProviderError, TxtRecord
from certd_providers.googleaccount import GoogleAccount, GoogleAPI
from certd_providers.txt import quoted, unquoted
from certd_providers.urls import ADDRESS

NAME = "Google Cloud DNS"
OVERTAKEN = frozenset((409, 412))


@dataclass(frozen=True, slots=True)
class Google(GoogleAccount):
    """Google Cloud DNS: the public managed zones of one project."""

    service: ClassVar[str] = NAME
    access: ClassVar[str] = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
    credential: ClassVar[str] = (
        "a key (JSON) of a service account, or what Google's library finds by itself (the "
        'machine\'s service account, gcloud), with the role "DNS Administrator" on the zones and '
        '"DNS Reader" on the project, or a role of your own with dns.managedZones.list, '
        "dns.changes.create, dns.resourceRecordSets.list, ….create, ….update and ….delete"
    )

    managed_zone: str | None = field(
        default=None,
        metadata={"description": "the only zone to write to, by its ID; else found by DNS name"},
    )
    url: str = field(default="https://dns.googleapis.com", metadata=ADDRESS)

    def add_txt(self, record: TxtRecord) -> None:
        with self._project() as whole:
            zone, project = self._zone(whole, record.zone), whole.within(record.zone)
            found = project.record_set(zone, record.name)
            values = found["rrdatas"] if found else []
            if record.value in map(unquoted, values):
                return
            new = {"name": f"{record.name}.", "type": "TXT", "ttl": record.ttl, **(found or {})}
            project.replace(zone, found, {**new, "rrdatas": [*values, quoted(record.value)]})

    def remove_txt(self, record: TxtRecord) -> None:
        with self._project() as whole:
            zone, project = self._zone(whole, record.zone), whole.within(record.zone)
            found = project.record_set(zone, record.name)
            values = found["rrdatas"] if found else []
            others = [value for value in values if unquoted(value) != record.value]
            if found and others != values:
                project.replace(zone, found, {**found, "rrdatas": others} if others else None)

    def zones(self) -> Collection[str]:
        with self._project() as project:
            if self.managed_zone is not None:
                found = [project.call("GET", f"/managedZones/{quote(self.managed_zone, '')}")]
            else:
                found = list(project.zones())
            return {zone["dnsName"].removesuffix(".").lower() for zone in found}

    def _zone(self, project: Project, name: str) -> str:
        if self.managed_zone is not None:
            return self.managed_zone
        ids = sorted(zone["name"] for zone in project.zones(dnsName=f"{name}."))
        if len(ids) == 1:
            return str(ids[0])
        if not ids:
            why = "the project has no public managed zone of that name"
            todo = "create it, or correct project, or which provider the name belongs to"
            raise ProviderError(f"{NAME} does not have the zone {name}", why, todo)
        why = f"of {', '.join(ids)} the world sees one"
        todo = "compare their name servers with the delegation, and write managed_zone"
        raise ProviderError(f"{NAME} has {len(ids)} public zones {name}", why, todo)

    @contextlib.contextmanager
    def _project(self) -> Iterator[Project]:
        with self.asking(self.url) as (api, project):
            yield Project(api, f"/dns/v1/projects/{quote(project, '')}")


class Project:
    """The API as one operation sees it."""

    def __init__(self, api: GoogleAPI, path: str, zone: str = "") -> None:
        """``zone`` is the DNS name of the only one that is to be written to."""
        self._api = api
        self._path = path
        self._writing = zone

    def within(self, zone: str) -> Project:
        return Project(self._api, self._path, zone)

    def call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        path, zone = self._path + path, self._writing
        answer = self._api.call(method, path, accept=OVERTAKEN, zone=zone, **how)
        if answer.status in OVERTAKEN:
            raise self._api.busy(f"HTTP {answer.status}: somebody else has changed the record set")
        found: dict[str, Any] = answer.json
        return found

    def zones(self, **which: str) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {"nextPageToken": None}
        while "nextPageToken" in page:
            params = {**which, "pageToken": page["nextPageToken"]}
            page = self.call("GET", "/managedZones", params=params)
            for zone in page.get("managedZones", []):
                if zone.get("visibility", "public") == "public":
                    yield zone

    def record_set(self, zone: str, name: str) -> dict[str, Any] | None:
        path = f"/managedZones/{quote(zone, '')}/rrsets"
        params = {"name": f"{name}.", "type": "TXT"}
        for found in self.call("GET", path, params=params).get("rrsets", []):
            if "routingPolicy" in found:
                why = "its record set has a routing policy"
                raise ProviderError(f"{name} cannot be written", why, "make it a simple one")
            return {key: found[key] for key in ("name", "type", "ttl", "rrdatas")}
        return None

    def replace(self, zone: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        body = {"deletions": [old] if old else [], "additions": [new] if new else []}
        self.call("POST", f"/managedZones/{quote(zone, '')}/changes", body=body)
