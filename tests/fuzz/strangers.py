"""What strangers send, and what certd may make of it: a value, or an error of its own kind.

Each function of ``TARGETS`` takes any bytes and raises only if certd did something else.
They are what ``make fuzz`` feeds, and what the tests of hostile input ask.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from certd import config as configuration
from certd.ca import ari
from certd.ca.problem import retry_after
from certd.ca.reading import Reading, WireError
from certd.challenges.hello import NoHello, identifier, read_hello
from certd.challenges.reply import NoReply, Reply, read
from certd.errors import BadCertificate, CAError, CertdError, ConfigError
from certd.testing.chains import NOW
from certd.windows import renewal_info
from certd.x509 import (
    BadCRL,
    check,
    facts,
    facts_of_der,
    objection,
    pair_matches,
    read_chain,
    read_crl,
    read_request,
)
from certd.x509.keys import KEY_TYPES
from tests.fuzz import conversation
from tests.fuzz.conversation import ASKED, ISSUER, KEY

SHOWN = 20_000  # characters of an error at most: a CA's subproblems, many findings
FOLDER = Path(tempfile.mkdtemp(prefix="certd-fuzz-"))


def refused(read: Callable[[], object], *kinds: type[CertdError]) -> CertdError | None:
    """The error of one of these kinds that it raised, if any, after a look at its words."""
    error: CertdError | None = None
    try:
        read()
    except kinds as caught:
        error = caught
    if error is not None:
        words = str(error)
        assert error.what
        assert all(line.isprintable() for line in words.split("\n")), words
    return error


def pem(data: bytes) -> None:
    """A chain as a CA sends it."""

    def read() -> None:
        for one in read_chain(data):
            assert facts(one).issuer.isprintable()

    error = refused(read, BadCertificate)
    assert len(str(error)) <= SHOWN
    text = data.decode("utf-8", "replace")
    refused(lambda: check(text, KEY, ASKED, NOW), BadCertificate)
    assert pair_matches(text, KEY) in (True, False)


def der(data: bytes) -> None:
    """A certificate as a server presents it, and the same in an envelope."""
    refused(lambda: facts_of_der(data), BadCertificate)
    assert objection(data, ASKED[0], KEY).isprintable()
    pem(enveloped(data))


def enveloped(data: bytes) -> bytes:
    lines = base64.encodebytes(data)
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"


def request(data: bytes) -> None:
    """A signing request of the operator's."""

    def read() -> None:
        csr, kind, _ = read_request(data)
        assert csr.pem.startswith("-----BEGIN CERTIFICATE REQUEST")
        assert kind in KEY_TYPES

    error = refused(read, BadCertificate, ConfigError)
    assert len(str(error)) <= SHOWN


KINDS = tuple(conversation.DOCUMENTS)


def document(data: bytes) -> None:
    """A document of a CA; the first byte says which."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    said(kind, data[1:])


def said(kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> CertdError | None:
    """What came of a conversation in which the CA said this, and all else rightly."""
    answers = conversation.answer(kind, body, headers)

    def read() -> None:
        shown = conversation.converse(FOLDER, answers)
        assert shown.isprintable(), shown
        assert len(shown) <= SHOWN

    error = refused(read, CAError)
    assert len(str(error)) <= SHOWN
    return error


def hello(data: bytes) -> None:
    """What a client of the TLS-ALPN-01 responder begins with."""
    try:
        found = read_hello(data)
    except NoHello:
        return
    if found is not None:
        assert found.server_name.isascii()
        identifier(found.server_name)


def delay(data: bytes) -> None:
    """Retry-After."""
    seconds = retry_after(data.decode("latin-1"), NOW)
    assert seconds is None or 0 <= seconds <= 86400


def window(data: bytes) -> None:
    """The two instants of a renewal window, a line each."""
    start, _, end = data.decode("utf-8", "replace").partition("\n")
    document = {"suggestedWindow": {"start": start, "end": end}}

    def read() -> None:
        found = ari.ask(conversation.telling(conversation.encoded(document)), "a.b")
        info = renewal_info(found.start, found.end, None, None, 0.5)
        assert found.start <= info.selected < found.end

    error = refused(read, ari.NoAnswer)
    assert len(str(error)) <= SHOWN


def answer(data: bytes) -> None:
    """The bytes of an HTTP answer; the first says how many come at a time."""
    piece = (data[0] if data else 0) + 1
    reading, error = Reading(head_only=piece % 7 == 0), ""
    try:
        for start in range(1, len(data), piece):
            if not reading.done:
                reading.feed(data[start : start + piece])
        if not reading.done:
            reading.end()
    except WireError as caught:
        error = str(caught)
    assert error.isprintable()
    assert error or 200 <= reading.status < 1000
    assert sum(map(len, reading.body)) <= len(data)


def settings(data: bytes) -> None:
    """A configuration."""
    path = FOLDER / "certd.toml"
    path.write_bytes(data)
    error = refused(lambda: configuration.load(path), ConfigError)
    for finding in str(error).split("\n") if error else ():
        assert finding.startswith(f"{path}:"), finding


def reply(data: bytes) -> None:
    """What the web server of a name answers to a look at its challenge."""

    async def ask() -> Reply:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read(reader)

    with suppress(NoReply):
        found = asyncio.run(ask())
        assert found.phrase
        assert len(found.body) <= len(data)


def revoked(data: bytes) -> None:
    """A CA's list of what it has revoked."""
    error = refused(lambda: read_crl(data, ISSUER, "http://ca.example/1.crl", {7}, NOW), BadCRL)
    assert len(str(error)) <= SHOWN


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "pem": pem,
    "der": der,
    "request": request,
    "document": document,
    "delay": delay,
    "window": window,
    "answer": answer,
    "settings": settings,
    "hello": hello,
    "reply": reply,
    "revoked": revoked,
}


def together(data: bytes) -> None:
    """Any of them; the first byte says which."""
    names = tuple(TARGETS)
    TARGETS[names[data[0] % len(names)] if data else names[0]](data[1:])
