"""What the name servers of the tests have in common: their program, and questions to them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from certd.testing.processes import NotInstalled

PATIENCE = 2.0  # seconds for one question on loopback
SOON = 0.1  # of one that is starting, and asked again


def program(name: str, package: str) -> Path:
    """Debian keeps these where an ordinary user's PATH does not look.

    Raises:
        NotInstalled: it is not there.
    """
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    found = shutil.which(name, path=places)
    if found is None:
        raise NotInstalled(package, f"no {name} on PATH or in /usr/sbin", "install it")
    return Path(found)


def ask(server: str, name: str, kind: str, seconds: float = PATIENCE) -> dns.message.Message:
    """One question over UDP, then TCP if the answer was cut; ``server`` is ``host:port``.

    Raises:
        dns.exception.Timeout: no answer in this time.
    """
    host, port = server.rsplit(":", 1)
    query = dns.message.make_query(name, kind)
    return dns.query.udp_with_fallback(query, host, timeout=seconds, port=int(port))[0]


def txt(server: str, name: str, seconds: float = PATIENCE) -> list[str]:
    """The TXT values at a name as this server has them, sorted, each in one piece."""
    answer = ask(server, name, "TXT", seconds)
    return sorted(
        b"".join(record.strings).decode()
        for record_set in answer.answer
        if record_set.rdtype == dns.rdatatype.TXT
        for record in record_set
    )


def serves(server: str, zone: str) -> bool:
    """Whether it answers for this zone, with authority."""
    try:
        answer = ask(server, zone, "SOA", SOON)
    except dns.exception.DNSException:
        return False
    return answer.rcode() == dns.rcode.NOERROR and bool(answer.flags & dns.flags.AA)


def answers(server: str) -> bool:
    """Whether anything at all comes back."""
    try:
        ask(server, "health.invalid", "A", SOON)
    except dns.exception.DNSException:
        return False
    return True
