"""PURE: whoever asks port 80 for anything but a challenge, sent to the same place over https.

Only what is certain to be a request of a browser's kind is answered. Its own words come
back to it in a header, so each is checked: whatever is odd gets the constant 404.
"""

from __future__ import annotations

import ipaddress
import re

from certd.challenges.wellknown import END_OF_HEAD, NOT_FOUND, PREFIX

# The characters of a URI (RFC 3986) and those that browsers send unescaped. In origin form
# only: the host comes from one place, and is in front of whatever the path begins with.
_REQUEST = re.compile(rb"(?:GET|HEAD) (/[!$-;=?-\[\]-~]*) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")

_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# The port is that of plain http, and is left out.
_HOST = re.compile(rb"(%b(?:\.%b)*\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?" % (_LABEL, _LABEL))
_LONGEST_NAME = 254  # characters, with the root's dot


def to_https(received: bytes) -> bytes:
    """The answer to a whole request that is for no token: a redirect, or the constant 404.

    Below the folder of challenges it is always the 404: a CA that asks for an unknown
    token must not be sent elsewhere.
    """
    request, *fields = received.partition(END_OF_HEAD)[0].split(b"\r\n")
    asked = _REQUEST.fullmatch(request)
    if asked is None or asked[1].startswith(PREFIX.encode()):
        return NOT_FOUND
    hosts = []
    for field in fields:
        named = _FIELD.fullmatch(field)
        if named is None:
            return NOT_FOUND
        if named[1].lower() == b"host":
            hosts.append(named[2].rstrip(b" \t"))
    # Two would be one for us and another for a cache in front of us.
    if len(hosts) != 1 or (host := _host(hosts[0])) is None:
        return NOT_FOUND
    return (
        b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://%b%b\r\n"
        b"Content-Length: 0\r\nConnection: close\r\n\r\n" % (host, asked[1])
    )


def _host(text: bytes) -> bytes | None:
    """A name or an address, as it may stand in a URL."""
    found = _HOST.fullmatch(text)
    if found is None or len(found[1]) > _LONGEST_NAME:
        return None
    host = found[1]
    last = host.rstrip(b".").rpartition(b".")[2]
    try:
        if host.startswith(b"["):
            ipaddress.IPv6Address(host[1:-1].decode())
        elif last.isdigit() or last[:2].lower() == b"0x":
            # Browsers take what ends in a number for an address, in more forms than one.
            ipaddress.IPv4Address(host.decode())
    except ValueError:
        return None
    return host
