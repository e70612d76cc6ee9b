"""Porkbun.

The keys are made at https://porkbun.com/account/api, and "API access" is switched on for each
domain under its details. Porkbun has no narrower permission than the whole account: least is to
switch on only the domains that certd needs.

Everything is a POST of JSON with the keys in it. Records are single ones with a number; 600 s is
the shortest TTL. A failure is HTTP 400 with a sentence; where requests come too fast, it is 503,
202, or a record that "we were unable to create". Support speaks of a request each second; a change
is two.

Sources: https://porkbun.com/api/json/v3/documentation; for the limit
https://github.com/nrdcg/porkbun/issues/3 and https://github.com/DNSControl/dnscontrol/issues/3225
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import ProviderError, SecretReference, TxtRecord
from certd_providers.rest import API
from certd_providers.urls import ADDRESS

SHORTEST_TTL = 600  # seconds
TOO_FAST = "unable to create the DNS record"
WRONG_KEY = "invalid api key"
NO_ACCESS = "not opted in to api access"  # of this domain, which says nothing of others


@dataclass(frozen=True, slots=True)
class Porkbun:
    """Domains registered at Porkbun."""

    credential: ClassVar[str] = (
        "made at https://porkbun.com/account/api; switch on API access in the details of each "
        "domain that certd needs, and of no other"
    )
    rate: ClassVar[str] = "10/20s"

    api_key: SecretReference = field(
        metadata={"description": "API key (pk1_…)", "missing": "requests need both keys"}
    )
    secret_api_key: SecretReference = field(
        metadata={
            "description": "secret API key (sk1_…)",
            "missing": "requests need both keys",
        }
    )
    url: str = field(
        default="https://api.porkbun.com/api/json/v3",
        metadata=ADDRESS,
    )

    def zones(self) -> Collection[str]:
        found: set[str] = set()
        with self._calls() as calls:
            # 1,000 at a time: the end is where no more come.
            while page := calls.post("/domain/listAll", "domains", start=str(len(found))):
                before = len(found)
                found |= {str(one.get("domain")).lower() for one in page}
                if len(found) == before:
                    break
        return found

    def add_txt(self, record: TxtRecord) -> None:
        with self._calls() as calls:
            if not calls.same(record):
                calls.post(
                    f"/dns/create/{record.zone}",
                    name=record.label,
                    type="TXT",
                    content=record.value,
                    ttl=str(max(record.ttl, SHORTEST_TTL)),
                )

    def remove_txt(self, record: TxtRecord) -> None:
        with self._calls() as calls:
            for number in calls.same(record):
                calls.post(f"/dns/delete/{record.zone}/{number}")

    def _calls(self) -> _Calls:
        keys = {
            "apikey": self.api_key.fetch().reveal(),
            "secretapikey": self.secret_api_key.fetch().reveal(),
        }
        return _Calls(self.url, keys, f"correct the keys, or the access: {self.credential}")


class _Calls(API):
    """Requests with the keys, and what their sentences mean."""

    def __init__(self, url: str, keys: dict[str, str], permission: str) -> None:
        super().__init__("porkbun", url, permission=permission, secrets=keys.values())
        self._keys = keys

    def __enter__(self) -> _Calls:
        return self

    def post(self, path: str, part: str = "", **body: str) -> list[dict[str, Any]]:
        """The list of this name in the answer; an empty one where none is asked for."""
        answer = self.call("POST", path, body={**self._keys, **body}, accept=(400,))
        content = answer.json if isinstance(answer.json, dict) else {}
        said = str(content.get("message", ""))
        if answer.status == 202 or TOO_FAST in said:
            raise self.busy(f"HTTP {answer.status}: {said}; too many requests, perhaps")
        if WRONG_KEY in said.lower():
            raise self.denied(said)
        if NO_ACCESS in said.lower():
            raise ProviderError("porkbun refuses the domain", self._clean(said), Porkbun.credential)
        found = content.get(part) if part else []
        good = answer.status != 400 and content.get("status") == "SUCCESS"
        if not good or not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
            raise self.failure(answer)
        return found

    def same(self, record: TxtRecord) -> list[str]:
        """The numbers of the records with this name and value."""
        path = f"/dns/retrieveByNameType/{record.zone}/TXT/{record.label}"
        return [
            str(one.get("id"))
            for one in self.post(path.rstrip("/"), "records")
            if one.get("type") == "TXT"
            and str(one.get("name")).lower() == record.name
            and one.get("content") == record.value
        ]
