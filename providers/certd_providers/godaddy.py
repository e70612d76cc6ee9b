"""GoDaddy: single records, by version 3 of its API.

The credential is a personal access token: developer.godaddy.com/personal-access-token. Least
permission: the scopes domains.domain:read and domains.dns:update. Classic keys with a secret are
for versions 1 and 2 only, and valid through 2026: they do not work here.

Behaviour: https://developer.godaddy.com/en/docs/references/rest/domains/v3/records and
https://developer.godaddy.com/en/docs/api-users/rate-limits; the specification is in
https://github.com/godaddy/cli. TXT data has no quotes and up to 512 characters, a TTL is 600 s to
a day, a record is told by its name, type and data, pages follow ``links``. A record is never
replaced (PUT): that was seen to replace the zone (https://github.com/godaddy/cli/issues/136).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from certd.api import SecretReference, TxtRecord
from certd_providers.rest import API, bearer
from certd_providers.txt import unquoted
from certd_providers.urls import ADDRESS

MINIMUM_TTL = 600  # seconds
PAGE = 100  # records
_PERMISSION = (
    "make a personal access token at developer.godaddy.com/personal-access-token with the scopes"
    " domains.domain:read and domains.dns:update, in an account that may use the API"
)


@dataclass(frozen=True, slots=True)
class GoDaddy:
    """Domains at GoDaddy."""

    credential: ClassVar[str] = _PERMISSION
    rate: ClassVar[str] = "300/23m"  # 600 requests, of which a change makes two

    token: SecretReference = field(
        metadata={
            "description": "personal access token, not a classic key with its secret",
            "example": '{ file = "/etc/certd/godaddy" }',
            "missing": "godaddy needs a personal access token",
        }
    )
    url: str = field(default="https://api.godaddy.com/v3/domains", metadata=ADDRESS)

    def zones(self) -> list[str]:
        with self._api() as api:
            return [str(each["domain"]).lower() for each in _all(api, "/domain-names", {})]

    def add_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            if any(_ours(api, record)):
                return
            body = {
                "type": "TXT",
                "name": record.label or "@",
                "data": record.value,
                "ttl": max(record.ttl, MINIMUM_TTL),
            }
            answer = api.call("POST", _records(record), body=body, accept={409, 422})
            # A conflict is success where it is with our own record, made meanwhile.
            if answer.status >= 400 and not any(_ours(api, record)):
                raise api.failure(answer)

    def remove_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            for found in list(_ours(api, record)):
                api.call("DELETE", f"{_records(record)}/{found['recordId']}", accept={404})

    def _api(self) -> API:
        return bearer("GoDaddy", self.url, self.token, _PERMISSION, explain=_words)


def _records(record: TxtRecord) -> str:
    return f"/zones/{record.zone}/dns-records"


def _ours(api: API, record: TxtRecord) -> Iterator[Mapping[str, Any]]:
    label = record.label or "@"
    asked = {"type": "TXT", "name": label, "pageSize": str(PAGE)}
    for found in _all(api, _records(record), asked, record.zone):
        named = found["type"] == "TXT" and found["name"].lower() == label
        if named and unquoted(found["data"]) == record.value:
            yield found


def _all(
    api: API, path: str, asked: Mapping[str, str], zone: str = ""
) -> Iterator[Mapping[str, Any]]:
    while True:
        answer = api.get(path, params=asked, accept={404} if zone else ())
        if answer.status == 404:
            raise api.unknown(zone)
        yield from answer.json["items"]
        # Only the query counts: these addresses are relative to the vendor's own server.
        links = {link["rel"]: link["href"] for link in answer.json["links"]}
        if not answer.json["items"] or "next" not in links:
            return
        asked = dict(parse_qsl(urlsplit(links["next"]).query))


def _words(body: Any) -> str:
    return f"{body['message']} ({body['code']})"
