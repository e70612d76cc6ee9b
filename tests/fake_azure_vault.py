"""An Azure Key Vault's certificates, as Microsoft's REST reference describes them."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from tests.fake_azure_account import TENANT, Entra
from tests.http_server import Request, Response

HOST, DOMAIN = "certd.vault.test", "vault.test"
PAGE = 2
PKCS12, PEM = "application/x-pkcs12", "application/x-pem-file"
_PATH = re.compile(r"/certificates/([0-9A-Za-z-]{1,127})(/import|/)?")


def problem(status: int, code: str, inner: str = "", message: str = "no") -> Response:
    error: dict[str, Any] = {"code": code, "message": message}
    return Response(
        status, {"error": {**error, **({"innererror": {"code": inner}} if inner else {})}}
    )


@dataclass(kw_only=True)
class Vault(Entra):
    """``may``: "read", "import". Names in lower case, for the vault makes no difference."""

    versions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)  # what readers get
    deleted: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        return self.url.replace("127.0.0.1", HOST)

    @property
    def scope(self) -> str:
        return f"https://{DOMAIN}:{urlsplit(self.url).port}/.default"

    def done(self, request: Request) -> Response:
        who = self.whose(request)
        if who is None:
            resource = self.scope.removesuffix("/.default")
            told = f'Bearer authorization="{self.url}/{TENANT}", resource="{resource}"'
            answer = problem(401, "Unauthorized", message="AKV10000: Request is missing a token.")
            return Response(401, answer.body, {"WWW-Authenticate": told})
        if not re.fullmatch(r"7\.\d|20\d\d-\d\d-\d\d", request.query.get("api-version", "")):
            return problem(400, "BadParameter", message="api-version is not supported")
        found = _PATH.fullmatch(request.path)
        verb = "import" if found and found[2] == "/import" else "read"
        if verb not in self.may.get(who, ()):
            action = f"Microsoft.KeyVault/vaults/certificates/{verb}"
            told = f"Caller is not authorized to perform action on resource. Action: '{action}'"
            return problem(403, "Forbidden", "ForbiddenByRbac", told)
        if request.path == "/certificates":
            return self._list(int(request.query.get("$skiptoken", "0")))
        if found is None:
            return problem(404, "NotFound")
        name = found[1].lower()
        if verb == "import" and request.method == "POST":
            return self._import(name, request.json)
        if name not in self.versions:
            told = f"A certificate with (name/id) {name} was not found in this key vault."
            return problem(404, "CertificateNotFound", message=told)
        return Response(200, self.versions[name][-1])

    def _list(self, start: int) -> Response:
        newest = [each[-1] for _, each in sorted(self.versions.items())]
        listed = [
            {
                "id": one["id"].rpartition("/")[0],
                **{key: one[key] for key in ("attributes", "tags", "x5t")},
            }
            for one in newest[start : start + PAGE]
        ]
        page: dict[str, Any] = {"value": listed, "nextLink": None}
        if start + PAGE < len(newest):
            more = f"/certificates?api-version=7.4&$skiptoken={start + PAGE}"
            page["nextLink"] = self.address + more
        return Response(200, page)

    def _import(self, name: str, body: dict[str, Any]) -> Response:
        if name in self.deleted:
            told = f"Certificate {name} is currently in a deleted but recoverable state"
            return problem(409, "Conflict", "ObjectIsDeletedButRecoverable", told)
        policy = body.get("policy", {})
        content = policy.get("secret_props", {}).get("contentType", PKCS12)
        try:
            data = base64.b64decode(body["value"], validate=True)
            key, chain = _read(data, content, body.get("pwd"))
        except (ValueError, KeyError) as error:
            told = f"The specified {content} content can not be read: {type(error).__name__}"
            return problem(400, "BadParameter", message=told)
        if not chain or key.public_key() != chain[0].public_key():
            return problem(400, "BadParameter", message="The key does not match.")
        wanted = "EC" if isinstance(key, ec.EllipticCurvePrivateKey) else "RSA"
        props = policy.get("key_props", {})
        if props.get("kty", "RSA") != wanted or (wanted == "EC" and not props.get("crv")):
            told = "Elliptic Curve Cryptography Public Key Algorithm is not supported."
            return problem(400, "BadParameter", message=told)
        if policy.get("issuer", {}).get("name", "Unknown") != "Unknown":
            return problem(400, "BadParameter", message="The issuer of an import is Unknown.")
        self.add(name, chain[0], policy=policy, tags=body.get("tags", {}))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = b"".join(one.public_bytes(Encoding.PEM) for one in chain)
        self.pairs[name] = public.decode(), private.decode()
        return Response(200, self.versions[name][-1])

    def add(self, name: str, leaf: x509.Certificate, **more: Any) -> None:
        """Another version, which is there from now on."""
        der = leaf.public_bytes(Encoding.DER)
        version = hashlib.md5(f"{next(self.count)}".encode()).hexdigest()
        begins, ends = (
            int(at.timestamp()) for at in (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
        )
        self.versions.setdefault(name, []).append(
            {
                "id": f"{self.address}/certificates/{name}/{version}",
                "kid": f"{self.address}/keys/{name}/{version}",
                "sid": f"{self.address}/secrets/{name}/{version}",
                "x5t": base64.urlsafe_b64encode(hashlib.sha1(der).digest()).decode().rstrip("="),
                "cer": base64.b64encode(der).decode(),
                "attributes": {"enabled": True, "nbf": begins, "exp": ends},
                "tags": {},
                "policy": {"issuer": {"name": "Unknown"}},
                **more,
            }
        )


def _read(data: bytes, content: str, password: str | None) -> tuple[Any, list[x509.Certificate]]:
    if content == PEM:
        if b"-----BEGIN PRIVATE KEY-----" not in data:
            raise ValueError("the key is not in PKCS#8")
        return load_pem_private_key(data, None), x509.load_pem_x509_certificates(data)
    # Of the service it is known that it did not read AES: no such object identifier is in there.
    if bytes.fromhex("60864801650304012a") in data:  # aes256-CBC, 2.16.840.1.101.3.4.1.42
        raise ValueError("the encryption is not supported")
    key, leaf, chain = pkcs12.load_key_and_certificates(data, (password or "").encode())
    if leaf is None:
        raise ValueError("there is no certificate")
    return key, [leaf, *chain]
