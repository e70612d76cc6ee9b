"""Gandi LiveDNS, version 5: record sets, written whole.

The credential is a personal access token: admin.gandi.net, the organization, Sharing, Personal
Access Token. Least permission: "See and renew domain names" and "Manage domain name technical
configurations", for the domains that certd writes to.

Behaviour: https://api.gandi.net/docs/livedns/ and https://api.gandi.net/docs/authentication/.
TXT values are quoted; a TTL is at least 300 s; a name without such a set and a domain that
LiveDNS does not have are both 404; an empty set is refused, so the last value is a DELETE. No write
can have a condition.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from certd.api import SecretReference, TxtRecord
from certd_providers.rest import API, bearer
from certd_providers.sets import until_it_stays
from certd_providers.txt import quoted, unquoted
from certd_providers.urls import ADDRESS

MINIMUM_TTL = 300  # seconds
PAGE = 100  # domains
_PERMISSION = (
    "make a personal access token at admin.gandi.net (the organization, Sharing) that may"
    " see and renew these domain names, and manage their technical configurations"
)


@dataclass(frozen=True, slots=True)
class Gandi:
    """Zones at Gandi's LiveDNS."""

    credential: ClassVar[str] = _PERMISSION
    rate: ClassVar[str] = "250/1m"  # 1,000 requests, of which a change makes up to four

    token: SecretReference = field(
        metadata={
            "description": "personal access token",
            "example": '{ file = "/etc/certd/gandi" }',
            "missing": "gandi needs a personal access token",
        }
    )
    url: str = field(default="https://api.gandi.net/v5/livedns", metadata=ADDRESS)

    def zones(self) -> list[str]:
        found: list[str] = []
        with self._api() as api:
            for page in itertools.count(1):
                answer = api.get("/domains", params={"page": page, "per_page": PAGE})
                found += [str(domain["fqdn"]).lower() for domain in answer.json]
                most = answer.headers.get("Total-Count", "")
                if not answer.json or not most.isdigit() or len(found) >= int(most):
                    break
        return found

    def add_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            until_it_stays(api, partial(self._add, api, record))

    def remove_txt(self, record: TxtRecord) -> None:
        with self._api() as api:
            until_it_stays(api, partial(self._remove, api, record))

    def _add(self, api: API, record: TxtRecord, *, write: bool) -> bool:
        values, ttl = self._read(api, record)
        lacks = record.value not in map(unquoted, values)
        if lacks and write:
            # Others' values keep their TTL: it is one for the whole set.
            ttl = ttl or max(record.ttl, MINIMUM_TTL)
            self._write(api, record, [*values, quoted(record.value)], ttl)
        return lacks

    def _remove(self, api: API, record: TxtRecord, *, write: bool) -> bool:
        values, ttl = self._read(api, record)
        kept = [value for value in values if unquoted(value) != record.value]
        if kept and kept != values and write:
            self._write(api, record, kept, ttl)
        elif values and not kept and write:
            api.call("DELETE", _path(record), accept={404})
        return kept != values

    def _read(self, api: API, record: TxtRecord) -> tuple[list[str], int]:
        """The values as they stand there, and their TTL; 0 where there are none."""
        answer = api.get(_path(record), accept={404})
        if answer.status != 404:
            return list(answer.json["rrset_values"]), int(answer.json["rrset_ttl"])
        if api.get(f"/domains/{record.zone}", accept={404}).status == 404:
            raise api.unknown(record.zone)
        return [], 0

    def _write(self, api: API, record: TxtRecord, values: list[str], ttl: int) -> None:
        api.call("PUT", _path(record), body={"rrset_ttl": ttl, "rrset_values": values})

    def _api(self) -> API:
        return bearer("Gandi", self.url, self.token, _PERMISSION)


def _path(record: TxtRecord) -> str:
    return f"/domains/{record.zone}/records/{record.label or '@'}/TXT"
