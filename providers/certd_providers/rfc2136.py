"""Any name server that takes dynamic updates (RFC 2136) signed with a key (TSIG, RFC 8945).

The key is made by ``tsig-keygen certd`` (BIND) or ``keymgr -t certd`` (Knot), put into the
configuration of the zones' *primary*, and allowed what it needs and no more:

    BIND:   zone "example.com" { … update-policy { grant certd zonesub TXT; }; };
            or for one name: grant certd name _acme-challenge.www.example.com. TXT;
    Knot:   acl: [{ id: certd, key: certd, action: update, update-type: TXT }], and the zone's acl

https://bind9.readthedocs.io/en/stable/reference.html#dynamic-update-policies
https://www.knot-dns.cz/docs/latest/html/configuration.html#dynamic-updates
An update gives the whole record set its TTL, so that of the others' values is asked for first: by a
query with the same key. Where the server answers none, the set gets that of the table.

Windows DNS, whose secure updates are signed by Kerberos (GSS-TSIG), is another matter.
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
from dns.rdtypes.txtbase import TXTBase

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    SecretReference,
    TxtRecord,
)
from certd_providers.txt import rdata

# Not HMAC-MD5 and HMAC-SHA1: RFC 8945 section 6 advises against them.
ALGORITHMS = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
_ALLOW = (
    "a TSIG key: tsig-keygen makes one. At the primary of the zone, BIND: update-policy { grant"
    " KEY zonesub TXT; }; Knot: an acl with key, action: update and update-type: TXT"
)
_COMPARE = "compare key, secret and algorithm with the server's configuration"
# What a server says, what it means here, and what to do.
_MEANING: Mapping[str, tuple[type[ProviderError], str, str]] = {
    "": (ProviderBusy, "", "see whether it takes TCP from here; it is tried again by itself"),
    "SERVFAIL": (ProviderBusy, "it failed", "it is tried again by itself; its log says why"),
    # Not ProviderDenied: the key is good, and may well be allowed to write the other names.
    "REFUSED": (ProviderError, "the key {key} may not change it, or this is no primary", _ALLOW),
    "BADKEY": (
        ProviderDenied,
        "it has no key {key} of this algorithm, or (Knot) allows it no such update",
        f"{_COMPARE}; {_ALLOW}",
    ),
    "BADSIG": (ProviderDenied, "its secret of the key {key} is another one", _COMPARE),
    "BADTIME": (ProviderError, "its clock and this machine's differ", "set both clocks"),
    "NOTAUTH": (ProviderError, "it is no primary of the zone {zone}", "correct server"),
    "NOTZONE": (ProviderError, "the name is not in the zone {zone}", "correct its delegation"),
    "NOTIMP": (ProviderError, "it takes no updates", "allow them in its configuration"),
    "YXRRSET": (
        ProviderError,
        "there is an alias (CNAME) at this name, which has nothing beside it",
        "remove it, or let it lead to a name where certd may write",
    ),
}
_SIGNATURE: Mapping[type[Exception], str] = {
    dns.tsig.PeerBadKey: "BADKEY",
    dns.tsig.PeerBadSignature: "BADSIG",
    dns.tsig.PeerBadTime: "BADTIME",
}
CONNECT, ANSWER = 10.0, 30.0  # seconds
_SERVER = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]+))(?::(?P<port>\d{1,5}))?")


def _address(server: str) -> tuple[str, int] | None:
    found = _SERVER.fullmatch(server)
    port = int(found["port"] or 53) if found else 0
    return (found["v6"] or found["host"], port) if found and 0 < port < 65536 else None


def _check_server(server: str) -> None:
    if _address(server) is None:
        what, todo = f'"{server}" is no host and port', 'write "ns1.example.com:53", say'
        raise ConfigError(what, "an IPv6 address stands in brackets", todo)


def _check_key(key: str) -> None:
    try:
        dns.name.from_text(key)
    except dns.exception.DNSException:
        raise ConfigError(f'"{key}" is no name of a key', "", "write the server's name") from None


def _check_algorithm(algorithm: str) -> None:
    if algorithm not in ALGORITHMS:
        todo = f"write one of {', '.join(ALGORITHMS)}, as the server has it for this key"
        raise ConfigError(f'"{algorithm}" is no algorithm for the key', "", todo)


@dataclass(frozen=True, slots=True)
class RFC2136:
    """Dynamic updates (RFC 2136) of BIND, Knot, PowerDNS, NSD's primary … signed with TSIG."""

    credential: ClassVar[str] = _ALLOW

    server: str = field(
        metadata={
            "check": _check_server,
            "description": "the zones' primary name server, which takes the updates; port 53"
            " unless given",
            "example": "ns1.example.com:53",
            "missing": "updates go to the primary name server of the zones",
        }
    )
    key: str = field(
        metadata={
            "check": _check_key,
            "description": "name of the TSIG key",
            "example": "certd",
            "missing": "updates are signed, and the server knows the key by its name",
        }
    )
    secret: SecretReference = field(
        metadata={
            "description": "the key itself, in base64 as the server's configuration has it",
            "missing": "updates are signed with it",
        }
    )
    algorithm: str = field(
        default="hmac-sha256",
        metadata={"check": _check_algorithm, "description": f"one of {', '.join(ALGORITHMS)}"},
    )

    def add_txt(self, record: TxtRecord) -> None:
        update = self._update(record)
        # A server keeps silent where it has an alias and drops the record: section 3.4.2.2.
        update.absent(_absolute(record.name), dns.rdatatype.CNAME)
        ttl = self._ttl_of_others(record)
        update.add(_absolute(record.name), record.ttl if ttl is None else ttl, rdata(record.value))
        self._send(update, record)

    def remove_txt(self, record: TxtRecord) -> None:
        update = self._update(record)
        update.delete(_absolute(record.name), rdata(record.value))
        self._send(update, record)

    def _ttl_of_others(self, record: TxtRecord) -> int | None:
        """That of the set, where it has values besides this one."""
        name = _absolute(record.name)
        query = dns.message.make_query(name, dns.rdatatype.TXT, flags=0)
        query.use_tsig(self._key())
        answer = self._asked(query, record)
        # What is not from the zone itself has a TTL that is running out.
        if answer.errors or not answer.had_tsig or not answer.flags & dns.flags.AA:
            return None  # if the key is wrong, the update says so
        for found in answer.answer:
            texts = [b"".join(one.strings) for one in found if isinstance(one, TXTBase)]
            if found.name == name and set(texts) - {record.value.encode()}:
                return int(found.ttl)
        return None

    def _update(self, record: TxtRecord) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(_absolute(record.zone), keyring=self._key())

    def _key(self) -> dns.tsig.Key:
        try:
            raw = base64.b64decode("".join(self.secret.fetch().reveal().split()), validate=True)
        except ValueError:  # its text would hold what was read
            todo = "put only the base64 text there, as the server's configuration has it"
            raise ProviderError(f"the secret {self.secret} is no base64", "", todo) from None
        return dns.tsig.Key(self.key, raw, self.algorithm)

    def _asked(self, message: dns.message.Message, record: TxtRecord) -> dns.message.Message:
        try:
            return _exchange(_address(self.server) or ("", 0), message)
        except (OSError, dns.exception.DNSException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise self._refused("", record, f"no answer that can be used ({why})") from None

    def _send(self, update: dns.update.UpdateMessage, record: TxtRecord) -> None:
        answer = self._asked(update, record)
        for found in answer.errors:
            if isinstance(found.exception, dns.tsig.PeerError):
                kind = type(found.exception)
                raise self._refused(_SIGNATURE.get(kind, kind.__name__), record)
        # A refusal counts without a signature: who does not have the zone gives none.
        if answer.rcode() != dns.rcode.NOERROR:
            raise self._refused(dns.rcode.to_text(answer.rcode()), record)
        if answer.errors or not answer.had_tsig or answer.id != update.id:
            raise self._refused("", record, "the answer is not signed: anybody may have sent it")

    def _refused(self, said: str, record: TxtRecord, why: str = "") -> ProviderError:
        kind, means, todo = _MEANING.get(said, (ProviderError, "", "its log says more"))
        why = why or f"{said}: {means}".rstrip(": ")
        why = why.format(key=self.key, zone=record.zone)
        return kind(f"{self.server} did not take the update of {record.name}", why, todo)


def _exchange(server: tuple[str, int], message: dns.message.Message) -> dns.message.Message:
    """One message over TCP, which proves the address that some servers ask for besides."""
    with socket.create_connection(server, CONNECT) as connection:
        connection.settimeout(ANSWER)
        connection.sendall(message.to_wire(prepend_length=True))
        with connection.makefile("rb") as stream:
            wire = stream.read(int.from_bytes(stream.read(2)))
    return dns.message.from_wire(
        wire, keyring=message.keyring, request_mac=message.mac, continue_on_error=True
    )


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name, dns.name.root)
