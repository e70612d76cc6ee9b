"""A web hook: the bundle as JSON by POST, signed, to a server of the operator's.

    POST url
    Content-Type: application/json
    Idempotency-Key: "FINGERPRINT"
    Certd-Timestamp: 1780315200
    Certd-Signature: v1=HEX

The body is that of ``certd_deploy.document``. HEX is HMAC-SHA256 (RFC 2104) under ``secret`` of
the timestamp, a full stop and the body, each as it was sent. The receiver computes it anew,
compares in constant time, and refuses a timestamp that is minutes away, or whoever has seen a
message can send it again. The key of idempotency is one for each certificate (its form is that of
draft-ietf-httpapi-idempotency-key-header): what is in place needs not be put there again.
Whatever is not answered by 2xx is sent again later.

    GET url?name=NAME

with ``look``: answered by {"fingerprint": "HEX"} of what is in place, or null. Signed is the query
as it was sent, "name=NAME", in place of a body. What is in place is not sent again.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlencode

from certd_providers.rest import API
from certd_providers.urls import check_url

from certd.api import Bundle, SecretReference, TargetError, failpoint
from certd_deploy.asking import as_target, check_roots
from certd_deploy.document import document, told_fingerprint


@dataclass(frozen=True, slots=True)
class Webhook:
    """A server of your own that takes the bundle by HTTPS and puts it in place."""

    credential: ClassVar[str] = (
        "secret is one that both sides know, of 32 random bytes or more (`openssl rand -hex 32`);"
        " client is from a CA that the server asks for, if it does"
    )

    url: str = field(
        metadata={
            "description": "where it is sent: https, or this machine's own address",
            "check": check_url,
            "example": "https://deploy.example.com/certd",
            "missing": "it is where the bundle is sent",
        }
    )
    secret: SecretReference = field(
        metadata={
            "description": "what messages are signed with",
            "missing": "without a signature anybody could send certificates there",
        }
    )
    client: SecretReference | None = field(
        default=None,
        metadata={"description": "certificate, chain and key that certd shows the server, as PEM"},
    )
    roots: Path | None = field(
        default=None,
        metadata={
            "description": "file with the only roots that the server's certificate may lead to",
            "check": check_roots,
        },
    )
    look: bool = field(
        default=False,
        metadata={"description": "whether the server answers what is in place (GET)"},
    )

    def deploy(self, bundle: Bundle) -> None:
        fingerprint = bundle.certificate.fingerprint
        if self.serving(bundle.name) == fingerprint:
            return
        body = document(bundle).reveal()
        key = bundle.key_pem.reveal()
        with as_target(), self._api(*key.splitlines()) as api:
            headers = {
                "Content-Type": "application/json",
                "Idempotency-Key": f'"{fingerprint}"',
                **self._signed(body),
            }
            api.call("POST", self._end, data=body.encode(), headers=headers)
        failpoint("webhook: sent")

    def serving(self, name: str) -> str | None:
        if not self.look:
            return None
        query = urlencode({"name": name})
        with as_target(), self._api() as api:
            answer = api.get(f"{self._end}?{query}", headers=self._signed(query)).json
        try:
            told = answer["fingerprint"]
            return "" if told is None else told_fingerprint(told)
        except (KeyError, TypeError, ValueError, AttributeError):
            why = 'its answer is not {"fingerprint": "…"}, nor is that null'
            todo = "let it answer GET so, or write look = false"
            raise TargetError(f"{self._host} does not say what is in place", why, todo) from None

    def place(self, name: str) -> str:
        return f"{self.url} {name}"

    @property
    def _end(self) -> str:
        """What the API takes for no part of its address, and the operator's server may need."""
        return "/" if self.url.endswith("/") else ""

    @property
    def _host(self) -> str:
        return self.url.partition("://")[2].partition("/")[0]

    def _api(self, *secrets: str) -> API:
        permission = "give both sides the same secret, and certd a client that the server lets in"
        return API(
            self._host,
            self.url,
            permission=permission,
            secrets=secrets,
            roots=self.roots,
            client=self.client,
        )

    def _signed(self, text: str) -> Mapping[str, str]:
        timestamp = str(int(time.time()))
        secret = self.secret.fetch().reveal().encode()
        digest = hmac.new(secret, f"{timestamp}.{text}".encode(), hashlib.sha256).hexdigest()
        return {"Certd-Timestamp": timestamp, "Certd-Signature": f"v1={digest}"}
