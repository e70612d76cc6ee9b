"""BIND as a primary and its secondary: real zones, changed by RFC 2136 and transferred."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rdatatype
import dns.rrset

from certd.testing.nameserver import PATIENCE, answers, ask, program, serves, txt
from certd.testing.processes import Child, ComponentError, Ports, Stopped
from certd.testing.relay import Relay

HOST = "127.0.0.1"  # where both listen: they know no address that no interface has
SECONDARY = "127.0.0.2"  # where the world finds the secondary, at the primary's port
STRANGER = "stranger"  # a key that the servers know and that may change strange zones only

_OPTIONS = """\
key "{key}" {{ algorithm {algorithm}; secret "{secret}"; }};
key "{stranger}" {{ algorithm {algorithm}; secret "{secret}"; }};
options {{
    directory "{folder}";
    pid-file "named.pid";
    session-keyfile none;
    listen-on port {port} {{ {host}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    notify-delay 0;
    # At its own 20/s the second of two notifications is half a second late.
    notify-rate 1000;
    startup-notify-rate 1000;
    serial-query-rate 1000;
    # A zone of a test is small, and its whole history is wanted.
    max-ixfr-ratio unlimited;
    empty-zones-enable no;
}};
controls {{ }};
"""

_PRIMARY_ZONE = """\
zone "{zone}" {{
    type primary;
    file "{zone}.zone";
    update-policy {{ grant {writer} zonesub TXT; }};
    allow-transfer {{ {host}; }};
    notify {notify};
    also-notify {{ {host} port {backend}; }};
}};
"""

_SECONDARY_ZONE = """\
zone "{zone}" {{
    type secondary;
    file "{zone}.zone";
    primaries {{ {host} port {primary}; }};
    notify no;
}};
"""

# Nothing may be kept by a resolver, and nothing but a notification moves the secondary.
_HEAD = """\
$TTL 0
@ SOA ns1 hostmaster 1 86400 86400 604800 0
@ NS ns1
@ NS ns2
ns1 A {host}
ns2 A {secondary}
"""


class Changed(NamedTuple):
    """A record that was added (``+``) or removed (``-``)."""

    sign: str
    name: str
    ttl: int
    kind: str
    value: str


class Bind(Stopped):
    """Zones on a primary at 127.0.0.1 and a secondary at 127.0.0.2, both at ``port``.

    ``zones`` has for each zone the lines of its zone file beyond SOA, NS (ns1 and ns2 in the
    zone itself) and their addresses: ``{"example.test": ["www A 127.0.0.1",
    "_acme-challenge.www CNAME www.keys.test.", "sub NS ns1.sub", "ns1.sub A 127.0.0.1"]}``.
    The key ``key`` may change TXT records anywhere in them, and nothing else; in the zones in
    ``strange`` the key ``STRANGER``, with the same secret, may in its place.

    ``notify`` False: the secondary learns of a change by ``transfer()`` only. The zones in
    ``lame`` name the secondary, which knows nothing of them and refuses.

    Raises:
        NotInstalled: there is no BIND.
        ComponentError: one of them did not start, or refuses its zones.
    """

    key = "certd-update"

    def __init__(
        self,
        zones: Mapping[str, Sequence[str]],
        folder: Path | None = None,
        *,
        notify: bool = True,
        lame: Collection[str] = (),
        strange: Collection[str] = (),
        algorithm: str = "hmac-sha256",
    ) -> None:
        self._binary = program("named", "bind9")
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="certd-bind-"))
        self._ports = Ports()
        self.port, self._backend = self._ports.take(), self._ports.take()
        self.primary = f"{HOST}:{self.port}"
        self.secondary = f"{SECONDARY}:{self.port}"
        self.zones = tuple(zones)
        self.algorithm = algorithm
        self.secret = base64.b64encode(secrets.token_bytes(32)).decode()
        self._lame = frozenset(lame)
        self._strange = frozenset(strange)
        self._children: list[Child] = []
        self._write(zones, notify)
        self._relay = Relay(SECONDARY, self.port, self._backend)
        try:
            self._start("primary", self.port, self.zones)
            followed = [zone for zone in zones if zone not in self._lame]
            self._start("secondary", self._backend, followed)
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        for child in self._children:
            child.send(signal.SIGCONT)  # or one that was stopped would not hear the end
            child.stop()
        self._relay.stop()
        self._ports.close()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def values(self, name: str) -> list[str]:
        """The TXT values that the primary has at this name."""
        return txt(self.primary, name)

    def values_of_secondary(self, name: str) -> list[str]:
        return txt(self.secondary, name)

    def serial(self, zone: str) -> int:
        """Of the zone as the primary has it: the place in its history."""
        return int(ask(self.primary, zone, "SOA").answer[0][0].serial)

    def history(self, zone: str, since: int = 1) -> list[Changed]:
        """What has been added and removed since this serial, in order (IXFR, RFC 1995)."""
        found: list[Changed] = []
        if self.serial(zone) == since:
            return found
        starts = 0  # of parts: what is removed and what is added take turns
        for record in _transferred(HOST, self.port, zone, since)[1:-1]:
            if record.rdtype == dns.rdatatype.SOA:
                starts += 1
                continue
            if not starts:
                raise ComponentError(f"BIND has no history of {zone}", "it sent the whole zone")
            found.append(
                Changed(
                    "-" if starts % 2 else "+",
                    record.name.to_text(omit_final_dot=True),
                    record.ttl,
                    dns.rdatatype.to_text(record.rdtype),
                    record[0].to_text().strip('"'),
                )
            )
        return found

    def pause_secondary(self) -> None:
        """It answers nothing, but its port stays open, until ``resume_secondary()``."""
        self._children[1].send(signal.SIGSTOP)
        # All of its threads: one would go on answering for a moment.
        os.waitid(os.P_PID, self._children[1].pid, os.WSTOPPED | os.WNOWAIT)

    def resume_secondary(self) -> None:
        self._children[1].send(signal.SIGCONT)

    def kill_secondary(self) -> None:
        """Nothing is at its address any more."""
        self._relay.stop()
        self._children[1].kill()

    def transfer(self, zone: str) -> None:
        """Tell the secondary that the zone has changed, as the primary does unless told not to."""
        notification = dns.message.make_query(zone, "SOA", flags=dns.flags.AA)
        notification.set_opcode(dns.opcode.NOTIFY)
        dns.query.udp(notification, HOST, PATIENCE, self._backend)

    def _write(self, zones: Mapping[str, Sequence[str]], notify: bool) -> None:
        for role, port in (("primary", self.port), ("secondary", self._backend)):
            folder = self.folder / role
            folder.mkdir()
            facts = {
                "algorithm": self.algorithm,
                "backend": self._backend,
                "folder": folder,
                "host": HOST,
                "key": self.key,
                "notify": "explicit" if notify else "no",
                "port": port,
                "primary": self.port,
                "secondary": SECONDARY,
                "secret": self.secret,
                "stranger": STRANGER,
            }
            parts = [_OPTIONS.format(**facts)]
            for zone, lines in zones.items():
                if role == "primary":
                    text = _HEAD.format(**facts) + "\n".join(lines) + "\n"
                    (folder / f"{zone}.zone").write_text(text)
                    writer = STRANGER if zone in self._strange else self.key
                    parts.append(_PRIMARY_ZONE.format(zone=zone, writer=writer, **facts))
                elif zone not in self._lame:
                    parts.append(_SECONDARY_ZONE.format(zone=zone, **facts))
            (folder / "named.conf").write_text("".join(parts))

    def _start(self, role: str, port: int, zones: Collection[str]) -> None:
        folder, server = self.folder / role, f"{HOST}:{port}"
        argv: list[str | Path] = [self._binary, "-4", "-g", "-n", "1", "-c", folder / "named.conf"]
        child = Child(argv, folder / "named.log")
        self._children.append(child)
        child.wait_until(lambda: answers(server) and all(serves(server, zone) for zone in zones))


def _transferred(host: str, port: int, zone: str, since: int) -> list[dns.rrset.RRset]:
    """The records of an incremental transfer, one by one."""
    query = dns.message.make_query(zone, "IXFR")
    known = dns.rrset.from_text(f"{zone}.", 0, "IN", "SOA", f". . {since} 0 0 0 0")
    query.authority.append(known)
    records: list[dns.rrset.RRset] = []
    with socket.create_connection((host, port), PATIENCE) as connection:
        connection.sendall(query.to_wire(prepend_length=True))
        with connection.makefile("rb") as stream:
            while not _whole(records):
                wire = stream.read(int.from_bytes(stream.read(2)))
                records += dns.message.from_wire(wire, xfr=True, one_rr_per_rrset=True).answer
    return records


def _whole(records: Sequence[dns.rrset.RRset]) -> bool:
    """The new SOA is first and last, and once more before what was added last (RFC 1995)."""
    if len(records) < 2:
        return False
    changes = records[1].rdtype == dns.rdatatype.SOA
    return records.count(records[0]) == (3 if changes else 2)
