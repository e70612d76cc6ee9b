"""Microsoft Entra ID, and a machine's own identity: applications, and tokens for them."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.http_server import Request, Response

TENANT = "tenant.example"


def problem(status: int, code: str, message: str = "no") -> Response:
    return Response(status, {"error": {"code": code, "message": message}})


@dataclass(kw_only=True)
class Entra:
    """``may``: what each application is allowed; ``tokens``: whose each is."""

    secrets: dict[str, str] = field(default_factory=dict)
    may: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    url: str = ""
    count: Any = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def application(self, client_id: str, secret: str, *may: str) -> None:
        self.secrets[client_id] = secret
        self.may[client_id] = may

    @property
    def scope(self) -> str:
        """What tokens are for."""
        return f"{self.url}/.default"

    def whose(self, request: Request) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return self.tokens.get(token)

    def done(self, request: Request) -> Response:
        """Whatever is not about tokens."""
        raise NotImplementedError

    def __call__(self, request: Request) -> Response:
        with self._lock:
            if request.path.startswith(f"/{TENANT}/"):
                return self._authority(request)
            if request.path == "/identity":
                return self._machine(request)
            if request.path.startswith("/metadata/identity/"):
                return Response(400, {"error": "invalid_request"})  # a machine without an identity
            return self.done(request)

    def _authority(self, request: Request) -> Response:
        if request.path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            base = f"{self.url}/{TENANT}/oauth2/v2.0"
            ends = {
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
            }
            return Response(200, {**ends, "issuer": f"{self.url}/{TENANT}/v2.0"})
        form = dict(parse_qsl(request.body.decode()))
        if request.path != f"/{TENANT}/oauth2/v2.0/token" or request.method != "POST":
            return Response(404)
        if form["grant_type"] != "client_credentials" or form["scope"] != self.scope:
            return Response(400, {"error": "invalid_scope", "error_description": "AADSTS70011"})
        client = form["client_id"]
        if client not in self.secrets:
            told = "AADSTS700016: Application not found in the directory."
            return Response(400, {"error": "unauthorized_client", "error_description": told})
        if form["client_secret"] != self.secrets[client]:
            told = "AADSTS7000215: Invalid client secret provided."
            return Response(401, {"error": "invalid_client", "error_description": told})
        return Response(200, {"token_type": "Bearer", "expires_in": 3599, **self._token(client)})

    def _machine(self, request: Request) -> Response:
        """What an App Service has for its managed identities."""
        if request.headers.get("x-identity-header") != "the machine":
            return Response(401)
        client = request.query.get("client_id", "machine")
        return Response(
            200, {"token_type": "Bearer", "expires_on": "4102444800", **self._token(client)}
        )

    def _token(self, client: str) -> dict[str, str]:
        token = f"token-{next(self.count)}"
        self.tokens[token] = client
        return {"access_token": token}
