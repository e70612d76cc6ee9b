"""Disks that are full, read-only, or fail: on file systems of our own, and by strace."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certd.room import lack
from certd.testing.pebble import Pebble
from certd.testing.processes import NotInstalled
from tests.site import Site

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """``mount(folder, "size=1m")``: a file system in memory, in a folder that is made."""
    mounted: list[Path] = []

    def mount(folder: Path, options: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            raise NotInstalled("the right to mount", "not root", "run the tests as root")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "certd", str(folder)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise NotInstalled("a machine that can mount", done.stderr, "try another one")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def fill(folder: Path, octets: int) -> Path:
    """A file that leaves so much free, and no more."""
    found = os.statvfs(folder)
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(found.f_bfree * found.f_bsize - octets))
    return ballast


@pytest.mark.parametrize(
    ("options", "files", "said"),
    [
        pytest.param("size=1m", 1, "", id="room"),
        pytest.param("size=16k", 1, "16 KiB are free on the file system of", id="full"),
        pytest.param("size=1m,nr_inodes=4", 9, "takes no more files", id="no inodes"),
        pytest.param("size=1m,ro", 1, "is read-only", id="read-only"),
    ],
)
def test_what_a_file_system_lacks_is_said(
    mount: Mount, tmp_path: Path, options: str, files: int, said: str
) -> None:
    folder = mount(tmp_path / "small", options)
    found = lack(folder / "not/there/yet", 64 * 1024, files)
    assert said in (found.why if found else "")
    assert (found is None) == (said == "")


# -- before an order ------------------------------------------------------------------------


@pytest.fixture
def site(pebble: Pebble, tmp_path: Path) -> Site:
    return Site(tmp_path / "site", pebble)


def want(site: Site, *targets: str) -> Site:
    for target in targets:
        site.disk(target)
    name = f"{secrets.token_hex(6)}.example.com"
    return site.certificate("www", name, targets=list(targets))


def fingerprint(site: Site) -> str:
    return str(site.status()["www"]["fingerprint"])


@pytest.mark.fault(row=38)
def test_with_a_full_state_folder_nothing_is_ordered(
    site: Site, mount: Mount, pebble: Pebble
) -> None:
    mount(site.state, "size=4m")
    want(site, "web").renew()
    served, issued = fingerprint(site), len(pebble.ledger())
    ballast = fill(site.state, 200 * 1024)
    failed = site.certd("renew", "--force", "www")
    assert failed.returncode == 1
    assert "nothing was ordered for www: it could not be kept" in failed.stdout
    assert f"KiB are free on the file system of {site.state}" in failed.stdout
    assert site.status()["www"]["state"] == "failing"
    assert fingerprint(site) == served
    assert len(pebble.ledger()) == issued
    ballast.unlink()
    site.renew("www")
    assert len(pebble.ledger()) == issued + 1


@pytest.mark.fault(row=38)
@pytest.mark.fault(row=39)
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_for_a_target_that_could_not_take_it_nothing_is_ordered(
    site: Site, mount: Mount, pebble: Pebble, how: str
) -> None:
    web = mount(site.folder / "web", "size=1m")
    want(site, "web", "mail").renew()
    served, issued = fingerprint(site), len(pebble.ledger())
    ballast = web / "ballast"
    if how == "full":
        fill(web, 20 * 1024)
    else:
        remount(web, "ro")
    failed = site.certd("renew", "--force", "www")
    assert failed.returncode == 1
    assert "nothing was ordered for www: a deployment to" in failed.stdout
    assert ("KiB are free on" if how == "full" else "is read-only") in failed.stdout
    assert fingerprint(site) == served
    assert len(pebble.ledger()) == issued
    remount(web, "rw")
    ballast.unlink(missing_ok=True)
    site.renew("www")
    assert len(pebble.ledger()) == issued + 1


@pytest.mark.fault(row=39)
def test_a_state_folder_that_cannot_be_written_is_told(site: Site, mount: Mount) -> None:
    mount(site.state, "size=4m")
    want(site, "web").renew()
    remount(site.state, "ro")
    for words in (["renew"], ["run"], ["db", "backup"]):
        failed = site.certd(*words)
        assert failed.returncode == 1, words
        assert "Read-only file system" in failed.stderr, words
    assert site.status()["www"]["state"] == "ok"
    assert site.certd("db", "check").returncode == 0
    copy = site.folder / "copy.db"
    assert site.certd("db", "backup", str(copy)).returncode == 0


def test_a_backup_that_has_no_room_leaves_nothing_behind(site: Site, mount: Mount) -> None:
    want(site, "web").renew()
    small = mount(site.folder / "small", "size=16k")
    failed = site.certd("db", "backup", str(small / "copy.db"))
    assert failed.returncode == 1
    assert "make room on that disk" in failed.stderr
    assert list(small.iterdir()) == []


# -- fsync fails ----------------------------------------------------------------------------

DEPLOY = """
import sys
from pathlib import Path
from certd.api import TargetError
from certd.testing.chains import bundle
from certd_deploy.disk import Disk
disk, wanted = Disk(Path(sys.argv[1]) / "{name}"), bundle()
try:
    disk.deploy(wanted)
except TargetError as error:
    print(error)
    written = set((Path(sys.argv[1]) / "www/versions").glob("*/*"))
    print(len(written))
    disk.deploy(wanted)
assert disk.serving("www") == wanted.certificate.fingerprint
"""


# Two folders, four files, their folder, its name.
@pytest.mark.fault(row=40)
@pytest.mark.parametrize("number", range(1, 9))
def test_what_did_not_reach_the_disk_is_written_anew(tmp_path: Path, number: int) -> None:
    """Linux reports a lost page once only: a second fsync of the same file proves nothing."""
    if shutil.which("strace") is None:
        raise NotInstalled("strace", "there is no strace", "install it")
    inject = f"inject=fsync:error=EIO:when={number}"
    traced = ["strace", "-f", "-qq", "-e", "trace=fsync", "-e", inject, "-o", os.devnull]
    done = subprocess.run(
        [*traced, sys.executable, "-c", DEPLOY, str(tmp_path / "tls")],
        check=False,
        capture_output=True,
        text=True,
    )
    if "ptrace" in done.stderr:
        raise NotInstalled("the right to trace", done.stderr, "try another machine")
    assert done.returncode == 0, done.stderr
    said, _, rest = done.stdout.partition("\n")
    assert "Input/output error" in said
    assert int(rest) == 0, "the retry would take for good what may not be on the disk"
