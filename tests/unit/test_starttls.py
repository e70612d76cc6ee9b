"""STARTTLS with strangers: whatever they say, it is TLS in time, or an error that says why."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certd.errors import TargetError, Unseen
from certd.verify import Served, Way, probe
from certd.verify.starttls import start
from certd.verify.talking import Refusal
from tests.endpoints import PATIENCE, Answer, Tls, endpoint

SMTP = [b"220 mail ESMTP\r\n", b"250-mail\r\n250-SIZE 1\r\n250 starttls\r\n", b"220 go ahead\r\n"]
IMAP = [b"* OK [CAPABILITY STARTTLS] there\r\n", b"* hm\r\na1 OK begin\r\n"]
POP3 = [b"+OK there\r\n", b"+OK begin\r\n"]
LDAP = [b"", b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"]
# Lengths in the long form, as Active Directory writes them.
LONG = [
    b"",
    b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00",
]
POSTGRES = [b"", b"S"]
GOOD = [
    pytest.param("smtp", SMTP, id="smtp"),
    pytest.param("imap", IMAP, id="imap"),
    pytest.param("pop3", POP3, id="pop3"),
    pytest.param("ldap", LDAP, id="ldap"),
    pytest.param("ldap", LONG, id="ldap, lengths in long form"),
    pytest.param("postgres", POSTGRES, id="postgres"),
]


def saying(lines: Iterable[bytes], then: Answer = lambda _: None) -> Answer:
    """Says the first, and each of the others after something was heard."""

    def answer(connection: socket.socket) -> None:
        for number, line in enumerate(lines):
            if number:
                connection.recv(1024)
            connection.sendall(line)
        then(connection)

    return answer


def ask(port: int, protocol: str, seconds: float = PATIENCE) -> Served:
    return probe(Way("127.0.0.1", port, "www.example.com", seconds, starttls=protocol))


@pytest.mark.parametrize(("protocol", "lines"), GOOD)
def test_what_is_presented_after_it_is_seen(
    tmp_path: Path, protocol: str, lines: list[bytes]
) -> None:
    server = Tls(tmp_path)
    with endpoint(saying(lines, server)) as port:
        assert ask(port, protocol).certificate
    assert server.asked == ["www.example.com"]


@pytest.mark.parametrize(("protocol", "lines"), GOOD)
def test_nothing_that_came_before_tls_is_taken_as_after_it(
    tmp_path: Path, protocol: str, lines: list[bytes]
) -> None:
    """Somebody on the way adds to the last answer: it is no answer of the server's under TLS."""
    injected = [*lines[:-1], lines[-1] + b"250 hello from the middle\r\n"]
    with endpoint(saying(injected, Tls(tmp_path))) as port:
        with pytest.raises(TargetError) as failed:
            ask(port, protocol)
        # Exact readers leave it to the handshake, which it breaks.
        assert "before TLS began" in failed.value.why or "not speak TLS" in failed.value.why
        assert not isinstance(failed.value, Unseen)


def test_silence_may_be_that_of_a_port_that_speaks_tls_at_once() -> None:
    """Which waits for the client's first word, as the client does for the server's greeting."""

    def silent(connection: socket.socket) -> None:
        connection.recv(1)

    with endpoint(silent) as port, pytest.raises(Unseen) as failed:
        ask(port, "smtp", 0.2)
    assert failed.value.why == "connected, but no TLS by way of smtp within 0.2 s"
    assert failed.value.next.startswith("check the port and starttls in verify = […]")


@pytest.mark.parametrize(("protocol", "lines"), GOOD)
def test_an_answer_in_drops_ends_at_the_time_out(protocol: str, lines: list[bytes]) -> None:
    def drip(connection: socket.socket) -> None:
        for octet in b"".join(lines) * 20:
            connection.sendall(bytes([octet]))
            time.sleep(0.05)

    with endpoint(drip) as port:
        began = time.monotonic()
        with pytest.raises(TargetError):
            ask(port, protocol, 0.2)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("protocol", "lines", "why"),
    [
        ("smtp", [b"554 no service\r\n"], "refuses (its greeting): 554 no service"),
        ("smtp", [b"220 a\r\n", b"250-a\r\n250 SIZE\r\n"], "does not offer STARTTLS"),
        ("smtp", [b"220 a\r\n", b"502 what\r\n"], "refuses (EHLO): 502 what"),
        ("smtp", [*SMTP[:2], b"501 no\r\n"], "refuses (STARTTLS): 501 no"),
        ("smtp", [b"220-a\r\n" * 200], "does not end"),
        ("smtp", [b"* OK imap\r\n"], "is not an SMTP server: * OK imap"),
        ("smtp", [b"22\xd9\xa0 arabic digits\r\n"], "is not an SMTP server"),
        ("smtp", [b"HTTP/1.1 400 Bad\r\n"], "is not an SMTP server"),
        ("smtp", [b"2" * 20000], "a line of more than"),
        ("smtp", [b"220 \x1b[31mred\r\n", b"500 \x1b[31mred\r\n"], "500  [31mred"),
        ("imap", [b"* PREAUTH hello\r\n"], "is not an IMAP server"),
        ("imap", [IMAP[0], b"a1 BAD unknown\r\n"], "refuses (STARTTLS): a1 BAD unknown"),
        ("imap", [IMAP[0], b"* more\r\n" * 200], "does not end"),
        ("imap", [IMAP[0], b"b2 OK\r\n"], "is not an IMAP server"),
        ("pop3", [b"-ERR busy\r\n"], "is not a POP3 server: -ERR busy"),
        ("pop3", [POP3[0], b"-ERR no TLS\r\n"], "refuses (STLS): -ERR no TLS"),
        ("pop3", [POP3[0], b"\r\n"], "is not a POP3 server"),
        ("ldap", [b"", b"HTTP/1.1"], "is not an LDAP server"),
        ("ldap", [b"", LDAP[1][:9] + b"\x34" + LDAP[1][10:]], "result code 52"),
        ("ldap", [b"", b"\x30\x84\x7f\xff\xff\xff"], "longer than 4,096 bytes"),
        ("ldap", [b"", b"\x30\x80"], "no length that could be read"),
        ("ldap", [b"", b"\x30\x03\x02\x01\x01"], "no answer to StartTLS"),
        ("ldap", [b"", b"\x30\x05\x02\x01\x02\x78\x00"], "no answer to StartTLS"),
        ("ldap", [b"", b"\x30\x00"], "no answer to StartTLS"),
        ("postgres", [b"", b"N"], "has TLS switched off"),
        ("postgres", [b"", b"E"], "is not a PostgreSQL server: 'E'"),
    ],
)
def test_a_refusal_is_told(protocol: str, lines: list[bytes], why: str) -> None:
    hangs_up = saying(lines, lambda one: one.shutdown(socket.SHUT_WR))
    with endpoint(hangs_up) as port, pytest.raises(TargetError) as failed:
        ask(port, protocol)
    assert why in failed.value.why
    assert failed.value.next
    assert failed.value.why.isprintable()
    assert not isinstance(failed.value, Unseen)


@pytest.mark.parametrize(
    ("protocol", "lines"),
    [
        pytest.param("smtp", [b"421 too busy\r\n"], id="busy"),
        pytest.param("smtp", [*SMTP[:2], b"454 TLS not available\r\n"], id="for now"),
        pytest.param("imap", [b"* BYE overloaded\r\n"], id="bye"),
        pytest.param("smtp", [b"220 a\r\n", b""], id="hangs up"),
        pytest.param("ldap", [b"", b"\x30"], id="hangs up in a message"),
        pytest.param("postgres", [b"", b""], id="hangs up without a word"),
    ],
)
def test_what_may_well_be_otherwise_in_a_minute_is_unseen(
    protocol: str, lines: list[bytes]
) -> None:
    with endpoint(saying(lines)) as port, pytest.raises(Unseen):
        ask(port, protocol)


@given(st.sampled_from(["smtp", "imap", "pop3", "ldap", "postgres"]), st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
@example("ldap", b"\x30\x09\x02\x01\x01\x78\x84\x00\x00\x00\x07")
@example("ldap", b"\x30\x06\x02\x01\x01\x78\xff\x0a")
@example("smtp", b"220\n250-\n250 STARTTLS\n220\n")
def test_whatever_comes_is_tls_or_a_typed_error(protocol: str, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(Refusal, OSError):
            start(protocol, ours, time.monotonic() + PATIENCE)
