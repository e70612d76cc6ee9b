"""A real API server of Kubernetes, with its etcd, where both programs are in PATH.

Nobody packages it: CONTRIBUTING.md says how Debian's source of it is built.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import requests

from certd.testing.processes import Child, ComponentError, Ports, Stopped
from certd.testing.server import find
from tests.kubeapi import TOKEN, kubeconfig

NAMESPACE = "web"
VERBS = ("get", "create", "patch")
_ADMIN = "token-of-the-administrator"
_RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
_GROUP = "rbac.authorization.k8s.io"


class Cluster(Stopped):
    """One namespace, in which the user of ``kubeconfig`` may do ``VERBS`` with Secrets.

    Raises:
        ComponentError: it did not start, or refused what the administrator wants.
    """

    def __init__(self, folder: Path) -> None:
        self._ports = Ports()
        self._children: list[Child] = []
        self._certificates = folder / "certificates"
        etcd, peers, port = (self._ports.take() for _ in range(3))
        self.url = f"https://127.0.0.1:{port}"
        try:
            self._start_etcd(folder, etcd, peers)
            self._start_server(folder, etcd, port)
            self.kubeconfig = folder / "kubeconfig"
            roots = (self._certificates / "apiserver.crt").read_bytes()
            self.kubeconfig.write_text(kubeconfig(self.url, roots))
            (folder / "stranger").write_text(kubeconfig(self.url, roots, "another"))
            self.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            self._bind()
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def there_is() -> bool:
        return all(map(find, ("kube-apiserver", "etcd", "openssl")))

    def stop(self) -> None:
        while self._children:
            self._children.pop().stop()
        self._ports.close()

    def secret(self, name: str) -> dict[str, Any] | None:
        found = self.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}", accept={404})
        return found if found["kind"] == "Secret" else None

    def edit(self, name: str, manager: str, change: dict[str, Any]) -> None:
        """What ``kubectl edit`` does: it takes the fields that it changes from whoever has them."""
        path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}?fieldManager={manager}"
        self.call("PATCH", path, change, "application/merge-patch+json")

    def clear(self) -> None:
        self.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}/secrets")
        self.allow(VERBS)

    def allow(self, verbs: Collection[str]) -> None:
        """Returns when the server goes by it."""
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)}]
        self.call("PUT", f"{_RBAC}/roles/certd", {"metadata": {"name": "certd"}, "rules": rules})
        deadline = time.monotonic() + 20
        while {verb for verb in VERBS if self._may(verb)} != set(verbs):
            if time.monotonic() > deadline:
                raise ComponentError("the API server does not go by a changed role")
            time.sleep(0.01)

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        kind: str = "application/json",
        accept: Collection[int] = (),
    ) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method,
                self.url + path,
                data=None if body is None else json.dumps(body),
                headers={"Authorization": f"Bearer {_ADMIN}", "Content-Type": kind},
                verify=str(self._certificates / "apiserver.crt"),
                timeout=20,
            )
        if not answer.ok and answer.status_code not in accept:
            raise ComponentError(f"the API server refuses {method} {path}", answer.text)
        found: dict[str, Any] = answer.json()
        return found

    def _may(self, verb: str) -> bool:
        wish = {"namespace": NAMESPACE, "verb": verb, "resource": "secrets"}
        body = {"spec": {"user": "certd", "resourceAttributes": wish}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self.call("POST", path, body)["status"]["allowed"])

    def _bind(self) -> None:
        who = {"apiGroup": _GROUP, "kind": "User", "name": "certd"}
        role = {"apiGroup": _GROUP, "kind": "Role", "name": "certd"}
        body = {"metadata": {"name": "certd"}, "roleRef": role, "subjects": [who]}
        self.call("POST", f"{_RBAC}/roles", {"metadata": {"name": "certd"}, "rules": []})
        self.call("POST", f"{_RBAC}/rolebindings", body)
        self.allow(VERBS)

    def _start_etcd(self, folder: Path, port: int, peers: int) -> None:
        url, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
        words = {
            "data-dir": tempfile.mkdtemp(dir=folder),
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        self._run("etcd", words, folder, lambda: requests.get(f"{url}/health", timeout=5).ok)

    def _start_server(self, folder: Path, etcd: int, port: int) -> None:
        key = folder / "service-accounts.pem"
        (folder / "tokens").write_text(f'{_ADMIN},root,1,"system:masters"\n{TOKEN},certd,2\n')
        words = ["genpkey", "-quiet", "-algorithm", "RSA", "-out", str(key)]
        Child([str(find("openssl")), *words], folder / "openssl.log").wait(20)
        settings = {
            "etcd-servers": f"http://127.0.0.1:{etcd}",
            "cert-dir": self._certificates,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": port,
            "endpoint-reconciler-type": "none",
            "service-cluster-ip-range": "10.0.0.0/24",
            "service-account-issuer": "https://issuer.test",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "token-auth-file": folder / "tokens",
            "authorization-mode": "RBAC",
            "disable-admission-plugins": "ServiceAccount",
        }
        self._run("kube-apiserver", settings, folder, self._is_ready)

    def _is_ready(self) -> bool:
        return self._certificates.is_dir() and "gitVersion" in self.call("GET", "/version")

    def _run(self, program: str, settings: dict[str, Any], folder: Path, ready: Any) -> None:
        argv = [str(find(program)), *(f"--{key}={value}" for key, value in settings.items())]
        child = Child(argv, folder / f"{program}.log")
        self._children.append(child)
        child.wait_until(ready, 60)
