"""Cloudflare: single records, in zones that are known by an id.

The credential is an API token (not the global key): dash.cloudflare.com, My Profile, API Tokens,
Create Token. Least permission: Zone / DNS / Edit and Zone / Zone / Read, for the zones that certd
writes to.

Behaviour: https://developers.cloudflare.com/api/resources/dns/subresources/records/ and
https://developers.cloudflare.com/fundamentals/api/reference/limits/. TXT content is quoted
character-strings, but older records may be without quotes; a TTL is at least 60 s; the same
record twice is refused with code 81058 (formerly 81057); 81044 is a record that is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import ProviderError, SecretReference, TxtRecord
from certd_providers.rest import API, Answer, bearer
from certd_providers.txt import quoted, unquoted
from certd_providers.urls import ADDRESS

MINIMUM_TTL = 60  # seconds
PAGE = 50  # zones or records
_IDENTICAL = frozenset({81057, 81058})
_BAD_TOKEN = frozenset({6003, 6111})  # said with 400: the header is not even one
_PERMISSION = (
    "make an API token at dash.cloudflare.com (My Profile, API Tokens) that has Zone:DNS:Edit and"
    " Zone:Zone:Read for these zones"
)


@dataclass(frozen=True, slots=True)
class Cloudflare:
    """Zones at Cloudflare."""

    credential: ClassVar[str] = _PERMISSION
    rate: ClassVar[str] = "400/5m"  # 1,200 requests, of which a change makes three

    token: SecretReference = field(
        metadata={
            "description": "API token, not the global API key",
            "example": '{ file = "/etc/certd/cloudflare" }',
            "missing": "cloudflare needs an API token",
        }
    )
    url: str = field(default="https://api.cloudflare.com/client/v4", metadata=ADDRESS)

    def zones(self) -> list[str]:
        with self._api() as api:
            return [str(zone["name"]).lower() for zone in _all(api, "/zones", {})]

    def add_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            records = _records(api, record.zone)
            if any(_ours(api, records, record)):
                return
            body = {
                "type": "TXT",
                "name": record.name,
                "content": quoted(record.value),
                "ttl": max(record.ttl, MINIMUM_TTL),
            }
            answer = api.call("POST", records, body=body, accept={400})
            if answer.status == 400 and not _IDENTICAL & _codes(answer):
                raise api.failure(answer)

    def remove_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            records = _records(api, record.zone)
            for found in list(_ours(api, records, record)):
                api.call("DELETE", f"{records}/{found['id']}", accept={404})

    def _api(self) -> API:
        return bearer("Cloudflare", self.url, self.token, _PERMISSION, explain=_words)


def _records(api: API, zone: str) -> str:
    """Where the records of this zone are."""
    named = [each for each in _all(api, "/zones", {"name": zone}) if each["name"] == zone]
    # Others of that name may be there, which were never delegated to, or are no more.
    found = [each for each in named if each["status"] == "active"] or named
    if not found:
        raise api.unknown(zone)
    if len(found) > 1:
        why = f"of {', '.join(str(each['id']) for each in found)} the world sees one"
        todo = "let the token have that zone only"
        raise ProviderError(f"Cloudflare has {len(found)} zones {zone}", why, todo)
    api.zone = zone  # the token is good, and has been: what it may write is said for each zone
    return f"/zones/{found[0]['id']}/dns_records"


def _ours(api: API, records: str, record: TxtRecord) -> Iterator[Mapping[str, Any]]:
    for found in _all(api, records, {"type": "TXT", "name.exact": record.name}):
        if found["name"] == record.name and unquoted(found["content"]) == record.value:
            yield found


def _all(api: API, path: str, asked: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    for page in itertools.count(1):
        answer = api.get(path, params={**asked, "page": page, "per_page": PAGE}, accept={400})
        if answer.status == 400:
            bad = _BAD_TOKEN & _codes(answer)
            raise api.denied(_words(answer.json)) if bad else api.failure(answer)
        yield from answer.json["result"]
        if not answer.json["result"] or page >= answer.json["result_info"]["total_pages"]:
            return


def _codes(answer: Answer) -> set[int]:
    return {error["code"] for error in answer.json["errors"]}


def _words(body: Any) -> str:
    return "; ".join(f"{error['message']} ({error['code']})" for error in body["errors"])
