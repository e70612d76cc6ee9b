"""Account keys: made, as JWK, their thumbprints; and those that other clients made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import josepy
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certd.errors import ConfigError
from certd.known import Account
from certd.secrets import Secret

AccountKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# ES256 first: its signature costs a quarter of an RS256 one.
ALGORITHMS: Mapping[str, Callable[[], AccountKey]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}
# Of a file that may hold more, such as the EC PARAMETERS that openssl writes before the key.
_PEM = re.compile(r"-----BEGIN ((?:[A-Z]+ )*PRIVATE KEY)-----\n.*?-----END \1-----", re.DOTALL)


def new_account_key(algorithm: str = "ES256") -> Secret:
    """The PEM of a key for one of ``ALGORITHMS``."""
    return _pem(ALGORITHMS[algorithm]())


def jwk(account: Account) -> josepy.JWK:
    return josepy.JWK.load(account.key_pem.reveal().encode())


def thumbprint(key: josepy.JWK) -> str:
    """RFC 7638, in base64url: what a key authorization ends with (RFC 8555 section 8.1)."""
    return str(josepy.encode_b64jose(key.thumbprint(hash_function=hashes.SHA256)))


def exported(account: Account, form: str) -> str:
    """The account's key as ``pem`` (PKCS#8), or as ``jwk``, which is certbot's."""
    if form == "pem":
        return account.key_pem.reveal()
    return json.dumps(jwk(account).to_json()) + "\n"


def read_key(text: str) -> Secret:
    """A private key as other clients keep them: PEM, or a JWK (certbot's ``private_key.json``).

    Raises:
        ConfigError: it is none, or not one that certd signs with; nothing of it is quoted.
    """
    form = "PEM or JWK"
    try:
        if text.lstrip().startswith("{"):
            form = "JWK"
            read: Any = josepy.JWK.from_json(json.loads(text))
            key = serialization.load_pem_private_key(_encoded(read.key), None)
        elif found := _PEM.search(text.replace("\r\n", "\n")):
            form = found[1]
            key = serialization.load_pem_private_key(found[0].encode(), None)
        else:
            raise ValueError
    except TypeError:
        raise ConfigError(
            "the account key is encrypted",
            "certd asks nobody for a password",
            "decrypt it first: openssl pkey -in KEY -out DECRYPTED",
        ) from None
    except Exception as error:  # decoders fail as they like, and their words may quote it
        raise ConfigError(
            "it holds no account key that can be read",
            f"as {form}: {type(error).__name__}",
            "name the file with the private key: certbot's private_key.json, acme.sh's "
            "account.key, lego's and Caddy's *.key, dehydrated's account_key.pem",
        ) from None
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else ""
    if isinstance(key, AccountKey) and curve in ("", "secp256r1", "secp384r1"):
        return _pem(key)
    raise ConfigError(
        "the account key is of a kind that certd does not sign with",
        "it signs with RSA, P-256 and P-384",
        "roll it over with the client that made it, or let certd register an account",
    )


def _pem(key: AccountKey) -> Secret:
    return Secret(_encoded(key).decode())


def _encoded(key: AccountKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
