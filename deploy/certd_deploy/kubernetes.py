"""A Secret of Kubernetes, type kubernetes.io/tls, by server-side apply.

https://kubernetes.io/docs/reference/using-api/server-side-apply/ and
https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets. certd is the field manager
"certd" and takes no field from another: that is a conflict, which says who has it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from certd_providers.timely import make_pools_timely

from certd.api import (
    Bundle,
    ConfigError,
    NotHere,
    Pair,
    Secret,
    TargetBusy,
    TargetError,
    failpoint,
    plain,
)
from certd_deploy.pem import pair_fingerprint
from certd_deploy.settings import PLACEHOLDER

MANAGER = "certd"
_TIMEOUT = (10.0, 30.0)  # seconds until it is reached, and of silence
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_BUSY = frozenset({408, 425, 429})


def _check_kubeconfig(path: Path | None) -> None:
    if path is not None and not path.is_file():
        raise NotHere(f"there is no file {path}", "", "put the kubeconfig there, or leave it out")


def _check_secret(name: str) -> None:
    if not _NAME.fullmatch(name.replace(PLACEHOLDER, "name")):
        why = "it has small letters, digits, - and ."
        raise ConfigError(f'"{name}" is no name of a Secret', why, "write {name}-tls")


def _check_namespace(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise ConfigError(f'"{name}" is no namespace', "", "it has small letters, digits and -")


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """A TLS Secret in a cluster, which ingresses, gateways and pods read."""

    credential: ClassVar[str] = (
        "a service account with a Role in the namespace: apiGroups [''], resources [secrets], verbs"
        " [get, create, patch]; get and patch can be bound to resourceNames"
    )

    namespace: str = field(
        metadata={
            "description": "namespace of the Secret",
            "check": _check_namespace,
            "example": "web",
            "missing": "each Secret is in one",
        }
    )
    secret: str = field(
        default="{name}-tls",
        metadata={
            "description": "name of the Secret; {name} is the certificate's",
            "check": _check_secret,
        },
    )
    kubeconfig: Path | None = field(
        default=None,
        metadata={
            "description": "file that says how the cluster is reached; without it, the service"
            " account of the pod that certd runs in",
            "check": _check_kubeconfig,
            "example": "/etc/certd/kubeconfig",
        },
    )
    context: str | None = field(
        default=None, metadata={"description": "context of kubeconfig; without it, its current one"}
    )

    def deploy(self, bundle: Bundle) -> None:
        pair = {"tls.crt": bundle.fullchain_pem, "tls.key": bundle.key_pem.reveal()}
        data = {key: base64.b64encode(text.encode()).decode() for key, text in pair.items()}
        annotations = {
            "certd/fingerprint": bundle.certificate.fingerprint,
            "certd/version": str(bundle.version),
        }
        name = self._name(bundle.name)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "annotations": annotations,
                "labels": {"app.kubernetes.io/managed-by": MANAGER},
            },
            "type": "kubernetes.io/tls",
            "data": data,
        }
        with self._asked(f"{self.place(bundle.name)} was not written") as secrets:
            there = self._read(secrets, name)
            found = (there or {}).get("data") or {}
            if all(found.get(key) == data[key] for key in data):  # others may have more in it
                return
            secrets.patch_namespaced_secret(
                name,
                self.namespace,
                body,
                field_manager=MANAGER,
                force=False,
                _content_type="application/apply-patch+yaml",
                _request_timeout=_TIMEOUT,
                _preload_content=False,  # or the client logs what comes back, with the key
            )
            failpoint("kubernetes: applied")

    def serving(self, name: str) -> str:
        found = self.recover(name)
        return pair_fingerprint(found.fullchain_pem, found.key_pem.reveal()) if found else ""

    def recover(self, name: str) -> Pair | None:
        with self._asked(f"{self.place(name)} cannot be read") as secrets:
            there = self._read(secrets, self._name(name))
        data = (there or {}).get("data") or {}
        try:
            texts = [base64.b64decode(data[key]).decode() for key in ("tls.crt", "tls.key")]
        except (KeyError, ValueError):
            return None
        return Pair(texts[0], Secret(texts[1]))

    def place(self, name: str) -> str:
        where = f"{self.kubeconfig or 'this cluster'} {self.context or ''}".strip()
        return f"Secret {self.namespace}/{self._name(name)} ({where})"

    def _name(self, name: str) -> str:
        return self.secret.replace(PLACEHOLDER, name)

    def _read(self, secrets: Any, name: str) -> dict[str, Any] | None:
        from kubernetes.client import ApiException

        try:
            answer = secrets.read_namespaced_secret(
                name, self.namespace, _request_timeout=_TIMEOUT, _preload_content=False
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        found: dict[str, Any] = json.loads(answer.data)
        return found

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[Any]:
        """The API of Secrets; every failure explained.

        Raises:
            TargetError, TargetBusy: with ``what`` for what happened.
        """
        try:
            from kubernetes import client
        except ImportError:
            todo = "pip install 'certd[kubernetes]'"
            why = "kubernetes is missing"
            raise TargetError("there is no client of Kubernetes here", why, todo) from None
        from urllib3.exceptions import HTTPError

        try:
            with client.ApiClient(self._configuration(what)) as api:
                make_pools_timely(api.rest_client.pool_manager)
                yield client.CoreV1Api(api)
        except client.ApiException as error:
            raise self._refused(what, error) from None  # its text has whole headers and bodies
        except (HTTPError, OSError, ValueError) as error:
            raise TargetBusy(what, f"no answer ({type(error).__name__})") from None

    def _configuration(self, what: str) -> Any:
        from kubernetes import client
        from kubernetes import config as untyped

        config: Any = untyped
        settings = client.Configuration()
        settings.retries = False
        try:
            if self.kubeconfig is None:
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(
                    str(self.kubeconfig),
                    self.context,
                    client_configuration=settings,
                    persist_config=False,
                )
        except config.ConfigException as error:
            todo = "set kubeconfig, or run certd in the cluster" if self.kubeconfig is None else ""
            raise TargetError(what, plain(str(error)), todo or "correct it, or context") from None
        return settings

    def _refused(self, what: str, error: Any) -> TargetError:
        try:
            status = json.loads(error.body)
        except (ValueError, TypeError):
            status = {}
        why = plain(f"HTTP {error.status}: {status.get('message') or error.reason}")
        if error.status == 401:
            own = "the token of the pod's service account, as it is mounted"
            which = own if self.kubeconfig is None else "the token or the certificate of kubeconfig"
            return TargetError(what, why, f"correct {which}; it may have expired")
        if error.status == 403:
            todo = f"give its account a Role in {self.namespace}: secrets, [get, create, patch]"
            return TargetError(what, why, todo)
        if error.status == 409:
            causes = (status.get("details") or {}).get("causes") or [{}]
            found = {re.search(r'"(.*?)"', cause.get("message", "")) for cause in causes}
            others = ", ".join(sorted({one[1] for one in found if one})) or "its other manager"
            todo = (
                f"let {others} leave these fields alone, or delete the Secret: certd makes it anew"
            )
            return TargetError(what, why, todo)
        if error.status in _BUSY or error.status >= 500 or error.status == 0:
            after = (error.headers or {}).get("Retry-After", "")
            wait = float(after) if after.isascii() and after.isdigit() else None
            return TargetBusy(what, why, "it is tried again by itself", wait)
        return TargetError(what, why, _ADVICE.get(error.status, "correct what it names"))


_ADVICE = {
    404: "make the namespace, or correct it",
    422: "a Secret of another type must be deleted first: its type can never change",
}
