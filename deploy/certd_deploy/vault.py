"""HashiCorp Vault and OpenBao: one secret of a KV engine, version 2, for each certificate.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2 and …/api-docs/auth/approle; OpenBao
has the same API. Keys of the secret: name, version, fingerprint, fullchain, cert, chain, key; what
else is in it stays. It is written as a whole, with check-and-set: nobody reads half of it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from certd_providers.rest import API, Answer
from certd_providers.urls import check_url

from certd.api import (
    Bundle,
    ConfigError,
    Pair,
    ProviderError,
    Secret,
    SecretReference,
    TargetBusy,
    TargetError,
    failpoint,
)
from certd_deploy.asking import as_target, check_roots
from certd_deploy.pem import pair_fingerprint
from certd_deploy.settings import PLACEHOLDER

_TRIES = 4  # to write while others do
_STANDBY = frozenset({307, 308, 472, 473})  # of nodes that are not the active one
_SEGMENTS = re.compile(r"(?!/)[^/\0{}]+(/[^/\0{}]+)*")


def _check_path(path: str) -> None:
    if not _SEGMENTS.fullmatch(path.replace(PLACEHOLDER, "name")) or ".." in path.split("/"):
        why = "it is of segments, with / between them and not around them"
        raise ConfigError(f'"{path}" is no path of a secret', why, "write certd/{name}")


@dataclass(frozen=True, slots=True)
class Vault:
    """A secret of Vault's or OpenBao's KV engine, version 2."""

    credential: ClassVar[str] = (
        "a token, or an AppRole (`vault write auth/approle/role/certd token_policies=certd`), with"
        ' the policy: path "secret/data/certd/*" { capabilities = ["create", "read", "update"] }'
    )

    url: str = field(
        metadata={
            "description": "its address, of the active node or what leads there",
            "check": check_url,
            "example": "https://vault.example.com:8200",
            "missing": "it is where the secrets are",
        }
    )
    token: SecretReference | None = field(
        default=None, metadata={"description": "token; in place of role and role_secret"}
    )
    role: str | None = field(default=None, metadata={"description": "role_id of an AppRole"})
    role_secret: SecretReference | None = field(
        default=None, metadata={"description": "secret_id of the AppRole"}
    )
    auth: str = field(
        default="approle",
        metadata={"description": "where AppRole is mounted", "check": _check_path},
    )
    mount: str = field(
        default="secret",
        metadata={"description": "where the KV engine is mounted", "check": _check_path},
    )
    path: str = field(
        default="certd/{name}",
        metadata={
            "description": "of the secret below the mount; {name} is the certificate's name",
            "check": _check_path,
        },
    )
    namespace: str | None = field(
        default=None, metadata={"description": "namespace", "check": _check_path, "example": "web"}
    )
    roots: Path | None = field(
        default=None,
        metadata={
            "description": "file with the only roots that its certificate may lead to",
            "check": check_roots,
        },
    )

    def __post_init__(self) -> None:
        if (self.token is None) == (self.role is None):
            what = "token and role are both set" if self.token else "neither token nor role is set"
            raise ConfigError(what, "certd needs one way to log in", "write one of them")
        if (self.role is None) != (self.role_secret is None):
            raise ConfigError("role and role_secret go together", "", "write both")

    def deploy(self, bundle: Bundle) -> None:
        wanted = {
            "name": bundle.name,
            "version": str(bundle.version),
            "fingerprint": bundle.certificate.fingerprint,
            "fullchain": bundle.fullchain_pem,
            "cert": bundle.leaf_pem,
            "chain": bundle.chain_pem,
            "key": bundle.key_pem.reveal(),
        }
        with self._logged_in(bundle.name, *wanted["key"].splitlines()) as api:
            for _ in range(_TRIES):
                there, number = self._read(api, bundle.name)
                # The number may be another's after a loss of the database.
                if all(there.get(key) == wanted[key] for key in wanted if key != "version"):
                    return
                body = {"options": {"cas": number}, "data": {**there, **wanted}}
                answer = api.call("POST", self._data(bundle.name), body=body, accept={400})
                if answer.status != 400:
                    failpoint("vault: written")
                    return
                if "check-and-set" not in answer.text:
                    raise api.failure(answer)
        raise TargetBusy(
            f"{self.place(bundle.name)} was not written",
            f"somebody else wrote there each time, {_TRIES} times",
            "find out who else writes there",
        )

    def serving(self, name: str) -> str:
        found = self.recover(name)
        return pair_fingerprint(found.fullchain_pem, found.key_pem.reveal()) if found else ""

    def recover(self, name: str) -> Pair | None:
        with self._logged_in(name) as api:
            there, _ = self._read(api, name)
        fullchain, key = there.get("fullchain"), there.get("key")
        if not isinstance(fullchain, str) or not isinstance(key, str):
            return None
        return Pair(fullchain, Secret(key))

    def place(self, name: str) -> str:
        path = self.path.replace(PLACEHOLDER, name)
        return "/".join([self.url.rstrip("/"), self.namespace or "", self.mount, path])

    def _data(self, name: str) -> str:
        return f"/v1/{self.mount}/data/{quote(self.path.replace(PLACEHOLDER, name))}"

    def _read(self, api: API, name: str) -> tuple[dict[str, Any], int]:
        """The newest version, and its number to write the next by; ({}, 0) if there is none."""
        answer = api.call("GET", self._data(name), accept={404})
        # With a version that was deleted, 404 still has its number, which the next must follow.
        found = (answer.json or {}).get("data") or {}
        if answer.status == 404 and not found:
            return {}, 0
        return found["data"] or {}, int(found["metadata"]["version"])

    @contextlib.contextmanager
    def _logged_in(self, name: str, *secrets: str) -> Iterator[API]:
        with as_target():
            if self.token is not None:
                with self._api(name, self.token.fetch().reveal(), secrets) as api:
                    yield api
                return
            token = self._token(name)
            with self._api(name, token, secrets) as api:
                try:
                    yield api
                finally:
                    # It would end by itself; until then it is one more that can be stolen.
                    with contextlib.suppress(ProviderError):
                        api.call("POST", "/v1/auth/token/revoke-self", body={})

    def _token(self, name: str) -> str:
        assert self.role_secret is not None  # noqa: S101 - __post_init__ has seen to it
        secret = self.role_secret.fetch().reveal()
        with self._api(name, "", [secret]) as api:
            body = {"role_id": self.role, "secret_id": secret}
            answer = api.call("POST", f"/v1/auth/{self.auth}/login", body=body, accept={400})
            if answer.status == 400:
                raise TargetError(
                    f"{self.url} refuses the AppRole",
                    _words(answer.json),
                    "correct role and role_secret: a secret_id may have run out, or been used up",
                )
            return str(answer.json["auth"]["client_token"])

    def _api(self, name: str, token: str, secrets: Any) -> API:
        path = self.path.replace(PLACEHOLDER, name)
        needed = (
            f'give the token the policy: path "{self.mount}/data/{path}"'
            ' { capabilities = ["create", "read", "update"] }'
        )
        headers = {"X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self.namespace:
            headers["X-Vault-Namespace"] = self.namespace
        return _VaultAPI(
            self.url,
            self.url,
            headers=headers,
            permission=needed,
            explain=_words,
            secrets=[token, *secrets],
            roots=self.roots,
        )


class _VaultAPI(API):
    def failure(self, answer: Answer, why: str = "") -> Any:
        if answer.status in _STANDBY:
            return self.busy(f"HTTP {answer.status}: it is a standby node; let url be the active's")
        return super().failure(answer, why)


def _words(body: Any) -> str:
    return "; ".join([*map(str, body.get("errors") or []), *map(str, body.get("warnings") or [])])
