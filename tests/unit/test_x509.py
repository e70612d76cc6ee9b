"""What certd makes itself is well formed; what a CA sends is believed only if it is right."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from certd.errors import BadCertificate, StoreError
from certd.model import Identifier, KeyType
from certd.secrets import Secret
from certd.testing.chains import DAY, HOUR, NOW, Authority, identifiers, pem
from certd.x509 import check, csr, csr_der, facts, facts_of_der, new_key, pair_matches, read_chain
from certd.x509.reading import MOST_BYTES, MOST_CERTIFICATES

ROOT = Authority.root()
MIDDLE = ROOT.authority("Intermediate 1")
KEY = new_key("ec-p256")
NAMES = ("www.example.com", "example.com")
LEAF = MIDDLE.leaf(KEY, *NAMES)
FULLCHAIN = pem(LEAF, MIDDLE.certificate)


@pytest.mark.parametrize(
    ("key_type", "size", "kind"),
    [
        ("ec-p256", 256, ec.EllipticCurvePrivateKey),
        ("ec-p384", 384, ec.EllipticCurvePrivateKey),
        ("rsa-2048", 2048, rsa.RSAPrivateKey),
        ("rsa-3072", 3072, rsa.RSAPrivateKey),
    ],
)
def test_a_new_key_is_of_the_type_asked_for(key_type: KeyType, size: int, kind: type) -> None:
    key = load_pem_private_key(new_key(key_type).reveal().encode(), None)
    assert isinstance(key, kind)
    assert getattr(key, "key_size") == size  # noqa: B009 - the union of types has none


def test_a_csr_has_the_names_as_san_and_no_subject() -> None:
    wanted = identifiers("*.example.com", "example.com", "192.0.2.1", "2001:db8::1")
    request = x509.load_pem_x509_csr(csr(KEY, wanted).encode())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [str(one) for one in wanted]
    assert list(request.subject) == []
    assert request.is_signature_valid


def test_the_der_of_a_csr_is_the_same_request() -> None:
    text = csr(KEY, identifiers("example.com"))
    request = x509.load_der_x509_csr(csr_der(text))
    assert request.public_bytes(Encoding.PEM).decode() == text


def test_the_ari_id_is_that_of_rfc_9773() -> None:
    # Section 4.1 gives the octets of both parts and the result.
    key_id = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    signer = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder(
            x509.Name([]), x509.Name([]), signer.public_key(), 0x87654321, NOW, NOW + DAY
        )
        .add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
        .sign(signer, SHA256())
    )
    assert facts(leaf).ari_id == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


def test_facts_are_those_of_the_leaf() -> None:
    found = facts(MIDDLE.leaf(KEY, "WWW.example.com", "2001:db8::1", serial=0x0ABC))
    assert found.identifiers == identifiers("www.example.com", "2001:db8::1")
    assert (found.not_before, found.not_after) == (NOW - HOUR, NOW + 90 * DAY)
    assert found.serial == "0abc"
    assert found.issuer == "CN=Intermediate 1"
    assert len(found.fingerprint) == 64
    assert facts_of_der(LEAF.public_bytes(Encoding.DER)) == facts(LEAF)


def test_what_was_asked_for_is_taken_as_it_is() -> None:
    leaf, chain, found = check(FULLCHAIN, KEY, identifiers(*NAMES), NOW)
    assert (leaf, chain) == (pem(LEAF), pem(MIDDLE.certificate))
    assert found == facts(LEAF)


def test_an_ipv6_address_may_be_spelt_otherwise() -> None:
    leaf = MIDDLE.leaf(KEY, "2001:db8::1")
    asked = [Identifier("ip", "2001:0db8:0:0:0:0:0:1")]
    assert check(pem(leaf, MIDDLE.certificate), KEY, asked, NOW)[0] == pem(leaf)


OLD_ROOT = Authority.root("Old root")
CROSSED = OLD_ROOT.cross_sign(ROOT)
UNDER_ROOT = ROOT.leaf(KEY, *NAMES)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param([MIDDLE.certificate, LEAF], [LEAF, MIDDLE.certificate], id="misordered"),
        pytest.param(
            [LEAF, MIDDLE.certificate, ROOT.certificate],
            [LEAF, MIDDLE.certificate],
            id="with the root",
        ),
        pytest.param(
            [LEAF, CROSSED, MIDDLE.certificate, ROOT.certificate],
            [LEAF, MIDDLE.certificate, CROSSED],
            id="a cross-signed root is a link of the chain",
        ),
        pytest.param(
            [LEAF, OLD_ROOT.certificate, MIDDLE.certificate],
            [LEAF, MIDDLE.certificate],
            id="with a certificate that is no part of it",
        ),
        pytest.param(
            [LEAF, LEAF, MIDDLE.certificate, MIDDLE.certificate],
            [LEAF, MIDDLE.certificate],
            id="everything twice",
        ),
        pytest.param([UNDER_ROOT, ROOT.certificate], [UNDER_ROOT], id="issued by the root"),
    ],
)
def test_a_chain_is_put_right(
    sent: list[x509.Certificate], expected: list[x509.Certificate]
) -> None:
    leaf, chain, _ = check(pem(*sent), KEY, identifiers(*NAMES), NOW)
    assert leaf + chain == pem(*expected)


IMPOSTOR = Authority.root("Intermediate 1")
EXPIRED = ROOT.authority("Intermediate 2", not_after=NOW - DAY)
EMAIL = x509.RFC822Name("ops@example.com")
OTHER_KEY = new_key("ec-p256")


def _leaf(**changes: object) -> str:
    names = changes.pop("names", NAMES)
    return pem(MIDDLE.leaf(KEY, *names, **changes), MIDDLE.certificate)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        pytest.param("", "found nothing", id="empty"),
        pytest.param(" \n", "found nothing", id="blank"),
        pytest.param("<!DOCTYPE html>\n<html>…", "found an HTML page", id="HTML"),
        pytest.param('{"type": "error"}', "found a JSON object", id="JSON"),
        pytest.param("x" * 2000, "found 2,000 bytes that are not PEM", id="not PEM"),
        pytest.param(FULLCHAIN[:-40], "cut off", id="truncated in the chain"),
        pytest.param(FULLCHAIN[:200], "cut off", id="truncated in the leaf"),
        pytest.param(FULLCHAIN.replace("MII", "AAA", 1), "", id="no DER inside"),
        pytest.param("x" * (MOST_BYTES + 1), "more than", id="too large"),
        pytest.param(pem(LEAF) * (MOST_CERTIFICATES + 1), "more than", id="too many"),
        pytest.param(
            pem(MIDDLE.leaf(OTHER_KEY, *NAMES), MIDDLE.certificate), "public key", id="other key"
        ),
        pytest.param(_leaf(names=NAMES[:1]), "it lacks example.com", id="a name lacks"),
        pytest.param(
            _leaf(names=(*NAMES, "evil.example")), "also for evil.example", id="a name too many"
        ),
        pytest.param(_leaf(names=()), "it lacks example.com, www", id="no names"),
        pytest.param(_leaf(others=[EMAIL]), "neither DNS names nor IP", id="a mail address"),
        pytest.param(_leaf(not_after=NOW), "expired at 2026-06-01 12:00", id="expired"),
        pytest.param(_leaf(not_before=NOW + HOUR), "not yet valid", id="not yet valid"),
        pytest.param(_leaf(is_ca=True), "certificate of a CA", id="a CA"),
        pytest.param(
            _leaf(usages=[ExtendedKeyUsageOID.CLIENT_AUTH]), "TLS server", id="clients only"
        ),
        pytest.param(pem(LEAF), "chain is missing: no certificate of CN=Inter", id="leaf alone"),
        pytest.param(pem(LEAF, ROOT.certificate), "chain is missing", id="a gap in the chain"),
        pytest.param(pem(LEAF, IMPOSTOR.certificate), "chain is missing", id="same name only"),
        pytest.param(
            pem(EXPIRED.leaf(KEY, *NAMES), EXPIRED.certificate), "has expired", id="old chain"
        ),
    ],
)
def test_anything_else_is_refused_and_says_why(sent: str, why: str) -> None:
    with pytest.raises(BadCertificate) as refused:
        check(sent, KEY, identifiers(*NAMES), NOW)
    assert why in refused.value.why
    assert refused.value.next


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param({"not_before": NOW}, id="this very second"),
        pytest.param({"not_before": NOW + HOUR / 60}, id="the CA's clock is a minute ahead"),
        pytest.param({"not_before": NOW - 5 * DAY}, id="back-dated by days"),
        pytest.param({"usages": ()}, id="no extended key usage at all"),
    ],
)
def test_what_is_unusual_but_right_is_taken(leaf: dict[str, object]) -> None:
    assert check(_leaf(**leaf), KEY, identifiers(*NAMES), NOW)


def test_a_leaf_alone_is_taken_where_no_chain_is_required() -> None:
    sent = pem(UNDER_ROOT)
    assert check(sent, KEY, identifiers(*NAMES), NOW, chain_required=False)[:2] == (sent, "")


def test_a_long_list_of_names_is_cut_in_the_error() -> None:
    with pytest.raises(BadCertificate, match=r"a0\.example, a1\.example, a2\.example and 7 more"):
        check(_leaf(), KEY, identifiers(*(f"a{n}.example" for n in range(10))), NOW)


def test_an_unreadable_key_of_ours_is_the_stores_fault_and_is_not_shown() -> None:
    with pytest.raises(StoreError) as refused:
        check(FULLCHAIN, Secret("-----BEGIN hunter2"), identifiers(*NAMES), NOW)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("fullchain", "key", "expected"),
    [
        pytest.param(FULLCHAIN, KEY, True, id="a pair"),
        pytest.param(FULLCHAIN, OTHER_KEY, False, id="another key"),
        pytest.param("", KEY, False, id="no certificate"),
        pytest.param(FULLCHAIN, Secret(""), False, id="no key"),
    ],
)
def test_a_pair_matches_only_if_key_and_leaf_do(
    fullchain: str, key: Secret, expected: bool
) -> None:
    assert pair_matches(fullchain, key) is expected


def _reads(parse: Callable[[], object]) -> None:
    with contextlib.suppress(BadCertificate):
        parse()


@given(st.binary(max_size=2000))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    _reads(lambda: read_chain(raw))
    _reads(lambda: facts_of_der(raw))


@given(st.text(max_size=300, alphabet=st.characters()))
def test_no_text_raises_anything_else(text: str) -> None:
    _reads(lambda: read_chain(text))
    _reads(lambda: read_chain(f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))


@given(st.data())
def test_no_damage_to_a_real_certificate_raises_anything_else(data: st.DataObject) -> None:
    der = bytearray(LEAF.public_bytes(Encoding.DER))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    _reads(lambda: facts_of_der(bytes(der)))
