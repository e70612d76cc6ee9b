"""deSEC (desec.io): record sets, written whole.

The credential is a token: desec.io, Token Management. Least permission: none of the boxes, and a
policy for it: write to sets of type TXT (of these domains), a default policy without any writing.

Behaviour: https://desec.readthedocs.io/en/latest/dns/rrsets.html and
https://desec.readthedocs.io/en/latest/rate-limits.html. TXT records are quoted; each domain says
the least TTL that it takes (mostly 3600 s); an empty set is a deleted one; there are 2 writes a
second, 15 a minute, 100 an hour and 300 a day for a domain, beyond which it is 429 with
Retry-After. More than 500 domains are listed by cursors, in the Link header. No write can have a
condition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from requests.utils import parse_header_links

from certd.api import SecretReference, TxtRecord
from certd_providers.rest import API, Answer, bearer
from certd_providers.sets import until_it_stays
from certd_providers.txt import quoted, unquoted
from certd_providers.urls import ADDRESS

_PERMISSION = (
    "make a token at desec.io (Token Management) with a default policy that lets it write nothing,"
    " and one for each domain that lets it write sets of type TXT"
)


@dataclass(frozen=True, slots=True)
class DeSEC:
    """Domains at deSEC."""

    credential: ClassVar[str] = _PERMISSION
    rate: ClassVar[str] = "15/1m"  # the hour and the day have limits of their own

    token: SecretReference = field(
        metadata={
            "description": "token",
            "example": '{ file = "/etc/certd/desec" }',
            "missing": "desec needs a token",
        }
    )
    url: str = field(default="https://desec.io/api/v1", metadata=ADDRESS)

    def zones(self) -> list[str]:
        found: list[str] = []
        page = "/domains/?cursor="
        with self._api() as api:
            while page:
                answer = api.get(page)
                found += [str(domain["name"]).lower() for domain in answer.json]
                page = _next(answer)
        return found

    def add_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            minimum = _minimum_ttl(api, record.zone)
            until_it_stays(api, partial(_add, api, record, minimum))

    def remove_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            _minimum_ttl(api, record.zone)  # or a zone of somebody else looks like an empty set
            until_it_stays(api, partial(_remove, api, record))

    def _api(self) -> API:
        return bearer("deSEC", self.url, self.token, _PERMISSION, scheme="Token")


def _minimum_ttl(api: API, zone: str) -> int:
    answer = api.get(f"/domains/{zone}/", accept={404})
    if answer.status == 404:
        raise api.unknown(zone)
    api.zone = zone  # the token is good, and has been: its policies are for each domain
    return int(answer.json["minimum_ttl"])


def _add(api: API, record: TxtRecord, minimum: int, *, write: bool) -> bool:
    present = _read(api, record)
    lacks = record.value not in map(unquoted, present["records"])
    if lacks and write:
        # Others' values keep their TTL, which is one for the whole set.
        ttl = max(present.get("ttl", record.ttl), minimum)
        _write(api, record, {"ttl": ttl, "records": [*present["records"], quoted(record.value)]})
    return lacks


def _remove(api: API, record: TxtRecord, *, write: bool) -> bool:
    texts = _read(api, record)["records"]
    kept = [text for text in texts if unquoted(text) != record.value]
    if kept != texts and write:
        _write(api, record, {"records": kept})
    return bool(kept != texts)


def _read(api: API, record: TxtRecord) -> dict[str, Any]:
    path = f"/domains/{record.zone}/rrsets/{record.label or '@'}/TXT/"
    answer = api.get(path, accept={404})
    if answer.status == 404:
        return {"records": []}
    return {"ttl": answer.json["ttl"], "records": list(answer.json["records"])}


def _write(api: API, record: TxtRecord, change: dict[str, Any]) -> None:
    # The bulk form: it makes a set, changes it, or deletes it where no record is left.
    body = [{"subname": record.label, "type": "TXT", **change}]
    api.call("PATCH", f"/domains/{record.zone}/rrsets/", body=body)


def _next(answer: Answer) -> str:
    for link in parse_header_links(answer.headers.get("Link", "")):
        if link.get("rel") == "next":
            return str(link["url"])
    return ""
