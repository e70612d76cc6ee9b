"""acme-dns: a name server for challenges only, to which ``_acme-challenge`` names are delegated.

Its account is one name. ``curl -X POST https://auth.example.org/register`` makes one, and answers
with a JSON object: kept in a file, it is what ``accounts`` is. Several are a list, or an object as
lego and acme-dns-client keep them, so that their files can be used as they are. The name in
``fulldomain`` is where a CNAME from ``_acme-challenge.www.example.com`` must lead.

A name has the two values that were written last; none can be removed, and none read. A second
value whose answer got lost is written twice then, and pushes the first one out: the wait for the
name servers shows that, and both are written again.

Least permission: an account can write its own name only; ``allowfrom`` in the registration limits
it to certd's address. Source: https://github.com/joohoi/acme-dns#api
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import ProviderError, SecretReference, TxtRecord
from certd_providers.rest import API, DENIED
from certd_providers.urls import check_url

_PARTS = ("username", "password", "subdomain", "fulldomain")


@dataclass(frozen=True, slots=True)
class AcmeDNS:
    """Names of an acme-dns server, to which ``_acme-challenge`` names lead by CNAME."""

    credential: ClassVar[str] = (
        "POST /register at the server makes an account; it can write its own name only, and "
        "where it was registered with allowfrom, only from there"
    )
    most_values: ClassVar[int] = 2
    removes: ClassVar[bool] = False

    url: str = field(
        metadata={
            "description": "address of the server's API",
            "check": check_url,
            "example": "https://auth.example.org",
            "missing": "acme-dns is a server of one's own",
        }
    )
    accounts: SecretReference = field(
        metadata={
            "description": "JSON: the answer of /register, or several in a list or an object",
            "example": '{ file = "/etc/certd/acme-dns.json" }',
            "missing": "each name has an account of its own",
        }
    )

    def names(self) -> Collection[str]:
        return self._accounts().keys()

    def zones(self) -> Collection[str]:
        return {name.partition(".")[2] for name in self._accounts()}

    def add_txt(self, record: TxtRecord) -> None:
        accounts = self._accounts()
        account = accounts.get(record.name)
        if account is None:
            why = f"accounts has no fulldomain {record.name}"
            todo = "register one, let the CNAME lead to it, and add it to accounts"
            raise ProviderError(f"acme-dns has no account for {record.name}", why, todo)
        user, password = account["username"], account["password"]
        with API(
            "acme-dns",
            self.url,
            headers={"X-Api-User": user, "X-Api-Key": password},
            permission="register the name anew, or from this machine's address where the account "
            "has an allowfrom, and put the answer into accounts",
            secrets=(user, password),
        ) as api:
            body = {"subdomain": account["subdomain"], "txt": record.value}
            # Each name has a credential of its own: refused, it says nothing of the others.
            answer = api.call("POST", "/update", body=body, accept=DENIED)
            if answer.status in DENIED:
                refused = api.failure(answer)
                if len(accounts) == 1:
                    raise refused
                what = f"acme-dns refuses the account of {record.name}"
                raise ProviderError(what, refused.why, refused.next)
            if not isinstance(answer.json, dict) or answer.json.get("txt") != record.value:
                raise api.failure(answer, "it does not confirm the value")

    def remove_txt(self, record: TxtRecord) -> None:
        """The server has no way to; the next two values take its place."""

    def _accounts(self) -> Mapping[str, Mapping[str, str]]:
        """By name. Whatever is wrong with them, the words of the JSON are in no error."""
        try:
            found = list(_each(json.loads(self.accounts.fetch().reveal())))
        except (ValueError, RecursionError):
            found = []
        if not found:
            parts = ", ".join(_PARTS)
            why = f"there is no JSON object with {parts}"
            todo = "put the answer of /register there"
            raise ProviderError(f"accounts {self.accounts} cannot be used", why, todo)
        return {account["fulldomain"].lower().rstrip("."): account for account in found}


def _each(content: Any) -> Iterator[Mapping[str, str]]:
    """The answers of /register in it, whether one, a list, or an object by domain."""
    if isinstance(content, dict):
        if all(isinstance(content.get(part), str) for part in _PARTS):
            yield content
            return
        content = list(content.values())
    if isinstance(content, list):
        for one in content:
            yield from _each(one)
