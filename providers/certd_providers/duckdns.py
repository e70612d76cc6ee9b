"""Duck DNS: one TXT value for a domain, which all names below it have too.

The token is shown at https://www.duckdns.org after signing in. It is that of the whole account:
there is no narrower permission, and no way to read what is there.

So ``example.duckdns.org`` and ``*.example.duckdns.org`` take turns, as do all names of one domain,
and removing a value takes away whichever is there. ``clear`` without ``txt`` would take away the
domain's addresses: both are always sent. The answer is OK or KO, without a reason.

Source: https://www.duckdns.org/spec.jsp
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from certd.api import ProviderError, SecretReference, TxtRecord
from certd_providers.rest import API
from certd_providers.urls import ADDRESS

ABOVE = ".duckdns.org"


@dataclass(frozen=True, slots=True)
class DuckDNS:
    """Domains below duckdns.org; each has room for one value at a time."""

    credential: ClassVar[str] = (
        "the token that https://www.duckdns.org shows after signing in; it is that of the account"
    )
    most_values: ClassVar[int] = 1
    exclusive: ClassVar[str] = "zone"

    token: SecretReference = field(
        metadata={"description": "token of the account", "missing": "each request needs it"}
    )
    url: str = field(default="https://www.duckdns.org", metadata=ADDRESS)

    def add_txt(self, record: TxtRecord) -> None:
        self._update(record)

    def remove_txt(self, record: TxtRecord) -> None:
        self._update(record, clear="true")

    def _update(self, record: TxtRecord, **more: str) -> None:
        domain = record.name.removesuffix(ABOVE).rpartition(".")[2]
        if not record.name.endswith(ABOVE):
            todo = f"choose another provider for {record.zone}"
            raise ProviderError(f"duckdns has no {record.name}", f"it is not below {ABOVE}", todo)
        token = self.token.fetch().reveal()
        with API(
            "duckdns",
            self.url,
            permission=f"correct the token, or make {domain} a domain of its account",
            secrets=(token,),
        ) as api:
            query = {"domains": domain, "token": token, "txt": record.value, **more}
            answer = api.get("/update", params=query)
            words = answer.text.split()
            if words[:1] == ["KO"]:
                why = f"KO: the token is wrong, or {domain} is not of its account"
                # Which of them is not said: so nothing is held against its other domains.
                raise api.denied(why, f"{domain}{ABOVE}")
            if words[:1] != ["OK"]:
                raise api.failure(answer)
