"""DigitalOcean: single records.

The credential is a personal access token: cloud.digitalocean.com, API, Tokens. Least permission:
custom scopes, of "domain" all four (read, create, update, delete). There is none for records only.

Behaviour: https://docs.digitalocean.com/reference/api/digitalocean/#tag/Domain-Records and its
specification, https://github.com/digitalocean/openapi. TXT data is without quotes; the same record
can be there twice; a TTL is at least 30 s; pages follow ``links``. Not documented, but known: the
data may have no more than some 500 characters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import SecretReference, TxtRecord
from certd_providers.rest import API, bearer
from certd_providers.txt import unquoted
from certd_providers.urls import ADDRESS

MINIMUM_TTL = 30  # seconds
PAGE = 200  # zones or records
_PERMISSION = (
    "make a token at cloud.digitalocean.com (API, Tokens) with the custom scopes domain:read,"
    " domain:create, domain:update and domain:delete"
)


@dataclass(frozen=True, slots=True)
class DigitalOcean:
    """Domains at DigitalOcean."""

    credential: ClassVar[str] = _PERMISSION
    rate: ClassVar[str] = "40/1m"  # 5,000 requests an hour, of which a change makes two

    token: SecretReference = field(
        metadata={
            "description": "personal access token",
            "example": '{ file = "/etc/certd/digitalocean" }',
            "missing": "digitalocean needs a personal access token",
        }
    )
    url: str = field(default="https://api.digitalocean.com/v2", metadata=ADDRESS)

    def zones(self) -> list[str]:
        with self._api() as api:
            return [str(domain["name"]).lower() for domain in _all(api, "/domains", "domains", {})]

    def add_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            # Looked at first: it would take the same record twice.
            if any(_ours(api, record)):
                return
            body = {
                "type": "TXT",
                "name": record.label or "@",
                "data": record.value,
                "ttl": max(record.ttl, MINIMUM_TTL),
            }
            api.call("POST", f"/domains/{record.zone}/records", body=body)

    def remove_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            for found in list(_ours(api, record)):
                path = f"/domains/{record.zone}/records/{found['id']}"
                api.call("DELETE", path, accept={404})

    def _api(self) -> API:
        return bearer("DigitalOcean", self.url, self.token, _PERMISSION)


def _ours(api: API, record: TxtRecord) -> Iterator[Mapping[str, Any]]:
    """The records with this value: more than one if a time-out has doubled it."""
    asked = {"type": "TXT", "name": record.name}
    path = f"/domains/{record.zone}/records"
    for found in _all(api, path, "domain_records", asked, record.zone):
        named = found["name"] in (record.label or "@", record.name)
        if named and found["type"] == "TXT" and unquoted(found["data"]) == record.value:
            yield found


def _all(
    api: API, path: str, key: str, asked: Mapping[str, str], zone: str = ""
) -> Iterator[Mapping[str, Any]]:
    for page in itertools.count(1):
        params = {**asked, "page": page, "per_page": PAGE}
        answer = api.get(path, params=params, accept={404} if zone else ())
        if answer.status == 404:
            raise api.unknown(zone)
        yield from answer.json[key]
        if not answer.json[key] or "next" not in answer.json["links"].get("pages", {}):
            return
