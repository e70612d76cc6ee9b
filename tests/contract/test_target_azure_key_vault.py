"""Azure Key Vault by Microsoft's own library, against a server that behaves as its reference."""

from __future__ import annotations

import hashlib
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from azure.core.credentials import AccessToken
from azure.keyvault.certificates import CertificateClient
from certd_deploy import azure_key_vault
from certd_deploy.azure_key_vault import AzureKeyVault
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from certd.api import ConfigError, Managed, Secret, TargetBusy, TargetError
from certd.testing.chains import Authority, bundle
from certd.testing.targets import Pair
from certd.x509 import facts, new_key
from tests.cloud_contract import CloudTargetContract
from tests.fake_api import FakeAPI
from tests.fake_azure_account import TENANT
from tests.fake_azure_vault import HOST, PEM, PKCS12, Vault, problem
from tests.google_services import secret
from tests.http_server import Request, Response, own_tls, serving


class Service(FakeAPI):
    def __init__(self, vault: Vault) -> None:
        super().__init__()
        self.vault = vault
        vault.application("certd", "open sesame", "read", "import")

    def concerns(self, request: Request) -> bool:
        """The first of a client has no token: it is there to be told where to get one."""
        return request.path.startswith("/certificates") and "authorization" in request.headers

    def answer(self, request: Request) -> Response:
        return self.vault(request)


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, list[Service]]]:
    """Its address, what makes it trusted, and who answers there just now."""
    tls, trusted = own_tls(tmp_path_factory.mktemp("azure"), HOST)
    at_work: list[Service] = []
    with serving(lambda request: at_work[-1](request), tls) as url:
        yield url, trusted, at_work


@pytest.fixture
def fake(_server: tuple[str, Path, list[Service]], monkeypatch: pytest.MonkeyPatch) -> Service:
    url, trusted, at_work = _server
    asked = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        return asked("127.0.0.1" if host == HOST else host, *rest, **more)

    # The library wants the vault's name below that of the service.
    monkeypatch.setattr(socket, "getaddrinfo", here)
    monkeypatch.setenv("NO_PROXY", f"127.0.0.1,{HOST}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    at_work.append(Service(Vault(url=url)))
    return at_work[-1]


def made(fake: Service, **settings: Any) -> AzureKeyVault:
    given = {
        "vault": fake.vault.address,
        "tenant_id": TENANT,
        "client_id": "certd",
        "client_secret": secret("open sesame"),
        "authority": fake.vault.url,
    }
    return AzureKeyVault(**{**given, **settings})


@pytest.fixture
def target(fake: Service) -> AzureKeyVault:
    return made(fake)


class TestKeyVault(CloudTargetContract):
    module: ClassVar[ModuleType] = azure_key_vault
    refused: ClassVar[str] = "Key Vault Certificates Officer"
    secrets: ClassVar[tuple[str, ...]] = ("token-1", "open sesame")

    @pytest.fixture
    def target(self, fake: Service) -> AzureKeyVault:
        return made(fake, format="pem")  # PKCS#12 takes its time, by design

    @pytest.fixture(autouse=True)
    def _vault(self, fake: Service) -> None:
        self.vault = fake.vault

    def in_place(self, target: Any, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        pair = self.vault.pairs.get(f"certd-{name}")
        return Pair(*pair) if pair else None

    def forbid(self) -> None:
        self.vault.may["certd"] = ("read",)


def reader(fake: Service) -> CertificateClient:
    """Microsoft's own, as somebody who may read."""
    fake.vault.may["reader"] = ("read",)
    fake.vault.tokens["of a reader"] = "reader"

    class Credential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken("of a reader", int(time.time()) + 3600)

    return CertificateClient(fake.vault.address, Credential())


@pytest.mark.parametrize(("form", "content"), [("pkcs12", PKCS12), ("pem", PEM)])
def test_microsofts_own_client_reads_what_was_written(
    fake: Service, form: str, content: str
) -> None:
    target, wanted = made(fake, format=form), bundle()
    target.deploy(wanted)
    with reader(fake) as client:
        found = client.get_certificate("certd-www")
    assert found.cer is not None
    assert hashlib.sha256(found.cer).hexdigest() == target.serving("www")
    assert target.serving("www") == wanted.certificate.fingerprint
    assert found.policy is not None
    assert found.policy.content_type == content
    assert (found.policy.key_type, found.policy.key_curve_name) == ("EC", "P-256")
    assert found.policy.exportable
    assert found.properties is not None
    assert found.properties.tags == {"managed-by": "certd"}
    assert found.properties.x509_thumbprint == hashlib.sha1(found.cer).digest()


def test_each_bundle_is_a_version_and_tags_stay(fake: Service, target: AzureKeyVault) -> None:
    target.deploy(bundle("www", 1))
    fake.vault.versions["certd-www"][-1]["tags"]["team"] = "web"
    made(fake, tags={"stage": "test"}).deploy(bundle("www", 2))
    assert len(fake.vault.versions["certd-www"]) == 2
    tags = fake.vault.versions["certd-www"][-1]["tags"]
    assert tags == {"managed-by": "certd", "team": "web", "stage": "test"}


@pytest.mark.parametrize("form", ["pkcs12", "pem"])
@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p384"])
def test_keys_of_any_kind_and_form(fake: Service, form: str, kind: Any) -> None:
    """Also one that was brought along from elsewhere, in an older form."""
    key = new_key(kind)
    root = Authority.root()
    leaf = root.leaf(key, "www.example.com")
    whole: Any = load_pem_private_key(key.reveal().encode(), None)
    older = whole.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    text = leaf.public_bytes(Encoding.PEM).decode()
    wanted = replace(
        bundle(),
        leaf_pem=text,
        chain_pem="",
        key_pem=Secret(older.decode()),
        certificate=facts(leaf),
    )
    made(fake, format=form).deploy(wanted)
    assert fake.vault.pairs["certd-www"] == (text, key.reveal())
    props = fake.vault.versions["certd-www"][-1]["policy"]["key_props"]
    expected = {"kty": "RSA", "key_size": 2048} if "rsa" in kind else {"kty": "EC", "crv": "P-384"}
    assert expected.items() <= props.items()


def test_a_name_that_was_deleted_is_explained(fake: Service, target: AzureKeyVault) -> None:
    fake.vault.deleted.add("certd-www")
    with pytest.raises(TargetError, match="was deleted") as refused:
        target.deploy(bundle())
    assert not isinstance(refused.value, TargetBusy)
    assert "az keyvault certificate recover --vault-name certd --name" in refused.value.next
    assert "purge" in refused.value.next


@pytest.mark.parametrize(
    "inner", ["ObjectIsBeingDeleted", "ObjectIsBeingRecovered", ""], ids=["deleted", "back", "else"]
)
def test_a_conflict_that_passes(fake: Service, target: AzureKeyVault, inner: str) -> None:
    fake.fault(problem(409, "Conflict", inner), writing=True)
    with pytest.raises(TargetBusy):
        target.deploy(bundle())


@pytest.mark.parametrize(
    ("inner", "todo"), [("ForbiddenByFirewall", "firewall"), ("ForbiddenByConnection", "private")]
)
def test_a_refusal_that_is_not_about_the_role(
    fake: Service, target: AzureKeyVault, inner: str, todo: str
) -> None:
    fake.fault(problem(403, "Forbidden", inner))
    with pytest.raises(TargetError, match=inner) as refused:
        target.deploy(bundle())
    assert todo in refused.value.next


def test_what_an_issuer_renews_is_left_alone_and_told(fake: Service, target: AzureKeyVault) -> None:
    target.deploy(bundle("mail"))
    wanted = bundle()
    leaf = x509.load_pem_x509_certificate(wanted.leaf_pem.encode())
    for name, issuer in (("certd-www", "DigiCert-1"), ("own", "Self"), ("theirs", "Unknown")):
        fake.vault.add(name, leaf, policy={"issuer": {"name": issuer}})
    with pytest.raises(TargetError, match="DigiCert-1") as refused:
        target.deploy(bundle("www", 2))
    assert "another certificate" in refused.value.next
    until = leaf.not_valid_after_utc.astimezone(UTC)
    assert target.managed() == [
        Managed(
            fake.vault.versions[name][-1]["id"], ("www.example.com",), until, f"enabled ({issuer})"
        )
        for name, issuer in (("certd-www", "DigiCert-1"), ("own", "Self"))
    ]


def test_a_version_that_was_disabled_is_followed_by_another(
    fake: Service, target: AzureKeyVault
) -> None:
    wanted = bundle()
    target.deploy(wanted)
    fake.vault.versions["certd-www"][-1]["attributes"]["enabled"] = False
    assert target.serving("www") == ""
    target.deploy(wanted)
    assert len(fake.vault.versions["certd-www"]) == 2
    assert target.serving("www") == wanted.certificate.fingerprint


def test_what_was_imported_is_looked_at(fake: Service, target: AzureKeyVault) -> None:
    target.deploy(bundle("www", 1))
    fake.fault(Response(200, fake.vault.versions["certd-www"][-1]), writing=True)
    with pytest.raises(TargetError, match="does not understand"):
        target.deploy(bundle("www", 2))


def test_names_are_the_same_in_any_case(fake: Service, target: AzureKeyVault) -> None:
    first, second = (bundle(name, 1, "a.example.com") for name in ("www", "WWW"))
    assert target.place("www") == target.place("WWW")
    assert target.place("a.b") != target.place("a-b")
    target.deploy(first)
    assert target.serving("WWW") == first.certificate.fingerprint
    target.deploy(second)
    assert target.serving("www") == second.certificate.fingerprint


def test_a_server_of_another_domain_gets_no_token(fake: Service) -> None:
    with pytest.raises(TargetError):
        made(fake, vault=fake.vault.url).deploy(bundle())
    assert not fake.vault.tokens


def test_an_access_token_is_kept_until_it_is_refused(fake: Service, target: AzureKeyVault) -> None:
    target.deploy(bundle())
    assert len(fake.vault.tokens) == 1
    fake.vault.tokens.clear()
    with pytest.raises(TargetBusy, match="another access token"):
        target.serving("www")
    assert target.serving("www")


def test_without_microsofts_library(target: AzureKeyVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.keyvault.certificates", None)
    with pytest.raises(TargetError) as missing:
        target.deploy(bundle())
    assert missing.value.next == "pip install 'certd[azure]'"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("certificate", "certd_{name}"),
        ("certificate", "a" * 120 + "{name}"),
        ("format", "pfx"),
        ("vault", "http://web.vault.azure.net"),
        ("vault", "https://web.vault.azure.net/certificates"),
    ],
)
def test_settings_that_cannot_be(setting: str, value: str) -> None:
    check = AzureKeyVault.__dataclass_fields__[setting].metadata["check"]
    with pytest.raises(ConfigError):
        check(value)
