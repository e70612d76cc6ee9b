"""Signed requests: the flattened JWS of RFC 8555 section 6.2, and those inside requests."""

from __future__ import annotations

import json
from typing import Any

import josepy


def _algorithm(key: josepy.JWK) -> josepy.JWASignature:
    """That of the account's key (RFC 7518 section 3.1)."""
    if isinstance(key, josepy.JWKRSA):
        return josepy.RS256
    return josepy.ES384 if key.key.curve.key_size == 384 else josepy.ES256


def signed(payload: bytes, key: josepy.JWK, kid: str | None, nonce: str, url: str) -> bytes:
    """A flattened JWS (RFC 8555 section 6.2); without an account yet, with the public key."""
    algorithm = _algorithm(key)
    header: dict[str, Any] = {"alg": algorithm.name, "nonce": nonce, "url": url}
    if kid is None:
        header["jwk"] = key.public_key().to_json()
    else:
        header["kid"] = kid
    flattened = _flattened(header, payload, algorithm, key.key)
    return json.dumps(flattened, separators=(",", ":")).encode()


def key_change(uri: str, old: josepy.JWK, new: josepy.JWK, url: str) -> dict[str, str]:
    """The inner JWS of a key change: the new key's word (RFC 8555 section 7.3.5)."""
    algorithm = _algorithm(new)
    header = {"alg": algorithm.name, "jwk": new.public_key().to_json(), "url": url}
    payload = {"account": uri, "oldKey": old.public_key().to_json()}
    return _flattened(header, json.dumps(payload).encode(), algorithm, new.key)


def binding(kid: str, mac_key: bytes, key: josepy.JWK, url: str) -> dict[str, str]:
    """The CA's customer's word for an account's key (RFC 8555 section 7.3.4)."""
    header = {"alg": josepy.HS256.name, "kid": kid, "url": url}
    # In the very bytes of the header of the request around it: OpenBao compares those.
    payload = json.dumps(key.public_key().to_json(), separators=(",", ":")).encode()
    return _flattened(header, payload, josepy.HS256, mac_key)


def _flattened(
    header: dict[str, Any], payload: bytes, algorithm: josepy.JWASignature, key: Any
) -> dict[str, str]:
    protected = josepy.encode_b64jose(json.dumps(header, separators=(",", ":")).encode())
    text = josepy.encode_b64jose(payload)
    signature = algorithm.sign(key, f"{protected}.{text}".encode())
    return {
        "protected": protected,
        "payload": text,
        "signature": josepy.encode_b64jose(signature),
    }
