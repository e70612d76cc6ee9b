"""The pins of a certificate's keys, and the records that publish them in DNS (DANE).

PURE. Sources: RFC 7469 section 2.4 (pin-sha256), RFC 6698 sections 2 and 3 (TLSA), RFC 7671
sections 5.1 (3 1 1: this very key, whoever has signed it), 5.2 (2 1 1) and 8.1 (the next key's
record is there before the key is used).
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from certd.model import Identifier

HTTPS = 443


@dataclass(frozen=True, slots=True)
class Pin:
    """SHA-256 of a SubjectPublicKeyInfo, in base64, and whose key that is."""

    spki_sha256: str
    whose: str

    @property
    def digest(self) -> str:
        return base64.b64decode(self.spki_sha256).hex()


def zone_lines(
    identifiers: Collection[Identifier],
    ports: Collection[int],
    keys: Collection[Pin],
    issuer: Pin | None,
) -> Iterator[str]:
    """Lines of a zone file (RFC 1035 section 5.1); what is no record is a comment."""
    width = max(len(pin.whose) for pin in (*keys, *filter(None, [issuer])))
    for pin in (*keys, *filter(None, [issuer])):
        yield f'; {pin.whose:<{width}}  pin-sha256="{pin.spki_sha256}"'
    for identifier in identifiers:
        if identifier.type != "dns":
            yield f"; {identifier}: an address has no TLSA record"
        elif identifier.value.startswith("*."):
            yield f"; {identifier}: a record for each host that serves it, as in"
            example = identifier.value.replace("*", "host", 1)
            yield from (f"; {record}" for record in _records(example, ports, keys))
        else:
            yield from _records(identifier.value, ports, keys)
    if issuer is not None:
        yield "; in place of these, for whatever key this CA certifies (until it takes another):"
        named = [one.value for one in identifiers if one.type == "dns" and "*" not in one.value]
        for name in named:
            yield from (f"; _{port}._tcp.{name}. IN TLSA 2 1 1 {issuer.digest}" for port in ports)


def _records(name: str, ports: Collection[int], keys: Collection[Pin]) -> Iterator[str]:
    for port in ports:
        for pin in keys:
            yield f"_{port}._tcp.{name}. IN TLSA 3 1 1 {pin.digest}"
