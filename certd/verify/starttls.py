"""How a connection in the clear is asked to go on in TLS: SMTP, IMAP, POP3, LDAP, PostgreSQL.

Sources: RFC 3207 and RFC 5321 (SMTP), RFC 3501 section 6.2.1 and RFC 2595 (IMAP, POP3),
RFC 4511 sections 4.12 and 4.14 (LDAP), PostgreSQL's documentation, "Message Flow",
section "SSL Session Encryption".
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from certd.errors import plain
from certd.verify.talking import Refusal, Talk

_MOST_LINES = 100  # of one answer
_MOST_LDAP = 4096  # bytes of one message
_CONFIGURE = "switch TLS on in the server's configuration, or correct starttls"
_SAID = 200  # characters of the server's own words

_START_TLS = b"1.3.6.1.4.1.1466.20037"
_POSTGRES_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)  # length, and the code of SSLRequest


def start(protocol: str, connection: socket.socket, deadline: float) -> None:
    """Bring the connection to where the TLS handshake begins.

    Raises:
        Refusal: the server will not, or is not what it was taken for.
        OSError: the connection failed, or the time is over.
    """
    talk = Talk(connection, deadline)
    if protocol == "smtp":
        _smtp(talk, _own_address(connection))
    else:
        _PROTOCOLS[protocol](talk)
    talk.end()


def _own_address(connection: socket.socket) -> str:
    """As a client without a name of its own introduces itself (RFC 5321 section 4.1.3)."""
    address = str(connection.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _smtp(talk: Talk, name: str) -> None:
    _smtp_answer(talk, "220", "its greeting")
    talk.send(f"EHLO {name}\r\n".encode())
    offered = [line.partition(" ")[0].upper() for line in _smtp_answer(talk, "250", "EHLO")[1:]]
    if "STARTTLS" not in offered:
        raise Refusal("the SMTP server does not offer STARTTLS", _CONFIGURE)
    talk.send(b"STARTTLS\r\n")
    _smtp_answer(talk, "220", "STARTTLS")


def _smtp_answer(talk: Talk, wanted: str, asked: str) -> list[str]:
    """The words of all lines of an answer with this code."""
    words = []
    for _ in range(_MOST_LINES):
        line = talk.line()
        code, mark = line[:3], line[3:4]
        if not (code.isascii() and code.isdigit() and mark in ("", " ", "-")):
            raise _other("an SMTP server", line)
        if code != wanted:
            # 4yz: "try again later" (RFC 5321 section 4.2.1), whatever was asked.
            raise _refused(asked, line, passing=code.startswith("4"))
        words.append(line[4:])
        if mark != "-":
            return words
    raise Refusal(f"its answer to {asked} does not end")


def _imap(talk: Talk) -> None:
    greeting = talk.line()
    words = greeting.upper().split()
    if words[:2] == ["*", "BYE"]:
        raise _refused("its greeting", greeting, passing=True)
    if words[:2] != ["*", "OK"]:  # PREAUTH: too late for STARTTLS (RFC 9051 section 7.1.4)
        raise _other("an IMAP server", greeting)
    talk.send(b"a1 STARTTLS\r\n")
    for _ in range(_MOST_LINES):
        line = talk.line()
        words = line.upper().split()
        if words[:2] == ["A1", "OK"]:
            return
        if words[:1] == ["A1"]:
            raise _refused("STARTTLS", line)
        if words[:1] != ["*"]:
            raise _other("an IMAP server", line)
    raise Refusal("its answer to STARTTLS does not end")


def _pop3(talk: Talk) -> None:
    if not (line := talk.line()).upper().startswith("+OK"):
        raise _other("a POP3 server", line)
    talk.send(b"STLS\r\n")
    line = talk.line()
    if line.upper().startswith("-ERR"):
        raise _refused("STLS", line)
    if not line.upper().startswith("+OK"):
        raise _other("a POP3 server", line)


def _ldap(talk: Talk) -> None:
    name = b"\x80" + bytes([len(_START_TLS)]) + _START_TLS
    request = b"\x02\x01\x01" + b"\x77" + bytes([len(name)]) + name
    talk.send(b"\x30" + bytes([len(request)]) + request)
    tag, length = talk.octets(2)
    if tag != 0x30:
        raise _other("an LDAP server", f"an octet {tag:#04x}")
    if length & 0x80:
        if not 1 <= length & 0x7F <= 4:
            raise Refusal("its LDAP message has no length that could be read")
        length = int.from_bytes(talk.octets(length & 0x7F))
    if length > _MOST_LDAP:
        raise Refusal(f"its LDAP message is longer than {_MOST_LDAP:,} bytes")
    code = _ldap_result(talk.octets(length))
    if code:
        raise Refusal(f"the LDAP server refuses StartTLS (result code {code})", _CONFIGURE)


def _ldap_result(message: bytes) -> int:
    """The result code of the ExtendedResponse to message 1.

    An octet after the tag is the length there, or says how many octets have it: servers may
    write either for what is short.
    """
    if message[:3] == b"\x02\x01\x01" and message[3:4] == b"\x78":
        at = 5 + (message[4] & 0x7F if message[4:5] >= b"\x80" else 0)
        if message[at : at + 2] == b"\x0a\x01" and len(message) > at + 2:
            return message[at + 2]
    raise Refusal("its LDAP message is no answer to StartTLS")


def _postgres(talk: Talk) -> None:
    talk.send(_POSTGRES_REQUEST)
    answer = talk.octets(1)
    if answer == b"N":
        raise Refusal("the PostgreSQL server has TLS switched off", "set ssl = on there")
    if answer != b"S":
        raise _other("a PostgreSQL server", repr(answer)[1:])


_PROTOCOLS: Mapping[str, Callable[[Talk], None]] = {
    "imap": _imap,
    "pop3": _pop3,
    "ldap": _ldap,
    "postgres": _postgres,
}


def _refused(asked: str, line: str, *, passing: bool = False) -> Refusal:
    why = f"the server refuses ({asked}): {plain(line, _SAID)}"
    return Refusal(why, "look into the server's log" if passing else _CONFIGURE, passing=passing)


def _other(what: str, line: str) -> Refusal:
    said = plain(line, _SAID)
    return Refusal(f"what answers there is not {what}: {said}", "correct port or starttls")
