"""Which trust store a system has, and whose browsers are meant."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from certd import trust
from certd.errors import CertdError

ROOT = trust.Root("certd local root 1a2b3c4d", "1a2b3c4d", "-----BEGIN")


@pytest.mark.parametrize(
    ("folder", "program", "suffix", "command"),
    [
        ("usr/local/share/ca-certificates", "update-ca-certificates", ".crt", ""),
        ("etc/pki/ca-trust/source/anchors", "update-ca-trust", ".pem", " extract"),
        ("etc/ca-certificates/trust-source/anchors", "trust", ".crt", " extract-compat"),
        ("usr/share/pki/trust/anchors", "update-ca-certificates", ".pem", ""),
    ],
    ids=["Debian", "RHEL", "Arch", "SUSE"],
)
def test_each_family_has_its_place_and_its_tool(
    tmp_path: Path, folder: str, program: str, suffix: str, command: str
) -> None:
    tool = tmp_path / program
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    with pytest.raises(CertdError, match="this system's trust store is not known"):
        list(trust.system(ROOT, install=True, top=tmp_path, programs=str(tmp_path)))
    (tmp_path / folder).mkdir(parents=True)
    here = tmp_path / folder

    def steps(*, install: bool) -> list[str]:
        """All of them done; what they say."""
        found = list(trust.system(ROOT, install=install, top=tmp_path, programs=str(tmp_path)))
        changed = [step.act() for step in found]
        assert any(changed) == found[0].text.startswith(("write", "remove"))
        return [step.text for step in found]

    run = f"run {tool}{command}"
    assert steps(install=True) == [f"write {here}/certd-1a2b3c4d{suffix}", run]
    assert steps(install=False) == [f"remove {here}/certd-1a2b3c4d{suffix}", run]
    assert steps(install=False) == [f"find nothing to remove in {here}", run]
    # As it was called when the CA's name was a part of it.
    (here / f"certd-local-1a2b3c4d{suffix}").touch()
    (here / f"certd-local-5e6f7a8b{suffix}").touch()
    assert steps(install=True) == [f"write {here}/certd-local-1a2b3c4d{suffix}", run]
    assert steps(install=False) == [f"remove {here}/certd-local-1a2b3c4d{suffix}", run]
    assert [path.name for path in here.iterdir()] == [f"certd-local-5e6f7a8b{suffix}"]


def test_what_cannot_be_written_says_who_may(tmp_path: Path) -> None:
    (tmp_path / "usr/local/share/ca-certificates").mkdir(parents=True)
    tool = tmp_path / "update-ca-certificates"
    tool.write_text("#!/bin/sh\necho out; echo its words >&2; exit 3\n")
    tool.chmod(0o755)
    write, run = trust.system(ROOT, install=True, top=tmp_path, programs=str(tmp_path))
    with pytest.raises(CertdError, match="update-ca-certificates failed: its words; try it: /"):
        run.act()
    (tmp_path / "usr/local/share/ca-certificates").rmdir()
    with pytest.raises(CertdError, match=r"was not written.*run it as root \(sudo\)"):
        write.act()


def test_without_sudo_it_is_who_runs_it() -> None:
    assert trust.person({"HOME": "/home/me"}) == trust.Person(Path("/home/me"))
    assert trust.person({"HOME": "/home/me", "SUDO_UID": "0"}).uid is None
    assert trust.person({"HOME": "/home/me", "SUDO_UID": "no number"}).uid is None


@pytest.mark.skipif(os.geteuid() != 0, reason="sudo makes root of somebody")
def test_under_sudo_it_is_who_called_it() -> None:
    nobody = pwd.getpwnam("nobody")
    found = trust.person({"HOME": "/root", "SUDO_UID": str(nobody.pw_uid)})
    assert found == trust.Person(Path(nobody.pw_dir), nobody.pw_uid, nobody.pw_gid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_what_is_done_for_another_is_done_as_that_one(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    whose = trust.Person(tmp_path, nobody.pw_uid, nobody.pw_gid)
    with pytest.raises(CertdError, match=f"failed: {nobody.pw_uid} {nobody.pw_gid} {tmp_path}"):
        trust._run(["/bin/sh", "-c", 'echo "$(id -u) $(id -G) $HOME" >&2; exit 1'], whose)
