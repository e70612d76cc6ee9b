"""Hetzner: the DNS of the Cloud API, record sets to which single values are added.

The credential is an API token of the project that has the zones: console.hetzner.com, the project,
Security, API tokens, with "Read & Write". There is none for DNS only: let zones be in a project of
their own. Tokens of the former DNS Console (dns.hetzner.com, shut down in May 2026) do not work.

Behaviour: https://docs.hetzner.cloud/reference/cloud#zone-rrset-actions and
https://docs.hetzner.cloud/reference/cloud#errors. TXT values are quoted; a TTL is at least 60 s and
one for the whole set; a missing zone and a missing set are both 404. A change is an action: it
takes some seconds, in which a look does not see it yet, may fail, or find the zone locked (423).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import SecretReference, TxtRecord
from certd_providers.rest import API, bearer
from certd_providers.txt import quoted, unquoted
from certd_providers.urls import ADDRESS

MINIMUM_TTL = 60  # seconds
PAGE = 50  # zones
ACTION = 3.0  # seconds that one takes, about
_PASSING = frozenset({"conflict", "locked", "resource_unavailable"})
_PERMISSION = (
    "make an API token at console.hetzner.com (the project with these zones, Security, API tokens)"
    ' with "Read & Write"'
)


@dataclass(frozen=True, slots=True)
class Hetzner:
    """Zones of one project at Hetzner."""

    credential: ClassVar[str] = _PERMISSION
    rate: ClassVar[str] = "1800/1h"  # 3,600 requests, of which a change makes two

    token: SecretReference = field(
        metadata={
            "description": "API token of the project that has the zones",
            "example": '{ file = "/etc/certd/hetzner" }',
            "missing": "hetzner needs an API token",
        }
    )
    url: str = field(default="https://api.hetzner.cloud/v1", metadata=ADDRESS)

    def zones(self) -> list[str]:
        found: list[str] = []
        page: int | None = 1
        with self._api() as api:
            while page:
                body = api.get("/zones", params={"page": page, "per_page": PAGE}).json
                found += [str(zone["name"]).lower() for zone in body["zones"]]
                page = body["meta"]["pagination"]["next_page"]
        return found

    def add_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            values = _values(api, record)
            if record.value in map(unquoted, values):
                _quiet(api, record.zone)
                return
            body: dict[str, Any] = {"records": [{"value": quoted(record.value)}]}
            if not values:
                # Else others' values have a TTL already, and it is one for all of them.
                body["ttl"] = max(record.ttl, MINIMUM_TTL)
            _act(api, record, "add_records", body)

    def remove_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            # As they stand there: a value is removed by its very text.
            ours = [text for text in _values(api, record) if unquoted(text) == record.value]
            if not ours:
                _quiet(api, record.zone)
                return
            body = {"records": [{"value": text} for text in ours]}
            _act(api, record, "remove_records", body)

    def _api(self) -> API:
        return bearer("Hetzner", self.url, self.token, _PERMISSION, explain=_words)


def _set(record: TxtRecord) -> str:
    return f"/zones/{record.zone}/rrsets/{record.label or '@'}/TXT"


def _values(api: API, record: TxtRecord) -> list[str]:
    answer = api.get(_set(record), accept={404})
    if answer.status == 404:
        return []
    return [str(each["value"]) for each in answer.json["rrset"]["records"]]


def _quiet(api: API, zone: str) -> None:
    """That there is nothing to do is known only while no earlier change is under way."""
    answer = api.get(f"/zones/{zone}/actions", params={"status": "running"}, accept={404})
    if answer.status == 404:
        raise api.unknown(zone)
    if answer.json["actions"]:
        raise api.busy("an earlier change of the zone is still under way", ACTION)


def _act(api: API, record: TxtRecord, action: str, body: Any) -> None:
    path = f"{_set(record)}/actions/{action}"
    answer = api.call("POST", path, body=body, accept={404, 409, 412, 422, 423})
    if answer.status == 404:
        raise api.unknown(record.zone)
    if answer.status >= 400:
        code = answer.json["error"]["code"]
        if code == "uniqueness_error":
            return  # added before, by the call whose answer was lost
        raise api.busy(_words(answer.json)) if code in _PASSING else api.failure(answer)
    if answer.json["action"]["status"] == "error":
        raise api.busy(_words(answer.json["action"]))


def _words(body: Any) -> str:
    return f"{body['error']['message']} ({body['error']['code']})"
