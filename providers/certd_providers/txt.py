"""TXT data as zone files have it (RFC 1035 section 5.1), for APIs that want or answer that."""

from __future__ import annotations

import dns.exception
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT

_LONGEST = 255  # bytes of one character-string


def rdata(value: str) -> dns.rdtypes.ANY.TXT.TXT:
    """From bytes, for in text a ; begins a comment; in as many strings as it needs."""
    data = value.encode()
    parts = [data[start : start + _LONGEST] for start in range(0, len(data), _LONGEST)]
    return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, parts or [b""])


def quoted(value: str) -> str:
    """``"…"``, or several of these with a space between where it is longer than one may be."""
    return rdata(value).to_text()


def unquoted(text: str) -> str:
    """The value as a resolver shows it; what has no quotes around it is that already."""
    if not text.startswith('"'):
        return text
    try:
        record = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, text)
    except (dns.exception.DNSException, ValueError):
        return text  # somebody else's, and odd: it equals none of ours
    return b"".join(getattr(record, "strings", ())).decode("utf-8", "replace")
