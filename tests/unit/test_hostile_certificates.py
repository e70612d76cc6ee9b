"""Certificates of every odd kind that is known, and PEM that is none: facts, or a typed error.

The certificates are those of ``cryptography-vectors`` (Apache-2.0 or BSD-3-Clause), which is
installed for the tests and of which nothing is copied here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from certd.errors import BadCertificate
from certd.testing.chains import NOW, Authority, identifiers, pem
from certd.x509 import check, facts, read_chain, shown_name
from certd.x509.reading import MOST_BYTES, MOST_CERTIFICATES
from tests.fuzz import strangers
from tests.fuzz.conversation import CHAIN, KEY, MIDDLE, NAMES

VECTORS = Path(cryptography_vectors.__file__).parent
SLOW = 1.0  # seconds: a certificate takes some 100 µs
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def _vectors() -> Iterator[tuple[str, bytes]]:
    """Certificates, and what else there is in DER or PEM: keys, lists, requests."""
    for path in sorted(VECTORS.rglob("*")):
        if path.suffix in (".pem", ".der", ".crt"):
            yield str(path.relative_to(VECTORS)), path.read_bytes()


# Not an error outside of tests: cryptography warns of a serial number that is not positive.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_every_known_oddity_is_read_or_refused() -> None:
    read = 0
    for name, raw in _vectors():
        begun = time.process_time()
        try:
            if BEGIN.encode() in raw:
                strangers.pem(raw)
            else:
                strangers.der(raw)
            strangers.request(raw)
        except Exception as error:
            error.add_note(name)
            raise
        assert time.process_time() - begun < SLOW, name
        read += 1
    assert read > 500


def test_the_certificate_that_cannot_be_read_is_named() -> None:
    broken = LEAF.replace("MII", "AAA", 1)
    with pytest.raises(BadCertificate, match=r"^certificate 2 of 3 in the chain cannot be read"):
        read_chain(LEAF + broken + LEAF)


# PEM

LEAF = CHAIN[: CHAIN.index(END) + len(END) + 1]
REST = CHAIN[len(LEAF) :]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        pytest.param(LEAF * 1000, "bytes, more than", id="a thousand certificates"),
        pytest.param(f"{BEGIN}\n{END}\n" * 1000, "1000 certificates", id="a thousand empty ones"),
        pytest.param(BEGIN * 2, "cut off", id="two beginnings"),
        pytest.param(
            f"{END}\n{LEAF}{BEGIN}\n", "certificate 1 of 2", id="an end first and a beginning last"
        ),
        pytest.param(LEAF.replace("BEGIN ", "BEGIN TRUSTED "), "not PEM", id="of OpenSSL's kind"),
        pytest.param(LEAF.replace("CERTIFICATE", "X509 CRL"), "not PEM", id="a list"),
        pytest.param(LEAF.lower(), "not PEM", id="small letters"),
        pytest.param(LEAF.replace("-----", "----"), "not PEM", id="four hyphens"),
        pytest.param(LEAF.replace("-----", "—" * 5), "not PEM", id="dashes of typographers"),
        pytest.param(f"{BEGIN}\n{BEGIN}\n{END}\n{END}\n", "", id="one in the other"),
        pytest.param(f"{BEGIN}\n{'A' * 200_000}\n{END}\n", "", id="much, and nothing"),
        pytest.param(f"{BEGIN}\n{'=' * 1000}\n{END}\n", "", id="padding"),
        pytest.param(LEAF.replace("\n", "\0\n"), "", id="NULs"),
        pytest.param(LEAF.replace("M", "\u041c", 3), "", id="letters of another script"),
        pytest.param(LEAF.replace("\n", "\n\x1b[2J", 3), "", id="orders to a terminal"),
        pytest.param("\x00" * MOST_BYTES, "not PEM", id="nothing but NULs"),
        pytest.param("x" * (64 << 20), "bytes, more than", id="64 MiB"),
    ],
)
def test_what_is_no_chain(sent: str, why: str) -> None:
    begun = time.process_time()
    with pytest.raises(BadCertificate) as refused:
        check(sent, KEY, identifiers(*NAMES), NOW)
    assert time.process_time() - begun < SLOW
    assert why in str(refused.value)
    assert refused.value.why.isprintable()
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(CHAIN.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(f"\ufeff{CHAIN}", id="a byte order mark"),
        pytest.param(f"subject=/CN=x\n{LEAF}\nissuer=/CN=y\n\n{REST}# end\n", id="words between"),
        pytest.param(CHAIN.rstrip("\n"), id="no end of line at the end"),
        pytest.param("\n" * 1000 + CHAIN, id="empty lines"),
        pytest.param(LEAF + "\x1b[2J\0" + REST, id="orders to a terminal between"),
    ],
)
def test_junk_around_a_chain_is_left_out(sent: str) -> None:
    leaf, chain, _ = check(sent, KEY, identifiers(*NAMES), NOW)
    assert leaf + chain == CHAIN


_PIECES = st.one_of(
    st.sampled_from([BEGIN, END, "\n", "\r\n", "-----", "\0", "BEGIN", "=", LEAF, LEAF[28:-26]]),
    st.text(max_size=20),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(_PIECES, max_size=12).map("".join))
def test_no_arrangement_of_markers_is_anything_else(text: str) -> None:
    strangers.pem(text.encode("utf-8", "replace"))


# What a certificate says is shown, and obeyed by no terminal

ORDERS = "\x1b]0;owned\x07\x9b2J\u202e\n"


def test_names_in_a_certificate_are_made_plain() -> None:
    authority = Authority.root(ORDERS * 3)
    leaf = authority.leaf(KEY, *NAMES)
    assert facts(leaf).issuer.isprintable()
    assert shown_name(authority.certificate.subject).isprintable()
    with pytest.raises(BadCertificate, match="no certificate of") as refused:
        check(pem(leaf), KEY, identifiers(*NAMES), NOW)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["\x1b[2J.example", "x" * 100_000, "a\0b.example"])
def test_a_name_that_nobody_asked_for_is_made_plain(name: str) -> None:
    leaf = MIDDLE.leaf(KEY, *NAMES, others=[x509.DNSName(name)])
    with pytest.raises(BadCertificate, match="nobody asked for") as refused:
        check(pem(leaf, MIDDLE.certificate), KEY, identifiers(*NAMES), NOW)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 2000


def test_the_subject_of_an_expired_intermediate_is_made_plain() -> None:
    old = Authority.root().authority(ORDERS, not_after=NOW)
    with pytest.raises(BadCertificate, match="expired") as refused:
        check(pem(old.leaf(KEY, *NAMES), old.certificate), KEY, identifiers(*NAMES), NOW)
    assert str(refused.value).isprintable()


def test_as_many_certificates_as_are_allowed_are_read() -> None:
    assert len(read_chain(LEAF * MOST_CERTIFICATES)) == MOST_CERTIFICATES
