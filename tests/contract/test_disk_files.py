"""The disk target's files in other formats."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
from pathlib import Path
from typing import ClassVar

import pytest
from certd_deploy import folders
from certd_deploy.disk import Disk

from certd.api import (
    FORMATS,
    ConfigError,
    Secret,
    SecretReference,
    TargetBusy,
    TargetError,
    is_rendered,
)
from certd.errors import SecretError
from certd.testing.chains import bundle
from tests.contract import test_disk

PASSWORD = Secret("correct horse")
ALL = {f"site.{format}": format for format in FORMATS}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "password"
    place.write_text(PASSWORD.reveal())
    return place


@pytest.fixture
def target(tmp_path: Path, place: Path) -> Disk:
    return Disk(tmp_path / "{name}", files=ALL, password=SecretReference("file", place))


class TestDiskWithFiles(test_disk.TestDiskContract):
    """The contract, with a file of each format."""

    secrets: ClassVar[tuple[str, ...]] = (PASSWORD.reveal(),)

    @pytest.fixture
    def target(self, tmp_path: Path) -> Disk:
        password = SecretReference("plain", PASSWORD)
        return Disk(tmp_path / "tls" / "{name}", files=ALL, password=password)


def versions(folder: Path) -> dict[str, int]:
    """Each version's folder, and when its content was written."""
    return {each.name: each.stat().st_mtime_ns for each in (folder / "versions").iterdir()}


def test_every_format_is_beside_the_four(target: Disk, tmp_path: Path) -> None:
    one = bundle()
    target.deploy(one)
    current = tmp_path / "www/current"
    assert len(list(current.iterdir())) == 4 + len(FORMATS)
    for name, format in ALL.items():
        password = PASSWORD if FORMATS[format].password else None
        assert is_rendered((current / name).read_bytes(), one, format, password)
        mode = stat.S_IMODE((current / name).stat().st_mode)
        assert mode == (0o600 if FORMATS[format].key else 0o644)
    assert target.serving("www") == one.certificate.fingerprint


def test_deploying_it_again_writes_nothing_though_salts_differ(
    target: Disk, tmp_path: Path
) -> None:
    older, newer = bundle("www", 1), bundle("www", 2)
    target.deploy(older)
    target.deploy(newer)
    before = versions(tmp_path / "www")
    for one in (newer, older, newer):
        target.deploy(one)
    assert versions(tmp_path / "www") == before
    assert os.readlink(tmp_path / "www/current") == "versions/2"


def test_another_password_is_another_file(target: Disk, tmp_path: Path, place: Path) -> None:
    one = bundle()
    target.deploy(one)
    place.write_text("battery staple")
    assert target.serving("www") == ""
    target.deploy(one)
    data = (tmp_path / "www/current/site.pkcs12").read_bytes()
    assert is_rendered(data, one, "pkcs12", Secret("battery staple"))
    assert target.serving("www") == one.certificate.fingerprint


@pytest.mark.parametrize("name", ["site.combined", "site.pkcs12", "site.jks", "site.der"])
def test_what_somebody_changed_is_seen_and_put_right(
    target: Disk, tmp_path: Path, name: str
) -> None:
    one, file = bundle(), tmp_path / "www/current" / name
    target.deploy(one)
    file.write_bytes(b"something else")
    assert target.serving("www") == ""
    target.deploy(one)
    assert file.read_bytes() != b"something else"
    file.unlink()
    assert target.serving("www") == ""
    target.deploy(one)
    assert target.serving("www") == one.certificate.fingerprint


def test_a_file_more_in_the_settings_is_there_after_the_next_deployment(tmp_path: Path) -> None:
    one = bundle()
    Disk(tmp_path / "{name}").deploy(one)
    target = Disk(tmp_path / "{name}", files={"site.pem": "combined"})
    assert target.serving("www") == ""
    target.deploy(one)
    text = (tmp_path / "www/current/site.pem").read_text()
    assert text == one.fullchain_pem + one.key_pem.reveal()


def test_a_password_that_cannot_be_had_leaves_the_old_version(
    target: Disk, tmp_path: Path, place: Path
) -> None:
    target.deploy(bundle("www", 1))
    place.unlink()
    with pytest.raises(SecretError, match="was not fetched"):
        target.deploy(bundle("www", 2))
    assert os.readlink(tmp_path / "www/current") == "versions/1"


def test_without_a_key_there_are_only_files_without(target: Disk, tmp_path: Path) -> None:
    one = dataclasses.replace(bundle(), key_pem=Secret(""))
    with pytest.raises(TargetError, match="that holds the private key"):
        target.deploy(one)
    assert target.keyless is False
    public = Disk(tmp_path / "{name}", files={"leaf.der": "der", "all.pem": "fullchain"})
    assert public.keyless is True
    public.deploy(one)
    assert public.serving("www") == one.certificate.fingerprint


@pytest.mark.parametrize(
    ("name", "format", "said"),
    [
        ("../site.pem", "combined", "no plain file name"),
        ("sub/site.pem", "combined", "no plain file name"),
        ("/site.pem", "combined", "no plain file name"),
        (".site.pem", "combined", "no plain file name"),
        ("", "combined", "no plain file name"),
        ("a\nb", "combined", "no plain file name"),
        ("privkey.pem", "combined", "is there already"),
        ("fullchain.pem", "fullchain", "is there already"),
        ("no-privkey.txt", "key", "is there already"),
        ("site.p12", "pkcs-12", "did you mean pkcs12"),
        ("site.p12", "zip", "choose one of fullchain, cert"),
    ],
)
def test_wrong_files_are_explained(name: str, format: str, said: str) -> None:
    [check] = [one.metadata["check"] for one in dataclasses.fields(Disk) if one.name == "files"]
    with pytest.raises(ConfigError, match=said):
        check({name: format})


def test_a_password_belongs_to_files_that_have_one(tmp_path: Path, place: Path) -> None:
    with pytest.raises(ConfigError, match=r"password is missing: a\.p12 is pkcs12"):
        Disk(tmp_path, files={"a.p12": "pkcs12"})
    with pytest.raises(ConfigError, match="password has no use"):
        Disk(tmp_path, files={"a.pem": "key"}, password=SecretReference("file", place))


def test_the_password_is_not_shown(tmp_path: Path) -> None:
    plain = SecretReference("plain", PASSWORD)
    assert PASSWORD.reveal() not in repr(Disk(tmp_path, files=ALL, password=plain))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("file", ["privkey.pem", "site.combined"])
def test_what_cannot_be_looked_at_is_not_taken_for_served(
    target: Disk, monkeypatch: pytest.MonkeyPatch, number: int, file: str
) -> None:
    """Nor for lost: it is said, and looked at again."""
    wanted, read = bundle(), folders.read
    target.deploy(wanted)

    def unreadable(name: str, folder: int) -> bytes:
        if name == file:
            raise OSError(number, os.strerror(number))
        return read(name, folder)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(folders, "read", unreadable)
        with pytest.raises(TargetBusy, match=os.strerror(number)):
            target.serving("www")
    assert target.serving("www") == wanted.certificate.fingerprint
