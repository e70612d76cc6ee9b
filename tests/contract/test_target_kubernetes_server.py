"""The kubernetes target against a real API server, where there is one: it is in no package.

What the one of tests/kubeapi.py answers, which stands in for it elsewhere, is this one's.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from certd_deploy.kubernetes import Kubernetes

from certd.api import TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from tests.kubeapi import TOKEN
from tests.kubecluster import VERBS, Cluster

pytestmark = pytest.mark.skipif(
    not Cluster.there_is(), reason="kube-apiserver is not in PATH: CONTRIBUTING.md has how to build"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("kubernetes")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    running.clear()
    return running


@pytest.fixture
def target(cluster: Cluster) -> Kubernetes:
    return Kubernetes(namespace="web", kubeconfig=cluster.kubeconfig)


class TestKubernetesServerContract(TargetContract):
    secrets = (TOKEN,)

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def in_place(self, target: Kubernetes, name: str) -> Pair | None:
        time.sleep(0.001)
        there = self.cluster.secret(f"{name}-tls")
        if there is None:
            return None
        data = {key: base64.b64decode(value).decode() for key, value in there["data"].items()}
        return Pair(data["tls.crt"], data["tls.key"])

    @contextlib.contextmanager
    def out_of_order(self, target: Kubernetes) -> Iterator[None]:
        self.cluster.allow({"get"})
        try:
            yield
        finally:
            self.cluster.allow(VERBS)

    def writes(self, target: Kubernetes) -> int:
        there = self.cluster.secret("www-tls")
        assert there is not None
        return int(there["metadata"]["resourceVersion"])


def test_it_is_a_tls_secret_whose_fields_are_certds(target: Kubernetes, cluster: Cluster) -> None:
    wanted = bundle("www", 7)
    target.deploy(wanted)
    there = cluster.secret("www-tls")
    assert there is not None
    assert there["type"] == "kubernetes.io/tls"
    assert there["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "certd"}
    assert there["metadata"]["annotations"] == {
        "certd/fingerprint": wanted.certificate.fingerprint,
        "certd/version": "7",
    }
    [owner] = there["metadata"]["managedFields"]
    assert (owner["manager"], owner["operation"]) == ("certd", "Apply")


def test_what_others_have_in_it_stays_theirs(target: Kubernetes, cluster: Cluster) -> None:
    target.deploy(bundle("www", 1))
    note, roots = {"note": "of the operator's"}, base64.b64encode(b"roots").decode()
    change = {"metadata": {"annotations": note}, "data": {"ca.crt": roots}}
    cluster.edit("www-tls", "trust", change)
    newer = bundle("www", 2)
    target.deploy(newer)
    there = cluster.secret("www-tls")
    assert there is not None
    assert there["metadata"]["annotations"]["note"] == note["note"]
    assert there["data"]["ca.crt"] == roots
    assert target.serving("www") == newer.certificate.fingerprint


def test_nothing_is_taken_from_another_who_is_named(target: Kubernetes, cluster: Cluster) -> None:
    wanted = bundle("www", 1)
    target.deploy(wanted)
    key = base64.b64encode(bundle("www", 1).key_pem.reveal().encode()).decode()
    cluster.edit("www-tls", "kubectl-edit", {"data": {"tls.key": key}})
    assert target.serving("www") == ""
    with pytest.raises(TargetError) as refused:
        target.deploy(wanted)
    assert not isinstance(refused.value, TargetBusy)
    assert 'conflict with "kubectl-edit" using v1: .data.tls.key' in refused.value.why
    assert "let kubectl-edit leave these fields alone" in refused.value.next
    cluster.clear()
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


def test_what_is_not_there_or_not_allowed_is_told(target: Kubernetes, cluster: Cluster) -> None:
    stranger = replace(target, kubeconfig=cluster.kubeconfig.with_name("stranger"))
    with pytest.raises(TargetError, match="HTTP 401: Unauthorized; correct the token"):
        stranger.serving("www")
    with pytest.raises(TargetError, match=r"403.*give its account a Role in other"):
        replace(target, namespace="other").deploy(bundle())
    cluster.allow({"get", "patch"})
    with pytest.raises(TargetError, match=r"403.*give its account a Role in web"):
        target.deploy(bundle())
