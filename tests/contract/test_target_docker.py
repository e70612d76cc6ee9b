"""The docker target against an engine on a unix socket whose containers are folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from certd_deploy.docker import Docker

from certd import failpoint as failpoints
from certd.api import ConfigError, Secret, SecretReference, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from tests.dockerengine import Container, Engine, hang, running, said
from tests.servers import read_in_place


@dataclass
class Site:
    engine: Engine
    socket: Path


@pytest.fixture
def site() -> Iterator[Site]:
    # Not in pytest's own: a socket's path has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="certd-docker-"))
    (folder / "containers").mkdir()
    engine = Engine(folder / "containers")
    engine.create("web", app="web")
    with running(engine, folder / "sock"):
        yield Site(engine, folder / "sock")
    shutil.rmtree(folder)


@pytest.fixture
def target(site: Site) -> Docker:
    return Docker(
        path="/etc/ssl/{name}",
        container="web",
        socket=site.socket,
        signal="HUP",
        owner=os.getuid(),
        group=os.getgid(),
    )


class TestDockerContract(TargetContract):
    @pytest.fixture
    def target(self, target: Docker, site: Site) -> Docker:
        self.container = site.engine.containers["web"]
        return target

    def in_place(self, target: Docker, name: str) -> Pair | None:
        time.sleep(0.001)
        return read_in_place(self.container.at(target.path.replace("{name}", name)))

    @contextlib.contextmanager
    def out_of_order(self, target: Docker) -> Iterator[None]:
        """Its image has no program that switches the link."""
        switch = self.container.programs.pop("mv")
        yield
        self.container.programs["mv"] = switch

    def writes(self, target: Docker) -> int:
        return self.container.copies


def test_the_layout_is_that_of_the_disk_target(target: Docker, site: Site) -> None:
    umask = os.umask(0o077)
    try:
        for number in range(1, 6):
            wanted = bundle("www", number)
            replace(target, mode="0640").deploy(wanted)
    finally:
        os.umask(umask)
    there = site.engine.containers["web"].at("/etc/ssl/www")
    link = os.readlink(there / "current")
    assert link == f"versions/5-{wanted.certificate.fingerprint[:16]}"
    assert {path.name for path in there.iterdir()} == {"current", "versions"}
    kept = {path.name.partition("-")[0] for path in (there / "versions").iterdir()}
    assert kept == {"3", "4", "5"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (there / link).iterdir()}
    public = dict.fromkeys(("cert.pem", "chain.pem", "fullchain.pem"), 0o644)
    assert modes == {"privkey.pem": 0o640, **public}
    assert stat.S_IMODE((there / link).stat().st_mode) == 0o755


def test_files_of_other_formats_are_beside_the_four(target: Docker, site: Site) -> None:
    container = site.engine.containers["web"]
    there = container.at("/etc/ssl/www/current")
    password = SecretReference("plain", Secret("changeit"))
    files = {"site.pem": "combined", "site.p12": "pkcs12"}
    more = replace(target, files=files, password=password)
    wanted = bundle()
    target.deploy(wanted)
    assert more.serving("www") == ""
    for damage in ("", "site.p12", "site.pem"):
        if damage:
            (there / damage).write_text("of somebody else")
        assert more.serving("www") == ""
        more.deploy(wanted)
        assert more.serving("www") == wanted.certificate.fingerprint
        assert (there / "site.pem").read_text() == wanted.fullchain_pem + wanted.key_pem.reveal()
        assert container.copies == 1, "the key is in use, and was right"


def test_a_test_that_fails_leaves_the_old_pair_in_place(target: Docker, site: Site) -> None:
    container, seen = site.engine.containers["web"], list[str]()
    older, newer = bundle("www", 1), bundle("www", 2)

    def test(container: Container, argv: list[str]) -> tuple[int, str]:
        link = os.readlink(container.at("/etc/ssl/www/current"))
        seen.append(link)
        return (1, "bad pair") if link.startswith("versions/2-") else (0, "")

    container.programs["nginx"] = test
    tested = replace(target, test=("nginx", "-t"))
    with pytest.raises(TargetError):
        tested.deploy(newer)
    assert tested.serving("www") == "", "there was nothing before"
    tested.deploy(older)
    with pytest.raises(TargetError, match=r"version 2 is not taken up: the test in web") as failed:
        tested.deploy(newer)
    assert "bad pair" in failed.value.why
    assert tested.serving("www") == older.certificate.fingerprint
    assert [link[:10] for link in seen] == ["versions/2", "versions/1", "versions/2"]
    assert container.signals == ["HUP"], "its server is told of what it can take"


def test_a_container_made_anew_has_nothing_in_place_and_gets_it_again(
    target: Docker, site: Site
) -> None:
    wanted = bundle()
    target.deploy(wanted)
    site.engine.create("web", app="web")
    assert target.serving("www") == ""
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


def test_the_server_is_told_each_time(target: Docker, site: Site) -> None:
    container, wanted = site.engine.containers["web"], bundle()
    container.programs["nginx"] = lambda container, argv: (0, "signal sent")
    for _ in range(2):
        replace(target, exec=("nginx", "-s", "reload")).deploy(wanted)
    assert container.signals == ["HUP", "HUP"]
    assert container.ran.count(["nginx", "-s", "reload"]) == 2
    assert container.copies == 1


def test_all_with_a_label_get_it_and_serve_it_only_together(target: Docker, site: Site) -> None:
    other, stranger = site.engine.create("web-2", app="web"), site.engine.create("db", app="db")
    labelled, wanted = replace(target, container=None, label="app=web"), bundle()
    target.deploy(wanted)
    assert labelled.serving("www") == ""
    labelled.deploy(wanted)
    assert labelled.serving("www") == wanted.certificate.fingerprint
    assert (other.signals, stranger.copies) == (["HUP"], 0)
    other.running = False
    assert labelled.serving("www") == wanted.certificate.fingerprint


def test_what_is_no_pair_is_not_served_and_is_put_right(target: Docker, site: Site) -> None:
    wanted = bundle()
    target.deploy(wanted)
    current = site.engine.containers["web"].at("/etc/ssl/www/current")
    (current / "privkey.pem").write_text(bundle().key_pem.reveal())
    assert target.serving("www") == ""
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"container": "mail"}, "No such container: mail", id="no container"),
        pytest.param(
            {"container": None, "label": "app=x"}, "no container that runs has", id="no label"
        ),
        pytest.param(
            {"path": "/srv/tls/{name}"}, "Could not find the file /srv/tls", id="no folder"
        ),
        pytest.param({"exec": ("nope",)}, "nope ended with status 126", id="no program"),
        pytest.param({"exec": ("fail",)}, 'fail ended with status 3 in it: "bad pair"', id="fails"),
        pytest.param(
            {"exec": ("hang",), "exec_timeout": 0.2}, "hang did not end within 0.2 s", id="hangs"
        ),
        pytest.param(
            {"exec": ("tail", "-f"), "exec_timeout": 0.2},
            "tail did not end within 0.2 s",
            id="writes all the time",
        ),
    ],
)
def test_what_goes_wrong_is_told(
    target: Docker, site: Site, change: dict[str, object], why: str
) -> None:
    programs = site.engine.containers["web"].programs
    programs |= {"fail": lambda container, argv: (3, "bad pair\n"), "hang": hang}
    with pytest.raises(TargetError) as failed:
        replace(target, **change).deploy(bundle())  # type: ignore[arg-type]
    assert not isinstance(failed.value, TargetBusy)
    assert why in failed.value.why
    assert failed.value.next


def test_one_that_does_not_run_is_told(target: Docker, site: Site) -> None:
    site.engine.containers["web"].running = False
    with pytest.raises(TargetError, match="container web does not run; start it"):
        target.deploy(bundle())
    with pytest.raises(TargetError, match="container web does not run; start it"):
        target.serving("www")


def test_an_engine_that_is_away_or_unwell_is_busy(target: Docker, site: Site) -> None:
    with pytest.raises(TargetBusy, match="no answer"):
        replace(target, socket=site.socket.with_name("none")).deploy(bundle())
    for status in (429, 500, 503):
        site.engine.refuses = lambda method, path, status=status: said(status, "later")  # type: ignore[misc]
        with pytest.raises(TargetBusy, match=f"{status}: later"):
            target.deploy(bundle())
    site.engine.refuses = lambda method, path: said(403, "no") if method == "PUT" else None
    with pytest.raises(TargetError, match="403: no; let what lies before the engine pass it"):
        target.deploy(bundle())


@pytest.mark.parametrize("data", [b"<html>", b"[]", b"{}", b"null", b""])
def test_what_is_no_engine_is_told(target: Docker, site: Site, data: bytes) -> None:
    site.engine.refuses = lambda method, path: (200, data)
    with pytest.raises(TargetError, match="answers what certd does not understand"):
        target.deploy(bundle())


@pytest.mark.fault(row=41)
@pytest.mark.parametrize(
    ("point", "copies"),
    [
        ("docker: version is copied", 1),
        ("docker: link switched", 1),
        ("docker: in place", 1),
        ("docker: taken up", 1),
    ],
)
def test_killed_anywhere_a_pair_is_in_place_and_the_next_run_goes_on(
    target: Docker, site: Site, monkeypatch: pytest.MonkeyPatch, point: str, copies: int
) -> None:
    container = site.engine.containers["web"]
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
    pair = read_in_place(container.at("/etc/ssl/www"))
    assert pair is not None
    assert target.serving("www") == pair.fingerprint
    target.deploy(second)
    assert target.serving("www") == second.certificate.fingerprint
    assert container.copies == 1 + copies
    assert container.signals[-1] == "HUP"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("path", "etc/ssl/{name}"),
        ("path", "/etc/{nam}"),
        ("container", "web/../x"),
        ("signal", "hup"),
        ("exec_timeout", 0.0),
        ("mode", "0644"),
        ("owner", -1),
        ("group", 2**32),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        Docker.__dataclass_fields__[setting].metadata["check"](value)
    assert refused.value.next


def test_name_or_label_is_needed(target: Docker) -> None:
    with pytest.raises(ConfigError, match="neither"):
        replace(target, container=None)
    with pytest.raises(ConfigError, match="both"):
        replace(target, label="app=web")
