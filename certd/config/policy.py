"""PURE: names that a public CA refuses, known before it is asked.

What every one of them has to refuse (Baseline Requirements of the CA/Browser Forum, sections
4.2.2 and 7.1.2.7.12), and what Let's Encrypt refuses besides (its policy authority, and
letsencrypt.org/docs/profiles). A private CA certifies what it likes: nothing here is for it.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from certd.model import Identifier

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList


@dataclass(frozen=True, slots=True)
class NamePolicy:
    """What a public CA refuses beyond what all have to; None: no limit is known."""

    most_names: int | None = None  # in one certificate
    of_profile: Mapping[str, int] = field(default_factory=dict)  # the same, by profile
    most_labels: int | None = None
    ip_profile: str | None = None  # the only one with IP addresses
    no_redundancy: bool = False  # no name that a wildcard of the same order covers


LETS_ENCRYPT_NAMES = NamePolicy(100, {"tlsserver": 25, "shortlived": 25}, 10, "shortlived", True)
ANY_PUBLIC = NamePolicy()


@dataclass(frozen=True, slots=True)
class Objection:
    """``index`` is that of the name, None for all of them together."""

    index: int | None
    what: str
    why: str
    next: str


# By what a name ends in (RFC 6761, RFC 9476, RFC 7686, RFC 8375; ICANN reserved "internal").
_SPECIAL = {
    "alt": "is not of the DNS",
    "example": "is for documentation",
    "example.com": "is for documentation",
    "example.net": "is for documentation",
    "example.org": "is for documentation",
    "home.arpa": "is for networks at home",
    "in-addr.arpa": "is for the reverse lookup of addresses",
    "internal": "is for private networks",
    "invalid": "is never a name",
    "ip6.arpa": "is for the reverse lookup of addresses",
    "local": "is for multicast DNS",
    "localhost": "is this machine",
    "onion": "is of Tor, where no CA can look by the DNS",
    "test": "is for tests",
}

# The special-purpose address registries of IANA, whole, as no address in them may be certified;
# and multicast. Narrower blocks that lie in a wider one here are left out.
_RESERVED = {
    ipaddress.ip_network(block): why
    for why, blocks in {
        "private (RFC 1918)": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16",
        "private (RFC 4193)": "fc00::/7",
        "loopback": "127.0.0.0/8 ::1/128",
        "link-local": "169.254.0.0/16 fe80::/10",
        "shared by customers of a provider (RFC 6598)": "100.64.0.0/10",
        "for documentation": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
        "unspecified": "0.0.0.0/8 ::/128",
        "multicast": "224.0.0.0/4 ff00::/8",
        "for benchmarks (RFC 2544)": "198.18.0.0/15",
        "an IPv4 address within IPv6": "::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 2002::/16",
        "reserved by IANA": "192.0.0.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 "
        "192.175.48.0/24 240.0.0.0/4 100::/64 100:0:0:1::/64 2001::/23 2620:4f:8000::/48 5f00::/16",
    }.items()
    for block in blocks.split()
}

_ELSEWHERE = "correct it, or use a CA of your own for it"


def objections(
    identifiers: Sequence[Identifier], policy: NamePolicy, profile: str | None = None
) -> Iterator[Objection]:
    """What a CA with this policy would refuse to certify, and why."""
    most = policy.of_profile.get(profile or "", policy.most_names)
    if most is not None and len(identifiers) > most:
        why = f"at most {most} are allowed in one certificate"
        of = f" of the profile {profile}" if profile in policy.of_profile else ""
        yield Objection(None, f"{len(identifiers)} names", why + of, "make several certificates")
    names = {identifier.value for identifier in identifiers}
    for index, identifier in enumerate(identifiers):
        if identifier.type == "ip":
            objection = _of_address(identifier.value)
            if not objection and policy.ip_profile and profile != policy.ip_profile:
                why = f"only certificates of the profile {policy.ip_profile} have IP addresses"
                objection = why, f'add profile = "{policy.ip_profile}"'
        else:
            objection = _of_name(identifier.value, policy)
            wildcard = f"*.{identifier.value.partition('.')[2]}"
            if not objection and policy.no_redundancy and wildcard in names - {identifier.value}:
                objection = f"{wildcard} covers it", "leave it out"
        if objection:
            yield Objection(index, identifier.value, *objection)


def _of_address(text: str) -> tuple[str, str] | None:
    address = ipaddress.ip_address(text)
    for block, why in _RESERVED.items():
        if address in block:
            return f"the address is {why}, and not of the internet", _ELSEWHERE
    return None


def _of_name(value: str, policy: NamePolicy) -> tuple[str, str] | None:
    """Why, and what to do."""
    wildcard = value.startswith("*.")
    name = value.removeprefix("*.")
    labels = name.split(".")
    for count in (1, 2):
        special = ".".join(labels[-count:])
        if special in _SPECIAL:
            return f".{special} {_SPECIAL[special]}", _ELSEWHERE
    if len(labels) == 1 and not wildcard:
        return "it has no dot: no such name is of the internet", _ELSEWHERE
    if policy.most_labels and len(labels) + wildcard > policy.most_labels:
        return f"it has more than {policy.most_labels} labels", "use a shorter name"
    for label in labels:
        if objection := _of_label(label):
            return objection, "correct the name"
    suffix = _suffixes().publicsuffix(name)
    if suffix is None:
        return (
            f"there is no top-level domain .{labels[-1]}",
            f"{_ELSEWHERE}; if it is a new one, update the package publicsuffixlist",
        )
    if suffix == name:
        kind = "a wildcard of a public suffix" if wildcard else "a public suffix"
        return f"it is {kind}, below which others register names", "name a domain below it"
    return None


def _of_label(label: str) -> str:
    """What is wrong with its reserved form (RFC 5890 section 2.3.1); empty: nothing."""
    if label[2:4] != "--":
        return ""
    if not label.startswith("xn--"):
        return f"the label {label} has -- in third place, which is reserved"
    text = label[4:].encode("ascii").decode("punycode")
    if not unicodedata.is_normalized("NFC", text):
        return f"the label {label} is not in Unicode's normal form (NFC)"
    return ""


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    """Those of registries only: github.io can be certified."""
    from publicsuffixlist import PublicSuffixList  # it takes a while, and few need it

    return PublicSuffixList(accept_unknown=False, only_icann=True)
