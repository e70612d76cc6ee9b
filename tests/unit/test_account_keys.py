"""Account keys as other ACME clients keep them: read, or refused without quoting them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import josepy
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from certd.ca.keys import exported, jwk, new_account_key, read_key, thumbprint
from certd.errors import ConfigError
from certd.known import Account
from certd.secrets import Secret

P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(65537, 2048)
P521 = ec.generate_private_key(ec.SECP521R1())
OLD, NEW = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8


def pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    form: PrivateFormat,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


def as_jwk(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return json.dumps(josepy.JWK.load(pem(key, NEW).encode()).to_json())


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param(pem(P256, OLD), P256, id="lego, Caddy: EC PRIVATE KEY"),
        pytest.param(pem(P384, OLD), P384, id="P-384"),
        pytest.param(pem(RSA, OLD), RSA, id="dehydrated: RSA PRIVATE KEY"),
        pytest.param(pem(RSA, NEW), RSA, id="acme.sh: PRIVATE KEY"),
        pytest.param(
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
            + pem(P256, OLD),
            P256,
            id="acme.sh: EC PARAMETERS before it",
        ),
        pytest.param(pem(P256, NEW).replace("\n", "\r\n"), P256, id="from Windows"),
        pytest.param(as_jwk(RSA), RSA, id="certbot: RSA JWK"),
        pytest.param(as_jwk(P256), P256, id="certbot: EC JWK"),
        pytest.param("\n " + as_jwk(P384) + "\n", P384, id="with space around it"),
    ],
)
def test_the_key_of_another_client_is_read(
    text: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    found = read_key(text)
    assert found.reveal() == pem(key, NEW)
    again = Account("https://ca.example/dir", found)
    for form in ("pem", "jwk"):
        assert read_key(exported(again, form)) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "holds no account key that can be read", id="empty"),
        pytest.param("root:x:0:0:root", "holds no account key", id="something else"),
        pytest.param(pem(P256, OLD)[:90], "holds no account key", id="truncated"),
        pytest.param(pem(P256, NEW).replace("MIGHAgEA", "MIGHAgEB"), "no account key", id="bent"),
        pytest.param(
            pem(P256, NEW, BestAvailableEncryption(b"password")), "is encrypted", id="encrypted"
        ),
        pytest.param(pem(P521, NEW), "a kind that certd does not sign with", id="P-521"),
        pytest.param(
            pem(ed25519.Ed25519PrivateKey.generate(), NEW), "a kind that certd does", id="Ed25519"
        ),
        pytest.param("{", "holds no account key", id="no JSON"),
        pytest.param('{"kty": "EC"}', "holds no account key", id="half a JWK"),
        pytest.param('{"kty": "oct", "k": "c2VjcmV0"}', "holds no account key", id="symmetric"),
        pytest.param(
            json.dumps(josepy.JWK.load(pem(P256, NEW).encode()).public_key().to_json()),
            "holds no account key",
            id="a public key",
        ),
    ],
)
def test_what_is_no_key_is_refused_and_not_quoted(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_key(text)
    assert said in str(caught.value)
    assert caught.value.next
    assert caught.value.__cause__ is None
    for line in text.splitlines():
        assert len(line) < 20 or line not in str(caught.value)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256"])
def test_openssl_reads_what_is_exported(algorithm: str) -> None:
    account = Account("https://ca.example/dir", new_account_key(algorithm))
    done = subprocess.run(
        ["openssl", "pkey", "-noout", "-check"],
        input=exported(account, "pem"),
        text=True,
        capture_output=True,
        check=False,
    )
    assert "valid" in done.stdout


def test_a_thumbprint_is_that_of_the_rfc() -> None:
    """RFC 7638 section 3.1, with the key of its example."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_B"
        "JECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_F"
        "DW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4"
        "vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key: Any = josepy.JWK.from_json({"kty": "RSA", "n": modulus, "e": "AQAB"})
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_key_in_memory_is_the_one_in_the_store() -> None:
    account = Account("https://ca.example/dir", Secret(pem(P256, NEW)))
    assert thumbprint(jwk(account)) == thumbprint(josepy.JWK.load(pem(P256, OLD).encode()))
    assert load_pem_private_key(account.key_pem.reveal().encode(), None)
