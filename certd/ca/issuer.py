"""What certd asks of a CA, whether it is an ACME server or our own."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from certd.ca.net import Reply
from certd.ca.resources import CAAuthorization, CAChallenge, CAOrder, Download
from certd.errors import CAError
from certd.model import Identifier
from certd.secrets import Secret


class Refused(CAError):
    """The CA does not revoke it, and would not if it was asked again."""


class NoRevocation(Refused):
    """It is a CA of our own, which revokes nothing: a key that is given up is all there is."""


class Issuer(Protocol):
    """``Client`` is one at an ACME server, ``LocalCA`` one that needs nobody.

    What a method means and raises is said at ``Client``.
    """

    name: str
    directory_url: str
    preferred_chain: str | None
    roots: Path | None

    @property
    def offers_renewal_info(self) -> bool: ...

    def caa_identities(self) -> tuple[str, ...] | None: ...

    def clock_ahead(self) -> timedelta: ...

    def profiles(self) -> tuple[str, ...]: ...

    def ask_directory_again(self) -> None: ...

    def new_order(
        self,
        identifiers: tuple[Identifier, ...],
        replaces: str | None,
        profile: str | None = None,
        not_after: datetime | None = None,
    ) -> CAOrder: ...

    def order(self, url: str) -> CAOrder: ...

    def authorization(self, url: str) -> CAAuthorization: ...

    def answer(self, challenge: CAChallenge) -> float | None: ...

    def finalize(self, order: CAOrder, csr_der: bytes) -> CAOrder: ...

    def download(self, url: str) -> Download: ...

    def revoke(self, leaf_der: bytes, reason: int, key_pem: Secret | None = None) -> None: ...

    def renewal_info(self, ari_id: str) -> Reply: ...

    def check_account(self) -> None: ...
