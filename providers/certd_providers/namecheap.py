"""Namecheap, with its own name servers ("BasicDNS").

The API key is made, and the IPv4 address that certd comes from is whitelisted, at
https://ap.www.namecheap.com/settings/tools/apiaccess/ (Namecheap asks for 20 domains, $50 on
balance or $50 spent for that). The key is that of the whole account: there is no narrower one.

The API knows no record: ``setHosts`` replaces the whole zone with what it is given, and mail with
it, if ``EmailType`` is not repeated. So the zone is read, and read once more right before it is
written: where somebody has changed it meanwhile, it begins anew. What the API could not write back
as it was (a type that it does not take, a record switched off, a dynamic address) is never
overwritten: the change is refused. SRV records are invisible in the API: a zone that has some must
not be used with it.

Sources: https://www.namecheap.com/support/api/methods/domains-dns/set-hosts/ and get-hosts/,
https://www.namecheap.com/support/api/global-parameters/ and error-codes/; for limits (20 requests
a minute, told by HTTP 405 or error 500000) https://github.com/namecheap/go-namecheap-sdk, for SRV
https://docs.dnscontrol.org/provider/namecheap
"""

from __future__ import annotations

import ipaddress
import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import ConfigError, ProviderError, SecretReference, TxtRecord, plain
from certd_providers.rest import API
from certd_providers.urls import check_url

SHORTEST_TTL, LONGEST_TTL = 60, 60000  # seconds
TYPES = {"A", "AAAA", "ALIAS", "CAA", "CNAME", "MX", "MXE", "NS", "TXT", "URL", "URL301", "FRAME"}
ATTRIBUTES = {  # of a host in an answer, and what setHosts calls them
    "Name": "HostName",
    "Type": "RecordType",
    "Address": "Address",
    "MXPref": "MXPref",
    "TTL": "TTL",
}
TRIES = 3  # readings of a zone that somebody else is writing
PASSING = {"1050900", "3031510", "3050900"}  # besides 4… and 5…: what is behind it failed
Host = Mapping[str, str]


def _check_address(address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        todo = "write the address that is whitelisted with the API key"
        raise ConfigError(f'"{address}" is no IPv4 address', "", todo) from None


def _setting(description: str, **more: Any) -> Mapping[str, Any]:
    return {"description": description, "missing": "the API asks for it", **more}


@dataclass(frozen=True, slots=True)
class Namecheap:
    """Domains at Namecheap that use its own name servers."""

    credential: ClassVar[str] = (
        "made at https://ap.www.namecheap.com/settings/tools/apiaccess/, where the IPv4 address "
        "that certd comes from must be whitelisted; the key is that of the whole account"
    )
    exclusive: ClassVar[str] = "zone"
    rate: ClassVar[str] = "6/1m"  # a change is three requests

    user: str = field(metadata=_setting("name of the account"))
    api_key: SecretReference = field(metadata=_setting("API key"))
    client_ip: str = field(
        metadata=_setting(
            "IPv4 address that certd comes from, as whitelisted",
            check=_check_address,
            example="192.0.2.1",
        )
    )
    url: str = field(
        default="https://api.namecheap.com/xml.response",
        metadata=_setting(
            "address of the API",
            check=check_url,
            example="https://api.sandbox.namecheap.com/xml.response",
        ),
    )

    def zones(self) -> Collection[str]:
        found: list[ElementTree.Element] = []
        with self._calls() as calls:
            # A page may be shorter than what was asked for: the end is where no more come.
            for page in itertools.count(1):
                answer = calls.command("domains.getList", Page=str(page), PageSize="100")
                domains = list(_inside(answer, "domain"))
                found += domains
                if not domains or len(found) >= _number(answer, "totalitems"):
                    break
        return {one.get("Name", "").lower() for one in found if one.get("IsOurDNS") != "false"}

    def add_txt(self, record: TxtRecord) -> None:
        ttl = str(min(max(record.ttl, SHORTEST_TTL), LONGEST_TTL))
        kind = {"HostName": record.label or "@", "RecordType": "TXT"}
        mine = {**kind, "Address": record.value, "TTL": ttl}

        def added(hosts: list[Host]) -> list[Host]:
            return hosts if any(_is(host, record) for host in hosts) else [*hosts, mine]

        with self._calls() as calls:
            calls.rewrite(record.zone, added)

    def remove_txt(self, record: TxtRecord) -> None:
        with self._calls() as calls:
            calls.rewrite(
                record.zone, lambda hosts: [host for host in hosts if not _is(host, record)]
            )

    def _calls(self) -> _Calls:
        key = self.api_key.fetch().reveal()
        who = {
            "ApiUser": self.user,
            "UserName": self.user,
            "ApiKey": key,
            "ClientIp": self.client_ip,
        }
        todo = f"correct user and api_key, and whitelist {self.client_ip}: {self.credential}"
        return _Calls(self.url, who, todo)


class _Calls(API):
    """Commands with the credential, and what the numbers of their errors mean."""

    def __init__(self, url: str, who: Mapping[str, str], permission: str) -> None:
        super().__init__("namecheap", url, permission=permission, secrets=(who["ApiKey"],))
        self._who = who

    def __enter__(self) -> _Calls:
        return self

    def command(self, name: str, **more: str) -> ElementTree.Element:
        form = {**self._who, "Command": f"namecheap.{name}", **more}
        # By POST: the key is in no address, and a zone has room in it.
        answer = self.call("POST", "", form=form, accept=(405,))
        if answer.status == 405:
            raise self.busy("HTTP 405: too many requests")
        content = _parsed(answer.raw)
        if content is None:
            raise self.failure(answer, "it is no XML of the API")
        for error in _inside(content, "error"):
            number = error.get("Number", "")
            said = f"{number}: {error.text or ''}"
            if number.startswith(("4", "5")) or number in PASSING:
                raise self.busy(said)
            if number.startswith("10"):  # those about who asks, from where
                raise self.denied(said)
            raise self.failure(answer, said)
        if content.get("Status") != "OK":
            raise self.failure(answer, "its status is not OK")
        return content

    def rewrite(self, domain: str, change: Callable[[list[Host]], list[Host]]) -> None:
        before = self._read(domain)
        for _ in range(TRIES):
            if change(before.hosts) == before.hosts:
                return
            now = self._read(domain)
            if now == before:
                self._write(domain, now.mail, change(now.hosts))
                return
            before = now
        raise self.busy(f"{domain} was changed by somebody else each time it was to be written")

    def _read(self, domain: str) -> _Zone:
        """Raises ProviderError where what is there could not be written back as it is."""
        answer = self.command("domains.dns.getHosts", **_divided(domain))
        results = list(_inside(answer, "domaindnsgethostsresult"))
        if not results:
            raise ProviderError("namecheap shows no zone", f"its answer for {domain} has none")
        [result] = results[:1]
        if result.get("IsUsingOurDNS") != "true":
            todo = "choose the provider that the name servers are of"
            raise ProviderError(f"{domain} has other name servers than Namecheap's", "", todo)
        hosts = list(_inside(result, "host"))
        wrong = [why for host in hosts for why in _lost(host)]
        if "EmailType" not in result.attrib:
            wrong.append("its mail settings, which it does not show")
        if wrong:
            why = f"the API would not keep {'; '.join(wrong[:3])}"
            todo = "delegate _acme-challenge to another provider by a CNAME, or change these"
            raise ProviderError(f"{domain} cannot be written", plain(why), todo)
        read = [
            {name: host.attrib[here] for here, name in ATTRIBUTES.items() if here in host.attrib}
            for host in hosts
        ]
        return _Zone(result.attrib["EmailType"], sorted(read, key=lambda host: [*host.items()]))

    def _write(self, domain: str, mail: str, hosts: list[Host]) -> None:
        numbered = {
            f"{name}{number}": value
            for number, host in enumerate(hosts, 1)
            for name, value in host.items()
        }
        form = {**_divided(domain), "EmailType": mail, **numbered}
        answer = self.command("domains.dns.setHosts", **form)
        done = [one.get("IsSuccess") for one in _inside(answer, "domaindnssethostsresult")]
        if done != ["true"]:
            raise ProviderError("namecheap refuses the change", f"setHosts of {domain} failed")


@dataclass(frozen=True)
class _Zone:
    mail: str
    hosts: list[Host]  # in an order of their own: the API's means nothing


def _is(host: Host, record: TxtRecord) -> bool:
    it = (host["HostName"].lower(), host["RecordType"], host["Address"])
    return it == (record.label or "@", "TXT", record.value)


def _lost(host: ElementTree.Element) -> Iterator[str]:
    """Why this host would not be the same again."""
    kind, name = host.get("Type", ""), host.get("Name", "")
    if kind not in TYPES or not name or "Address" not in host.attrib:
        yield f"the {kind} record {name}"
    elif host.get("IsActive", "true") != "true":
        yield f"that the {kind} record {name} is switched off"
    elif host.get("IsDDNSEnabled", "false") != "false":
        yield f"that the {kind} record {name} is dynamic"


def _divided(domain: str) -> dict[str, str]:
    sld, _, tld = domain.partition(".")
    return {"SLD": sld, "TLD": tld}


def _parsed(raw: bytes) -> ElementTree.Element | None:
    """Its size is bounded by now; a document type could name files, or grow."""
    if b"<!DOCTYPE" in raw.upper() or b"\0" in raw:  # the latter is UTF-16, to hide the former
        return None
    try:
        content = ElementTree.fromstring(raw)  # noqa: S314 - see above
    except ElementTree.ParseError:
        return None
    return content if _kind(content) == "apiresponse" else None


def _inside(element: ElementTree.Element, kind: str) -> Iterator[ElementTree.Element]:
    """The documentation and the API do not agree on capitals."""
    return (one for one in element.iter() if _kind(one) == kind)


def _number(element: ElementTree.Element, kind: str) -> int:
    found = [one.text or "" for one in _inside(element, kind)]
    return int(found[0]) if found and found[0].isdecimal() else 0


def _kind(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].lower()
