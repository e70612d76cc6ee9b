"""The vault target against a real OpenBao."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from certd_deploy.vault import Vault
from certd_providers.rest import API
from tests.dnsb_http import Lost, Request, Response, serving

from certd.api import ConfigError, Secret, SecretReference, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.openbao import ROOT_TOKEN, Bao
from certd.testing.targets import Pair, TargetContract

_FOLDERS = itertools.count(1)
POLICY = 'path "secret/data/certd/*" { capabilities = ["create", "read", "update"] }'


def plain(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


@dataclass(frozen=True)
class Site:
    bao: Bao
    role: str
    role_secret: str

    def read(self, path: str, namespace: str = "") -> Any:
        answer = self.bao.call("GET", f"{namespace}secret/data/{path}")
        return answer.json()["data"] if answer.ok else None

    def tokens(self) -> int:
        return len(self.bao.call("LIST", "auth/token/accessors").json()["data"]["keys"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Bao(tmp_path_factory.mktemp("bao")) as bao:
        bao.write("sys/policies/acl/certd", policy=POLICY)
        bao.write("sys/policies/acl/reader", policy=POLICY.replace('"create", ', ""))
        bao.write("sys/auth/approle", type="approle")
        bao.write("auth/approle/role/certd", token_policies=["certd"])
        role = bao.call("GET", "auth/approle/role/certd/role-id").json()["data"]["role_id"]
        secret = bao.call("POST", "auth/approle/role/certd/secret-id").json()["data"]["secret_id"]
        yield Site(bao, role, secret)


@pytest.fixture
def target(site: Site) -> Vault:
    """By its AppRole, in a folder that no other test has."""
    return Vault(
        url=site.bao.address_of_api,
        role=site.role,
        role_secret=plain(site.role_secret),
        path=f"certd/{next(_FOLDERS)}/{{name}}",
        roots=site.bao.ca_bundle,
    )


def path(target: Vault, name: str = "www") -> str:
    return target.path.replace("{name}", name)


class TestVaultContract(TargetContract):
    @pytest.fixture
    def target(self, target: Vault, site: Site) -> Vault:
        self.site = site
        TestVaultContract.secrets = (site.role_secret,)
        return target

    def in_place(self, target: Vault, name: str) -> Pair | None:
        time.sleep(0.001)
        found = self.site.read(path(target, name))
        return Pair(found["data"]["fullchain"], found["data"]["key"]) if found else None

    @contextlib.contextmanager
    def out_of_order(self, target: Vault) -> Iterator[None]:
        self.site.bao.seal()
        try:
            yield
        finally:
            self.site.bao.unseal()

    def writes(self, target: Vault) -> int:
        version: int = self.site.read(path(target))["metadata"]["version"]
        return version


def test_a_sealed_one_is_busy(target: Vault, site: Site) -> None:
    site.bao.seal()
    try:
        with pytest.raises(TargetBusy, match=r"503.*sealed"):
            target.deploy(bundle())
        with pytest.raises(TargetBusy):
            replace(target, role=None, role_secret=None, token=plain(ROOT_TOKEN)).serving("www")
    finally:
        site.bao.unseal()


def test_the_token_of_an_approle_ends_with_its_use(target: Vault, site: Site) -> None:
    before = site.tokens()
    target.deploy(bundle())
    target.serving("www")
    assert site.tokens() == before


def test_what_else_is_in_the_secret_stays(target: Vault, site: Site) -> None:
    site.bao.write(f"secret/data/{path(target)}", data={"note": "of the operator's", "key": "old"})
    wanted = bundle("www", 7)
    target.deploy(wanted)
    assert site.read(path(target))["data"] == {
        "note": "of the operator's",
        "name": "www",
        "version": "7",
        "fingerprint": wanted.certificate.fingerprint,
        "fullchain": wanted.fullchain_pem,
        "cert": wanted.leaf_pem,
        "chain": wanted.chain_pem,
        "key": wanted.key_pem.reveal(),
    }


def test_half_of_a_pair_is_not_served_and_is_put_right(target: Vault, site: Site) -> None:
    wanted = bundle()
    target.deploy(wanted)
    there = site.read(path(target))["data"]
    other = {**there, "key": bundle().key_pem.reveal()}
    site.bao.write(f"secret/data/{path(target)}", data=other)
    assert target.serving("www") is None
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


@pytest.mark.parametrize("how", ["deleted", "destroyed"])
def test_after_a_deletion_it_is_written_anew(target: Vault, site: Site, how: str) -> None:
    wanted = bundle()
    target.deploy(wanted)
    if how == "deleted":
        site.bao.call("DELETE", f"secret/data/{path(target)}")
    else:
        site.bao.write(f"secret/destroy/{path(target)}", versions=[1])
    assert target.serving("www") is None
    assert target.recover("www") is None
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint
    assert site.read(path(target))["metadata"]["version"] == 2


def test_who_writes_in_between_is_read_again_and_not_overwritten(
    target: Vault, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody adds a key of theirs after certd has read, each time but the last."""
    read, wanted, times = Vault._read, bundle(), iter((1, 2))

    def interrupted(self: Vault, api: API, name: str) -> Any:
        found = read(self, api, name)
        if (number := next(times, None)) is not None:
            theirs = {f"theirs{one}": "kept" for one in range(1, number + 1)}
            site.bao.write(f"secret/data/{path(target)}", data=theirs)
        return found

    monkeypatch.setattr(Vault, "_read", interrupted)
    target.deploy(wanted)
    there = site.read(path(target))["data"]
    assert (there["theirs1"], there["theirs2"]) == ("kept", "kept")
    assert there["fullchain"] == wanted.fullchain_pem


def test_who_writes_all_the_time_is_not_fought(
    target: Vault, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Vault._read

    def interrupted(self: Vault, api: API, name: str) -> Any:
        found = read(self, api, name)
        site.bao.write(f"secret/data/{path(target)}", data={"theirs": "kept"})
        return found

    monkeypatch.setattr(Vault, "_read", interrupted)
    with pytest.raises(TargetBusy, match="somebody else wrote there each time"):
        target.deploy(bundle())
    assert site.read(path(target))["data"] == {"theirs": "kept"}


def test_a_token_that_may_not_write_is_told_the_policy(target: Vault, site: Site) -> None:
    made = site.bao.call("POST", "auth/token/create", {"policies": ["reader"]}).json()
    token = made["auth"]["client_token"]
    reader = replace(target, role=None, role_secret=None, token=plain(token))
    with pytest.raises(TargetError) as refused:
        reader.deploy(bundle())
    assert not isinstance(refused.value, TargetBusy)
    wanted = f'path "secret/data/{path(target)}" {{ capabilities = ["create", "read", "update"] }}'
    assert wanted in refused.value.next
    assert token not in f"{refused.value!r}"
    with pytest.raises(TargetError, match="policy"):
        replace(reader, token=plain("s.unknown")).serving("www")


def test_an_approle_that_is_refused_is_told(target: Vault) -> None:
    with pytest.raises(TargetError, match=r"refuses the AppRole: invalid.*secret_id") as refused:
        replace(target, role_secret=plain("guess-work")).deploy(bundle())
    assert "guess-work" not in f"{refused.value!r}"


def test_a_namespace_is_another_place(target: Vault, site: Site) -> None:
    if not site.bao.call("POST", "sys/namespaces/web", {}).ok:
        pytest.fail("this OpenBao has no namespaces")
    site.bao.write("web/sys/mounts/secret", type="kv", options={"version": "2"})
    apart = replace(target, namespace="web", role=None, role_secret=None, token=plain(ROOT_TOKEN))
    wanted = bundle()
    apart.deploy(wanted)
    assert apart.serving("www") == wanted.certificate.fingerprint
    assert target.serving("www") is None
    assert site.read(path(target), "web/")["data"]["fullchain"] == wanted.fullchain_pem
    assert apart.place("www") != target.place("www")


def test_a_standby_node_and_an_answer_that_is_lost() -> None:
    """What one node alone cannot show."""
    posts = list[Request]()

    def answer(request: Request) -> Response:
        if request.method == "POST":
            posts.append(request)
            raise Lost
        if not posts:
            return Response(404, {"errors": []})
        held = {"data": posts[-1].json["data"], "metadata": {"version": len(posts)}}
        return Response(200, {"data": held})

    wanted = bundle()
    with serving(answer) as url:
        target = Vault(url=url, token=plain("token-1"))
        with pytest.raises(TargetBusy, match="no answer"):
            target.deploy(wanted)
        target.deploy(wanted)
        assert [request.json["options"] for request in posts] == [{"cas": 0}]
        assert posts[0].headers["x-vault-token"] == "token-1"
    for status in (307, 429, 472, 473, 500, 502):
        moved = Response(status, {"errors": []}, {"Location": "https://other", "Retry-After": "3"})
        with serving(lambda _, moved=moved: moved) as url, pytest.raises(TargetBusy):  # type: ignore[misc]
            Vault(url=url, token=plain("token-1")).deploy(wanted)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("url", "http://vault.example.com:8200"),
        ("mount", "/secret"),
        ("mount", "secret/"),
        ("path", "certd/{nam}"),
        ("path", "a//b"),
        ("path", "../x"),
        ("namespace", ""),
        ("roots", Path("/dev/null")),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        Vault.__dataclass_fields__[setting].metadata["check"](value)
    assert refused.value.next


def test_one_way_to_log_in_is_needed(target: Vault) -> None:
    for wrong, said in (
        ({"role": None, "role_secret": None}, "neither"),
        ({"token": plain("t")}, "both"),
        ({"role_secret": None}, "go together"),
        ({"role": None, "token": plain("token-1")}, "go together"),
    ):
        with pytest.raises(ConfigError, match=said):
            replace(target, **wrong)
