"""The HTTP API of a PowerDNS Authoritative Server of one's own.

Its ``api-key`` is in pdns.conf, beside ``api=yes``, ``webserver=yes`` and ``webserver-allow-from``
with certd's address. There is one key, and it may do everything with every zone: its API is on
certd's own machine, or behind a proxy with TLS, which may know better what certd is to change.
A zone is transferred to its secondaries when its serial grows: its metadata SOA-EDIT-API does it.

https://doc.powerdns.com/authoritative/http-api/zone.html
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import ProviderError, SecretReference, TxtRecord
from certd_providers.rest import API
from certd_providers.sets import WRITES, undone
from certd_providers.txt import quoted, unquoted
from certd_providers.urls import check_url

COPIES = frozenset({"slave", "consumer", "secondary"})  # kinds of zones that come from elsewhere
TELLING = frozenset({"master", "producer", "primary"})  # those that have secondaries to notify


@dataclass(frozen=True, slots=True)
class PowerDNS:
    """The HTTP API of a PowerDNS Authoritative Server."""

    credential: ClassVar[str] = (
        "api-key in its pdns.conf, with api=yes, webserver=yes and certd's address in"
        " webserver-allow-from; the key may do everything, there is no lesser one"
    )

    # Each change writes the zone's serial: of two at once, both may make it the same, and what
    # a secondary has not transferred by then, it never does. SQLite refuses one of them besides.
    exclusive: ClassVar[str] = "zone"

    url: str = field(
        metadata={
            "check": check_url,
            "description": "where its web server is, or a proxy with TLS in front; no /api/v1",
            "example": "http://127.0.0.1:8081",
            "missing": "the API has no address that is the same for all",
        }
    )
    key: SecretReference = field(metadata={"description": "api-key of its configuration"})
    server: str = field(
        default="localhost",
        metadata={"description": "what the API calls the server; a PowerDNS proper: localhost"},
    )

    def zones(self) -> Collection[str]:
        with self._api() as api:
            found = api.get("/zones", params={"dnssec": "false"}).json
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            what = f"{self.url} does not tell its zones"
            raise ProviderError(what, "its answer is no list of zones", "correct url")
        return [each["name"].rstrip(".").lower() for each in found if not _copy(each)]

    def add_txt(self, record: TxtRecord) -> None:
        self._change(record, present=True)

    def remove_txt(self, record: TxtRecord) -> None:
        self._change(record, present=False)

    def _change(self, record: TxtRecord, *, present: bool) -> None:
        path = f"/zones/{urllib.parse.quote(record.zone)}."
        with self._api() as api:
            for _ in range(WRITES):
                # All of it: asked for one name, PowerDNS before 5.0 leaves out what is disabled
                # (its issue 11473), and that would be lost.
                zone = self._zone(api, path, record)
                change = _change(zone, record, present=present)
                if change is None:
                    break
                api.call("PATCH", path, body={"rrsets": [change]})
                which = {"rrset_name": f"{record.name}.", "rrset_type": "TXT"}
                if _change(self._zone(api, path, record, which), record, present=present) is None:
                    break
            else:
                raise undone(api)
            if zone.get("kind", "").lower() in TELLING:
                # Or its secondaries hear of it after a minute. If it cannot, they do then.
                api.call("PUT", f"{path}/notify", accept=range(400, 500))

    def _zone(
        self, api: API, path: str, record: TxtRecord, which: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """With its record sets, or ``which`` of them."""
        answer = api.get(path, accept=(404,), params=which)
        what = f"{self.url} cannot write to the zone {record.zone}"
        if answer.status == 404:
            todo = "make the zone there, or correct url and server"
            raise ProviderError(what, "it has no such zone (HTTP 404)", todo)
        zone = answer.json
        if not isinstance(zone, dict) or "rrsets" not in zone:
            raise ProviderError(what, "its answer is no zone", "correct url")
        if _copy(zone):
            why = f"it is {zone['kind']}, and the next transfer would undo it"
            raise ProviderError(what, why, "name its primary server in url")
        return zone

    def _api(self) -> API:
        key = self.key.fetch().reveal()
        url = f"{self.url.rstrip('/')}/api/v1/servers/{urllib.parse.quote(self.server, safe='')}"
        return API(
            "PowerDNS",
            url,
            headers={"X-API-Key": key},
            permission=self.credential,
            secrets=[key],
        )


def _change(zone: dict[str, Any], record: TxtRecord, *, present: bool) -> dict[str, Any] | None:
    """What replaces the set: others' values, disabled ones too, go along. None: it is right."""
    sets = [each for each in zone["rrsets"] if _is(each, record.name)]
    found = [each for one in sets for each in one["records"]]
    own = [each for each in found if unquoted(each["content"]) == record.value]
    if bool(own) == present and not any(each.get("disabled") for each in own):
        return None
    rest = [each for each in found if each not in own]
    new = {"content": quoted(record.value), "disabled": False}
    return {
        "name": f"{record.name}.",
        "type": "TXT",
        "changetype": "REPLACE",
        "ttl": sets[0]["ttl"] if rest else record.ttl,  # theirs, if they have one
        "records": [*rest, new] if present else rest,
    }


def _copy(zone: dict[str, Any]) -> bool:
    return str(zone.get("kind")).lower() in COPIES


def _is(record_set: dict[str, Any], name: str) -> bool:
    return (record_set["type"], record_set["name"].lower()) == ("TXT", f"{name}.")
