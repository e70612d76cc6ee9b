"""The ssh target against a real OpenSSH server that runs without root."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from asyncssh import SFTPClientFile
from certd_deploy.folders import Content
from certd_deploy.sftp import RemoteFolder
from certd_deploy.ssh import SSH

from certd import failpoint as failpoints
from certd.api import ConfigError, Secret, SecretReference, TargetError
from certd.testing.chains import bundle
from certd.testing.openssh import OpenSSH
from certd.testing.targets import Pair, TargetContract
from tests.servers import read_in_place
from tests.sshtargets import folder, to


@pytest.fixture(scope="module")
def server() -> Iterator[OpenSSH]:
    with OpenSSH() as running:
        yield running


@pytest.fixture
def target(server: OpenSSH) -> SSH:
    return to(server)


class TestSSHContract(TargetContract):
    @pytest.fixture
    def target(self, target: SSH) -> SSH:
        return target

    def in_place(self, target: SSH, name: str) -> Pair | None:
        time.sleep(0.001)  # looks without a pause starve the event loop of a deployment
        return read_in_place(folder(target, name))

    @contextlib.contextmanager
    def out_of_order(self, target: SSH) -> Iterator[None]:
        """Somebody took the right to write away."""
        versions = folder(target) / "versions"
        versions.chmod(0o555)
        try:
            yield
        finally:
            versions.chmod(0o755)

    def writes(self, target: SSH) -> int:
        """What is in its folders: whatever was made or written has changed it."""
        files = folder(target).parent.rglob("*")
        return hash(
            frozenset((path, path.lstat().st_ino, path.lstat().st_mtime_ns) for path in files)
        )


def test_the_layout_is_that_of_the_disk_target(target: SSH) -> None:
    for number in (1, 2, 3, 4, 5, 6):
        replace(target, mode="0640").deploy(bundle("www", number))
    there = folder(target)
    assert os.readlink(there / "current") == "versions/6"
    assert {path.name for path in there.iterdir()} == {"current", "versions"}
    assert {path.name for path in (there / "versions").iterdir()} == {"4", "5", "6"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (there / "current").iterdir()}
    public = dict.fromkeys(("cert.pem", "chain.pem", "fullchain.pem"), 0o644)
    assert modes == {"privkey.pem": 0o640, **public}


def test_a_file_is_closed_to_others_before_it_has_its_owner_and_content(
    target: SSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = dict[str, tuple[int, int]]()
    settle = RemoteFolder._settle

    async def watched(self: RemoteFolder, file: SFTPClientFile, content: Content) -> None:
        new = Path(self.path).glob("versions/.*/*")
        seen.update({one.name: (one.stat().st_mode, one.stat().st_size) for one in new})
        monkeypatch.setattr(RemoteFolder, "_settle", settle)  # the first of them is the key
        await settle(self, file, content)

    monkeypatch.setattr(RemoteFolder, "_settle", watched)
    target.deploy(bundle())
    assert seen == {"privkey.pem": (stat.S_IFREG | 0o600, 0)}


def test_a_changed_mode_is_applied_to_what_is_in_place(target: SSH) -> None:
    wanted = bundle()
    target.deploy(wanted)
    key = folder(target) / "current/privkey.pem"
    before = key.stat().st_ino
    replace(target, mode="0640").deploy(wanted)
    assert (key.stat().st_ino, stat.S_IMODE(key.stat().st_mode)) == (before, 0o640)


def test_files_of_other_formats_are_beside_the_four(target: SSH) -> None:
    """One that is missing, or is of another pair, is no version that is in place."""
    password = SecretReference("plain", Secret("changeit"))
    files = {"site.pem": "combined", "site.p12": "pkcs12"}
    more = replace(target, files=files, password=password, mode="0640")
    wanted, there = bundle("www", 1), folder(target) / "current"
    target.deploy(wanted)
    assert more.serving("www") == ""
    more.deploy(wanted)
    assert more.serving("www") == wanted.certificate.fingerprint
    assert (there / "site.pem").read_text() == wanted.fullchain_pem + wanted.key_pem.reveal()
    assert stat.S_IMODE((there / "site.p12").stat().st_mode) == 0o640
    written = (there / "site.p12").stat().st_ino
    more.deploy(wanted)
    assert (there / "site.p12").stat().st_ino == written, "drawn anew, though it was right"
    for damage in (there / "site.p12").unlink, lambda: (there / "site.pem").write_text("other"):
        damage()
        assert more.serving("www") == ""
        more.deploy(wanted)
        assert more.serving("www") == wanted.certificate.fingerprint
    pair = more.recover("www")
    assert pair is not None
    assert pair.fullchain_pem == wanted.fullchain_pem


def test_a_password_that_has_no_use_or_is_missing_is_refused(target: SSH) -> None:
    with pytest.raises(ConfigError, match="password is missing"):
        replace(target, files={"site.p12": "pkcs12"})
    with pytest.raises(ConfigError, match="password has no use"):
        replace(target, password=SecretReference("plain", Secret("changeit")))


def test_a_group_that_the_user_is_not_in_is_told(target: SSH) -> None:
    with pytest.raises(TargetError, match=r"owner of the files.*group 4321.*a member of"):
        replace(target, group=4321).deploy(bundle())
    assert target.serving("www") == ""


def test_what_is_no_pair_any_more_is_not_served(target: SSH) -> None:
    first, other = bundle("www", 1), bundle("www", 1)
    target.deploy(first)
    (folder(target) / "current/privkey.pem").write_text(other.key_pem.reveal())
    assert target.serving("www") == ""
    target.deploy(first)
    assert target.serving("www") == first.certificate.fingerprint


def test_what_stands_in_the_place_of_the_link_is_left_there(target: SSH, server: OpenSSH) -> None:
    target.deploy(bundle("www", 1))
    current = folder(target) / "current"
    current.unlink()
    current.write_text("of somebody else")
    with pytest.raises(TargetError, match="not a link of certd's; move it away"):
        target.deploy(bundle("www", 2))
    assert current.read_text() == "of somebody else"


@pytest.mark.fault(row=41)
def test_killed_anywhere_a_pair_is_in_place_and_the_next_run_goes_on(
    target: SSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    for point in (
        "ssh: version is complete, without its name",
        "ssh: version written",
        "ssh: link is made, not switched",
        "ssh: link switched",
    ):
        first, second = bundle("www", 1), bundle("www", 2)
        target.deploy(first)
        monkeypatch.setattr(failpoints, "_KILL_AT", point)
        if (child := os.fork()) == 0:
            try:
                target.deploy(second)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        monkeypatch.undo()
        pair = read_in_place(folder(target))
        assert pair is not None
        assert target.serving("www") == pair.fingerprint
        target.deploy(second)
        assert target.serving("www") == second.certificate.fingerprint
        names = [path.name for path in folder(target).rglob("*")]
        assert not [name for name in names if re.search(r"tmp$", name)]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("host", "-oProxyCommand=x"),
        ("host", "ssh://host"),
        ("port", 0),
        ("path", "tls/{name}"),
        ("path", "/tls/{nam}"),
        ("host_key", "SHA256:abc"),
        ("host_key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("group", -1),
        ("reload", (" ",)),
        ("test", (" ",)),
        ("files", {"privkey.pem": "key"}),
        ("reload_timeout", 0.0),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        SSH.__dataclass_fields__[setting].metadata["check"](value)
    assert refused.value.next
