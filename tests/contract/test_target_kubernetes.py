"""The kubernetes target: the official client against an API server's field management."""

from __future__ import annotations

import base64
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from certd_deploy.kubernetes import Kubernetes

from certd.api import ConfigError, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from tests.http_server import Lost, Request, Response, own_tls, serving
from tests.kubeapi import TOKEN, KubeAPI, kubeconfig


@dataclass
class Site:
    """``refuses`` is what is answered in place of anything else, ``loses`` an answer to a write."""

    api: KubeAPI
    kubeconfig: Path
    refuses: Response | None = None
    loses: bool = False

    def answer(self, request: Request) -> Response:
        if self.refuses is not None:
            return self.refuses
        answer = self.api.answer(request)
        if self.loses and request.method == "PATCH":
            raise Lost
        return answer

    def secret(self, name: str = "www-tls") -> dict[str, str]:
        data = self.api.secrets[name]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("kubernetes")
    tls, roots = own_tls(folder)
    site = Site(KubeAPI(), folder / "kubeconfig")
    with serving(site.answer, tls) as url:
        site.kubeconfig.write_text(kubeconfig(url, roots.read_bytes()))
        (folder / "stranger").write_text(kubeconfig(url, roots.read_bytes(), "another"))
        yield site


@pytest.fixture
def site(running: Site) -> Site:
    running.api, running.refuses, running.loses = KubeAPI(), None, False
    return running


@pytest.fixture
def target(site: Site) -> Kubernetes:
    return Kubernetes(namespace="web", kubeconfig=site.kubeconfig)


class TestKubernetesContract(TargetContract):
    secrets = (TOKEN,)

    @pytest.fixture
    def target(self, target: Kubernetes, site: Site) -> Kubernetes:
        self.site = site
        return target

    def in_place(self, target: Kubernetes, name: str) -> Pair | None:
        time.sleep(0.001)
        if f"{name}-tls" not in self.site.api.secrets:
            return None
        there = self.site.secret(f"{name}-tls")
        return Pair(there["tls.crt"], there["tls.key"])

    @contextlib.contextmanager
    def out_of_order(self, target: Kubernetes) -> Iterator[None]:
        self.site.api.verbs = frozenset({"get"})
        yield
        self.site.api.verbs = KubeAPI().verbs

    def writes(self, target: Kubernetes) -> int:
        return self.site.api.patches


def test_it_is_a_tls_secret_that_says_whose_it_is(target: Kubernetes, site: Site) -> None:
    wanted = bundle("www", 7)
    target.deploy(wanted)
    there = site.api.secrets["www-tls"]
    assert there["type"] == "kubernetes.io/tls"
    assert there["metadata"] == {
        "name": "www-tls",
        "labels": {"app.kubernetes.io/managed-by": "certd"},
        "annotations": {
            "certd/fingerprint": wanted.certificate.fingerprint,
            "certd/version": "7",
        },
    }
    assert site.api.owners["www-tls"].keys() == {"certd"}


def test_what_others_have_in_it_stays_theirs(target: Kubernetes, site: Site) -> None:
    target.deploy(bundle("www", 1))
    note = ("metadata", "annotations", "note")
    site.api.edit("kubectl-edit", "www-tls", {note: "of the operator's"})
    target.deploy(bundle("www", 2))
    assert site.api.secrets["www-tls"]["metadata"]["annotations"]["note"] == "of the operator's"


def test_what_others_have_in_its_data_does_not_have_it_sent_again(
    target: Kubernetes, site: Site
) -> None:
    wanted = bundle("www", 1)
    target.deploy(wanted)
    site.api.edit("trust", "www-tls", {("data", "ca.crt"): base64.b64encode(b"roots").decode()})
    target.deploy(wanted)
    assert site.api.patches == 1
    assert site.secret()["ca.crt"] == "roots"


def test_nothing_is_taken_from_another_who_is_named(target: Kubernetes, site: Site) -> None:
    wanted, theirs = bundle("www", 1), bundle("www", 1)
    target.deploy(wanted)
    encoded = base64.b64encode(theirs.key_pem.reveal().encode()).decode()
    site.api.edit("kubectl-edit", "www-tls", {("data", "tls.key"): encoded})
    assert target.serving("www") == ""
    with pytest.raises(TargetError) as refused:
        target.deploy(wanted)
    assert not isinstance(refused.value, TargetBusy)
    assert 'conflict with "kubectl-edit" using v1: .data.tls.key' in refused.value.why
    assert "let kubectl-edit leave these fields alone" in refused.value.next
    assert site.secret()["tls.key"] == theirs.key_pem.reveal()
    del site.api.secrets["www-tls"], site.api.owners["www-tls"]
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


def test_a_secret_of_another_type_is_told(target: Kubernetes, site: Site) -> None:
    site.api.secrets["www-tls"] = {"metadata": {"name": "www-tls"}, "type": "Opaque", "data": {}}
    assert target.serving("www") == ""
    with pytest.raises(TargetError, match=r"immutable; a Secret of another type must be deleted"):
        target.deploy(bundle())


def test_what_is_not_there_or_not_allowed_is_told(
    target: Kubernetes, site: Site, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=r'"other" not found; make the namespace'):
        replace(target, namespace="other").deploy(bundle())
    stranger = replace(target, kubeconfig=site.kubeconfig.with_name("stranger"))
    with pytest.raises(TargetError, match=r"401.*correct the token or the certificate"):
        stranger.serving("www")
    site.api.verbs = frozenset({"get", "patch"})
    with pytest.raises(
        TargetError, match=r"403.*create; give its account a Role in web: secrets, \[get,"
    ):
        target.deploy(bundle())
    with pytest.raises(TargetError, match="correct it, or context"):
        replace(target, context="another").deploy(bundle())
    (tmp_path / "kubeconfig").write_text("{}")
    with pytest.raises(TargetError, match="correct it, or context"):
        replace(target, kubeconfig=tmp_path / "kubeconfig").deploy(bundle())
    with pytest.raises(TargetError, match="set kubeconfig, or run certd in the cluster"):
        replace(target, kubeconfig=None).deploy(bundle())


def test_in_a_pod_its_service_account_is_taken(
    target: Kubernetes, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    _, _, address = kubeconfig_server(site).partition("://")
    host, port = address.split(":")
    (tmp_path / "token").write_text(TOKEN)
    roots = site.kubeconfig.with_name("certificate.pem")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(roots))
    wanted = bundle()
    replace(target, kubeconfig=None).deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


def kubeconfig_server(site: Site) -> str:
    import json

    url: str = json.loads(site.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    return url


@pytest.mark.parametrize(("code", "wait"), [(429, 7.0), (500, None), (503, None), (504, None)])
def test_what_passes_is_busy(target: Kubernetes, site: Site, code: int, wait: float | None) -> None:
    headers = {"Retry-After": "7"} if wait else {}
    site.refuses = Response(code, {"kind": "Status", "message": "later"}, headers)
    with pytest.raises(TargetBusy, match=f"{code}: later") as busy:
        target.deploy(bundle())
    assert busy.value.retry_after == wait


def test_an_answer_that_is_lost_is_not_sent_for_again(target: Kubernetes, site: Site) -> None:
    site.loses = True
    wanted = bundle()
    with pytest.raises(TargetBusy, match="no answer"):
        target.deploy(wanted)
    target.deploy(wanted)
    assert site.api.patches == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("namespace", "Web"),
        ("secret", "{name}_tls"),
        ("secret", "{nam}"),
        ("kubeconfig", Path("/no/such/file")),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        Kubernetes.__dataclass_fields__[setting].metadata["check"](value)
    assert f"{refused.value}"


def test_without_the_client_it_is_said_how_to_get_it(
    target: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(TargetError, match=r"pip install 'certd\[kubernetes\]'"):
        target.deploy(bundle())
