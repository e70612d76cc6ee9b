"""A name server that answers as a test says: over UDP and TCP, at one port, with any octets.

It serves one zone with one server, and the TXT records of a file: ``program`` writes there.
"""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from certd.testing.processes import Ports, Stopped

HOST = "127.0.0.1"
# Keeps a line "NAME VALUE" for each value, and rewrites them under a lock (provider exec).
PROGRAM = """#!/bin/sh
exec 9>"$1.lock"
flock 9
grep -Fvx -e "$3 $4" "$1" >"$1.new"
[ "$2" = add ] && printf '%s %s\\n' "$3" "$4" >>"$1.new"
mv "$1.new" "$1"
"""

Message = dns.message.Message
# The question, the honest answer to it, and whether it came by TCP: what is sent instead, which
# over TCP is to begin with its length; None: nothing, and a connection is closed.
Act = Callable[[Message, Message, bool], bytes | None]


def honest(question: Message, answer: Message, tcp: bool) -> bytes | None:
    return framed(answer.to_wire(max_size=65535), tcp)


def framed(wire: bytes, tcp: bool) -> bytes:
    return len(wire).to_bytes(2) + wire if tcp else wire


def says(code: dns.rcode.Rcode) -> Act:
    """An answer with this code, and nothing in it."""

    def act(question: Message, _: Message, tcp: bool) -> bytes:
        refusal = dns.message.make_response(question)
        refusal.set_rcode(code)
        return framed(refusal.to_wire(), tcp)

    return act


class NameStub(Stopped):
    """Honest, until ``acts`` has something for a name; ``asked`` are name, kind and whether TCP."""

    def __init__(self, zone: str, folder: Path, host: str = HOST, port: int | None = None) -> None:
        """``port``: of another one, at another address of this machine."""
        self.zone = zone
        self.host = host
        self.file = folder / "records"
        self.file.touch()
        self._program = folder / "txt"
        self._program.write_text(PROGRAM)
        self._program.chmod(0o755)
        self.honest()
        self.asked: list[tuple[str, str, bool]] = []
        self._ports = Ports()
        self.port = port or self._ports.take()
        self.dns = f"{host}:{self.port}"
        servers = (socketserver.ThreadingUDPServer, _Datagram), (_TCP, _Stream)
        self._servers = [_made(kind, handler, self) for kind, handler in servers]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,)) for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def honest(self) -> None:
        self.acts: dict[str, Act] = {}
        self.every: Act = honest  # for the names that are not in it
        self.kinds = {"TXT"}  # only questions for these

    @property
    def account(self) -> dict[str, Any]:
        """A [dns] table by which its records are written."""
        return {"provider": "exec", "argv": [str(self._program), str(self.file)], "settle": 0}

    def values(self, name: str) -> list[str]:
        lines = map(str.split, self.file.read_text().splitlines())
        return [value for owner, value in lines if owner == name]

    def reply(self, wire: bytes, tcp: bool) -> bytes | None:
        question = dns.message.from_wire(wire)
        name = question.question[0].name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.question[0].rdtype)
        self.asked.append((name, kind, tcp))
        act = self.acts.get(name, self.every) if kind in self.kinds else honest
        return act(question, self._answer(question, name, kind), tcp)

    def _answer(self, question: Message, name: str, kind: str) -> Message:
        answer = dns.message.make_response(question)
        if name != self.zone and not name.endswith(f".{self.zone}"):
            answer.set_rcode(dns.rcode.REFUSED)
            return answer
        answer.flags |= dns.flags.AA
        start = (self.zone, "SOA", [f"ns1.{self.zone}. nobody.{self.zone}. 1 1 1 1 0"])
        records = {
            start[:2]: start[2],
            (self.zone, "NS"): [f"ns1.{self.zone}."],
            (f"ns1.{self.zone}", "A"): [HOST],
            (name, "TXT"): [f'"{value}"' for value in self.values(name)],
        }
        if found := records.get((name, kind)):
            answer.answer.append(_set(name, kind, found))
        else:
            answer.authority.append(_set(*start))
        return answer

    def stop(self) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
        self._ports.close()


def _set(name: str, kind: str, texts: list[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(dns.name.from_text(name), 0, "IN", kind, texts)


def _made(kind: Any, handler: Any, stub: NameStub) -> Any:
    server = kind((stub.host, stub.port), handler)
    server.stub = stub
    return server


class _TCP(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Datagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, sock = self.request
        reply = self.server.stub.reply(wire, False)  # type: ignore[attr-defined]
        if reply is not None:
            sock.sendto(reply, self.client_address)


class _Stream(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            length = int.from_bytes(self.rfile.read(2))
            if not length:
                return
            reply = self.server.stub.reply(self.rfile.read(length), True)  # type: ignore[attr-defined]
            self.wfile.write(reply or b"")
