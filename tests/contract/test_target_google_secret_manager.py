"""Secret Manager against a server that behaves as documented, in the forms of its discovery."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

import google_crc32c
import pytest
from certd_deploy import google_secret_manager
from certd_deploy.crc32c import crc32c
from certd_deploy.google_secret_manager import GoogleSecretManager

from certd.api import ConfigError, TargetBusy, TargetError, fingerprint
from certd.testing.chains import bundle
from certd.testing.targets import Pair
from tests.cloud_contract import CloudTargetContract
from tests.fake_google_account import PROJECT, status
from tests.fake_google_secrets import Secrets, forms
from tests.google_services import ROBOT, Service
from tests.http_server import Request, Response

SECRET = f"projects/{PROJECT}/secrets/certd-www"
# What GoogleSecretManager.credential says, and nothing else.
LEAST = (
    *(f"secretmanager.versions.{x}" for x in ("access", "add", "list", "disable", "destroy")),
    *(f"secretmanager.secrets.{x}" for x in ("create", "get", "update")),
)


@pytest.fixture
def google() -> Secrets:
    return Secrets(forms())


@pytest.fixture
def fake(google: Secrets) -> Iterator[Service]:
    with Service(google, *LEAST).open() as service:
        yield service


def made(fake: Service, **settings: Any) -> GoogleSecretManager:
    return GoogleSecretManager(fake.account, url=fake.url, **settings)


@pytest.fixture
def target(fake: Service) -> GoogleSecretManager:
    return made(fake)


def read_pem(text: str) -> Pair:
    certificates, begin, key = text.partition("-----BEGIN PRIVATE KEY-----\n")
    return Pair(certificates, begin + key)


class TestSecretManager(CloudTargetContract):
    module: ClassVar[ModuleType] = google_secret_manager
    refused: ClassVar[str] = "it lacks secretmanager.versions.add"
    secrets: ClassVar[tuple[str, ...]] = ("token-1",)
    version = "latest"

    @pytest.fixture(autouse=True)
    def _google(self, google: Secrets) -> None:
        self.google = google

    def in_place(self, target: Any, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        secret = f"projects/{PROJECT}/secrets/certd-{name}"
        aliases = self.google.secrets.get(secret, {}).get("versionAliases", {})
        there = [at for at in list(self.google.data) if at.startswith(f"{secret}/")]
        if self.version != "latest":
            there = [f"{secret}/versions/{aliases[self.version]}"] if aliases else []
        return read_pem(self.google.data[there[-1]].decode()) if there else None

    def forbid(self) -> None:
        self.google.may[ROBOT] = frozenset(
            one for one in LEAST if one.endswith((".access", ".get", ".list"))
        )


class TestAlias(TestSecretManager):
    """Readers are given the alias; and old versions are destroyed."""

    version = "live"

    @pytest.fixture
    def target(self, fake: Service) -> GoogleSecretManager:
        return made(fake, alias="live", old="destroy")

    def tidies(self, request: Request) -> bool:
        return request.path.endswith(":destroy")


def test_googles_own_client_reads_what_was_written(
    fake: Service, target: GoogleSecretManager
) -> None:
    target.deploy(bundle("www", 1))
    wanted = bundle("www", 2)
    target.deploy(wanted)
    with fake.official("secretmanager", "secretmanager.versions.access") as client:
        versions = client.projects().secrets().versions()
        found = versions.access(name=f"{SECRET}/versions/latest").execute()
    assert found["name"] == f"{SECRET}/versions/2"
    text = base64.b64decode(found["payload"]["data"])
    assert text.decode() == wanted.fullchain_pem + wanted.key_pem.reveal()
    assert int(found["payload"]["dataCrc32c"]) == google_crc32c.value(text)
    assert fingerprint(text.decode()) == target.serving("www")


@pytest.mark.parametrize("data", [b"", b"123456789", bytes(range(256)) * 3])
def test_the_checksum_is_googles(data: bytes) -> None:
    assert crc32c(data) == google_crc32c.value(data)


def test_as_json_it_has_its_parts(fake: Service, google: Secrets) -> None:
    one, wanted = made(fake, format="json"), bundle()
    one.deploy(wanted)
    parts = json.loads(google.data[f"{SECRET}/versions/1"])
    assert parts == {
        "certificate": wanted.leaf_pem,
        "chain": wanted.chain_pem,
        "fullchain": wanted.fullchain_pem,
        "private_key": wanted.key_pem.reveal(),
    }
    pair = one.recover("www")
    assert pair is not None
    assert (pair.fullchain_pem, pair.key_pem) == (wanted.fullchain_pem, wanted.key_pem)
    assert one.serving("www") == wanted.certificate.fingerprint


def test_a_secret_that_somebody_made_is_filled(google: Secrets, fake: Service) -> None:
    google.secrets[SECRET] = {"name": SECRET, "labels": {"team": "web"}, "etag": '"0"'}
    wanted = bundle()
    made(fake, labels={"a": "b"}).deploy(wanted)
    assert google.secrets[SECRET]["labels"] == {"team": "web"}
    made(fake, secret="shop-{name}", labels={"a": "b"}).deploy(wanted)
    labels = google.secrets[f"projects/{PROJECT}/secrets/shop-www"]["labels"]
    assert labels == {"managed-by": "certd", "a": "b"}


def test_who_may_make_no_secret_fills_one_that_is_there(google: Secrets, fake: Service) -> None:
    """With the roles on that secret only."""
    google.may[ROBOT] = frozenset(LEAST) - {"secretmanager.secrets.create"}
    target = made(fake)
    with pytest.raises(TargetError) as refused:
        target.deploy(bundle())
    assert "it lacks secretmanager.secrets.create" in refused.value.next
    google.secrets[SECRET] = {"name": SECRET, "etag": '"0"'}
    for version in ("1", "2"):
        target.deploy(bundle())
        assert google.numbers("certd-www", "ENABLED") == [version]
        google.versions[f"{SECRET}/versions/{version}"]["state"] = "DISABLED"


@pytest.mark.parametrize(
    ("old", "enabled", "disabled", "destroyed"),
    [
        ("keep", ["1", "2", "3", "4"], [], []),
        ("disable", ["3", "4"], ["1", "2"], []),
        ("destroy", ["3", "4"], [], ["1", "2"]),
    ],
)
def test_what_becomes_of_old_versions(
    fake: Service,
    google: Secrets,
    old: str,
    enabled: list[str],
    disabled: list[str],
    destroyed: list[str],
) -> None:
    one = made(fake, old=old)
    for number in range(1, 5):
        one.deploy(bundle("www", number))
    assert google.numbers("certd-www", "ENABLED") == enabled
    assert google.numbers("certd-www", "DISABLED") == disabled
    assert google.numbers("certd-www", "DESTROYED") == destroyed


def test_what_is_to_be_destroyed_later_is_left_to_that(fake: Service, google: Secrets) -> None:
    google.delayed = True
    one = made(fake, old="destroy")
    for number in range(1, 6):
        one.deploy(bundle("www", number))
    assert google.numbers("certd-www", "ENABLED") == ["4", "5"]
    asked = [one.path.rpartition("/")[2] for one in fake.writes if one.path.endswith(":destroy")]
    assert asked == ["1:destroy", "2:destroy", "3:destroy"]


def test_a_version_with_an_alias_stays(fake: Service, google: Secrets) -> None:
    one = made(fake, alias="live", old="destroy")
    one.deploy(bundle("www", 1))
    google.secrets[SECRET]["versionAliases"]["theirs"] = "1"
    for number in (2, 3, 4, 5):
        one.deploy(bundle("www", number))
    assert google.secrets[SECRET]["versionAliases"] == {"live": "5", "theirs": "1"}
    assert google.numbers("certd-www", "ENABLED") == ["1", "4", "5"]


def test_old_versions_that_stay_are_no_reason_to_go_back(
    fake: Service, google: Secrets, caplog: pytest.LogCaptureFixture
) -> None:
    google.may[ROBOT] = frozenset(LEAST) - {"secretmanager.versions.destroy"}
    one = made(fake, old="destroy")
    for number in (1, 2, 3):
        wanted = bundle("www", number)
        one.deploy(wanted)
    assert one.serving("www") == wanted.certificate.fingerprint
    assert "secretmanager.versions.destroy" in caplog.text


def test_an_alias_that_somebody_changes_at_the_same_time(fake: Service, google: Secrets) -> None:
    one = made(fake, alias="live")
    one.deploy(bundle("www", 1))
    wanted = bundle("www", 2)

    def overtake(request: Request) -> Response:
        if request.method == "PATCH":
            fake.before = None
            aliases = {"live": "1", "theirs": "1"}
            google.secrets[SECRET] |= {"versionAliases": aliases, "etag": '"another"'}
        return google(request)

    fake.before = overtake
    with pytest.raises(TargetBusy, match="somebody else"):
        one.deploy(wanted)
    assert google.numbers("certd-www", "ENABLED") == ["1", "2"]
    one.deploy(wanted)
    assert google.secrets[SECRET]["versionAliases"] == {"live": "2", "theirs": "1"}
    assert google.numbers("certd-www", "ENABLED") == ["1", "2"], "it is not sent twice"


@pytest.mark.parametrize("form", ["combined", "key-first"])
def test_no_key_is_in_an_error_that_repeats_the_payload(fake: Service, form: str) -> None:
    def echo(request: Request) -> Response:
        if not request.path.endswith(":addVersion"):
            return fake.answer(request)
        sent.append(request.json["payload"]["data"])
        return status(400, "INVALID_ARGUMENT", f'Base64 decoding failed for "{sent[0]}"')

    sent: list[str] = []
    fake.before = echo
    with pytest.raises(TargetError, match="decoding failed") as refused:
        made(fake, format=form).deploy(bundle())
    assert sent[0][:40] not in str(refused.value)


def test_the_latest_takes_its_time(target: GoogleSecretManager, google: Secrets) -> None:
    target.deploy(bundle("www", 1))
    google.late = 3
    wanted = bundle("www", 2)
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


def test_a_latest_that_nobody_may_read_is_followed_by_another(
    target: GoogleSecretManager, google: Secrets
) -> None:
    wanted = bundle()
    target.deploy(wanted)
    google.versions[f"{SECRET}/versions/1"]["state"] = "DISABLED"
    assert target.serving("www") == ""
    target.deploy(wanted)
    assert google.numbers("certd-www", "ENABLED") == ["2"]


def test_a_payload_that_was_damaged_is_not_believed(
    fake: Service, target: GoogleSecretManager, google: Secrets
) -> None:
    target.deploy(bundle())
    damaged = {"data": base64.b64encode(b"x").decode(), "dataCrc32c": "1"}
    answer = {"name": f"{SECRET}/versions/1", "payload": damaged}
    fake.fault(Response(200, answer))
    with pytest.raises(TargetBusy, match="damaged"):
        target.serving("www")
    unchecked = {"name": f"{SECRET}/versions/2", "state": "ENABLED"}
    fake.fault(Response(200, unchecked), writing=True)
    with pytest.raises(TargetBusy, match="did not check"):
        target.deploy(bundle("www", 2))


def test_what_is_no_pair_cannot_come_back(target: GoogleSecretManager, google: Secrets) -> None:
    target.deploy(bundle())
    for data in (b"hunter2", b"{}", b"[]", b"\xff"):
        google.data[f"{SECRET}/versions/1"] = data
        assert target.serving("www") == ""
        with pytest.raises(TargetError, match="neither PEM nor JSON") as refused:
            target.recover("www")
        assert "hunter2" not in str(refused.value)


def test_a_chain_that_is_too_long(target: GoogleSecretManager, fake: Service) -> None:
    wanted = bundle()
    wanted = dataclasses.replace(wanted, chain_pem=wanted.chain_pem * 200)
    with pytest.raises(TargetError, match="too large"):
        target.deploy(wanted)
    assert not fake.requests


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("secret", "certd/{name}"),
        ("secret", "a" * 250 + "{name}"),
        ("format", "der"),
        ("alias", "latest"),
        ("alias", "1st"),
        ("old", "remove"),
        ("labels", {"Team": "web"}),
        ("labels", {"team": "Web"}),
        ("url", "http://example.com"),
    ],
)
def test_settings_that_cannot_be(setting: str, value: Any) -> None:
    check = GoogleSecretManager.__dataclass_fields__[setting].metadata["check"]
    with pytest.raises(ConfigError):
        check(value)
