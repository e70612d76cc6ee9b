"""The docker target where Docker and Podman differ, or something is in its way in a container."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certd_deploy.docker import Docker

from certd.api import TargetBusy, TargetError
from certd.testing import docker as real
from certd.testing.chains import bundle
from certd.testing.processes import ComponentError
from tests.containers import Front, Site, before

MUCH = 9 * 2**20  # octets: more than an answer of the engine's may have


@pytest.fixture(scope="module", params=[real.Docker, real.Podman])
def engine(request: pytest.FixtureRequest) -> Iterator[real.Docker]:
    with request.param() as running:
        yield running


@pytest.fixture
def site(engine: real.Docker) -> Iterator[Site]:
    yield Site(engine)
    engine.clear()


@pytest.fixture
def web(site: Site) -> real.Container:
    return site.make()


@pytest.fixture
def target(site: Site, web: real.Container) -> Docker:
    return Docker(path="/etc/ssl/{name}", container="web", socket=site.engine.socket)


@pytest.fixture
def front(site: Site) -> Iterator[Front]:
    with before(site.engine) as server:
        yield server


@pytest.fixture
def folder(web: real.Container) -> Path:
    return web.at("/etc/ssl/www")


def rights(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def versions(folder: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in (folder / "versions").iterdir()}


def test_a_changed_mode_and_owner_are_applied_to_what_is_in_place(
    target: Docker, folder: Path
) -> None:
    wanted, key, public = bundle(), folder / "current/privkey.pem", folder / "current/cert.pem"
    target.deploy(wanted)
    assert (rights(key), rights(public)) == ((0o600, 0, 0), (0o644, 0, 0))
    inode = key.stat().st_ino
    for mode, owner, group in (("0640", 0, 33), ("0640", 7, 33), ("0600", 7, 9)):
        changed = replace(target, mode=mode, owner=owner, group=group)
        changed.deploy(wanted)
        assert rights(key) == (int(mode, 8), owner, group)
        assert rights(public) == (0o644, owner, group)
    assert key.stat().st_ino == inode, "it is in use, and at no instant missing"
    settled = key.stat().st_ctime_ns
    changed.deploy(wanted)
    assert key.stat().st_ctime_ns == settled, "nothing is changed that is right"
    key.chmod(0o644)
    assert changed.serving("www") == wanted.certificate.fingerprint
    changed.deploy(wanted)
    assert rights(key) == (0o600, 7, 9)


def test_an_older_version_that_is_put_back_has_the_mode_and_owner_of_now(
    target: Docker, folder: Path
) -> None:
    older, newer = bundle("www", 1), bundle("www", 2)
    target.deploy(older)
    changed = replace(target, mode="0640", group=33)
    changed.deploy(newer)
    changed.deploy(older)
    assert os.readlink(folder / "current").startswith("versions/1-")
    assert {rights(path) for path in (folder / "current").iterdir()} == {
        (0o640, 0, 33),
        (0o644, 0, 33),
    }


def test_a_folder_that_is_there_stays_as_it_is(target: Docker, folder: Path) -> None:
    folder.mkdir(0o750)
    os.chown(folder, 0, 33)
    for number in (1, 2):
        target.deploy(bundle("www", number))
        assert rights(folder) == (0o750, 0, 33)
        assert rights(folder / "versions") == ((0o755, 0, 0) if number == 1 else (0o711, 0, 7))
        (folder / "versions").chmod(0o711)
        os.chown(folder / "versions", 0, 7)
    assert rights(folder / "current") == (0o755, 0, 0)


def test_what_else_is_among_the_versions_is_in_nobodys_way(
    target: Docker, web: real.Container, folder: Path
) -> None:
    for name in ("9", "²", "2-backup"):
        (folder / "versions" / name).mkdir(parents=True)
    (folder / "versions/dump").write_bytes(bytes(MUCH))
    tells = replace(target, test=("touch", "/tmp/tested"), exec=("touch", "/tmp/taken-up"))
    for number in range(1, 6):
        tells.deploy(bundle("www", number))
    assert web.at("/tmp/tested").exists()
    assert web.at("/tmp/taken-up").exists()
    assert versions(folder) == {"3", "4", "5", "9", "²", "2", "dump"}
    assert (folder / "versions/2-backup").exists()


def test_what_cannot_be_removed_stays_and_the_rest_goes_on(
    target: Docker, web: real.Container, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target.deploy(bundle("www", 1))
    [oldest] = (folder / "versions").iterdir()
    enter = ["nsenter", "--mount", "--target", web.root.parent.name]
    within = f"/etc/ssl/www/versions/{oldest.name}"
    subprocess.run([*enter, "mount", "-t", "tmpfs", "held", within], check=True)
    tells = replace(target, exec=("sh", "-c", "echo >>/tmp/taken-up"))
    for number in range(2, 6):
        newest = bundle("www", number)
        tells.deploy(newest)
    assert target.serving("www") == newest.certificate.fingerprint
    assert web.at("/tmp/taken-up").read_text() == "\n" * 4
    assert versions(folder) == {"1", "3", "4", "5"}
    assert "old versions stay for now: rm ended with status 1" in caplog.text


def test_what_its_test_refuses_removes_nothing(target: Docker, folder: Path) -> None:
    for number in range(1, 5):
        target.deploy(bundle("www", number))
    assert versions(folder) == {"2", "3", "4"}
    with pytest.raises(TargetError, match="the test in web refuses it"):
        replace(target, test=("false",)).deploy(bundle("www", 5))
    assert versions(folder) == {"2", "3", "4", "5"}


def test_a_program_may_write_much(target: Docker, web: real.Container) -> None:
    writes = f"head -c {MUCH} /dev/zero | tr '\\0' x"
    replace(target, exec=("sh", "-c", f"{writes}; touch /tmp/taken-up")).deploy(bundle())
    assert web.at("/tmp/taken-up").exists()
    with pytest.raises(TargetError, match=r'status 3 in it: ".*bad pair"') as failed:
        replace(target, exec=("sh", "-c", f"{writes}; echo; echo bad pair; exit 3")).deploy(
            bundle()
        )
    assert len(str(failed.value)) < 2000


def test_one_that_never_stops_writing_has_its_time(target: Docker) -> None:
    with pytest.raises(TargetError, match='timeout did not end within 3 s: "y') as failed:
        replace(target, exec=("timeout", "60", "yes"), exec_timeout=3.0).deploy(bundle())
    assert failed.value.next == "see why it hangs"


def test_a_folder_where_the_link_is_to_be_is_left_alone(target: Docker, folder: Path) -> None:
    (folder / "current").mkdir(parents=True)
    with pytest.raises(TargetError, match="current is there and is not a link of") as failed:
        target.deploy(bundle())
    assert "move it away" in failed.value.next
    assert [path.name for path in folder.iterdir()] == ["current"]


def test_a_link_to_itself_and_a_wrong_signal_are_for_somebody_to_correct(
    target: Docker, folder: Path
) -> None:
    with pytest.raises(TargetError, match=r"nvalid signal: NOPE; correct signal") as failed:
        replace(target, signal="NOPE").deploy(bundle())
    assert not isinstance(failed.value, TargetBusy)
    (folder / "current").unlink()
    (folder / "current").symlink_to("current")
    with pytest.raises(TargetError, match=r"too many l.*leads to itself: remove it") as failed:
        target.deploy(bundle())
    assert not isinstance(failed.value, TargetBusy)


def test_a_program_that_the_engine_could_not_start_did_not_hang(
    target: Docker, front: Front
) -> None:
    front.answer(500, b'{"message": "no room"}', "POST /v1.41/exec/")
    with pytest.raises(TargetBusy, match="500: no room; it is tried again by itself"):
        replace(target, socket=front.path).deploy(bundle())


@pytest.mark.parametrize("kept", [100, 600, 1200])
def test_an_archive_that_breaks_off_is_not_what_is_there(
    target: Docker, web: real.Container, front: Front, kept: int
) -> None:
    target.deploy(bundle())
    buffer, large = io.BytesIO(), tarfile.TarInfo("privkey.pem")
    large.size = 2048
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(large, io.BytesIO(bytes(large.size)))
    request = f"GET /v1.41/containers/{web.id}/archive"
    front.answer(200, buffer.getvalue()[:kept], request)
    with pytest.raises(TargetBusy, match="is no archive, or breaks off") as failed:
        replace(target, socket=front.path).serving("www")
    assert failed.value.next


class _Refusing(real.Docker):
    """It refuses to remove a container as often as it is told."""

    refusals = 0

    def request(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, **query: str
    ) -> Any:
        if method == "DELETE" and self.refusals:
            self.refusals -= 1
            raise ComponentError("the engine refuses it", "already in progress")
        return super().request(method, path, body, **query)


class _RefusingPodman(_Refusing, real.Podman):
    pass


def test_a_refused_removal_is_tried_again() -> None:
    with _RefusingPodman() as engine:
        engine.run("web")
        engine.refusals = 3
    assert engine.refusals == 0
    assert not engine.folder.exists()


@pytest.mark.parametrize("kind", [_Refusing, _RefusingPodman])
def test_an_engine_ends_also_if_it_removes_nothing(
    kind: type[_Refusing], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = kind()
    container = engine.run("web")
    engine.refusals = 1000
    monkeypatch.setattr(real, "_REFUSALS", 0.2)
    with pytest.raises(ComponentError, match="already in progress"):
        engine.stop()
    assert not (container.root / "etc").exists(), "its program is gone"
    assert engine._child.returncode is not None
    assert not engine.folder.exists()


def test_an_engine_ends_also_if_its_start_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[real.Docker]()

    def request(self: real.Docker, *_: Any, **__: str) -> None:
        made.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(real.Podman, "request", request)
    monkeypatch.setattr(real.Podman, "clear", lambda self: None)
    with pytest.raises(KeyboardInterrupt):
        real.Podman()
    [engine] = made
    assert engine._child.returncode is not None
    assert not engine.folder.exists()
