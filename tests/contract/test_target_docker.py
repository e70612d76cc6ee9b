"""The docker target against a real engine, whose containers run this machine's programs."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from certd_deploy.docker import Docker
from certd_deploy.engine import Engine

from certd import failpoint as failpoints
from certd.api import ConfigError, Secret, SecretReference, TargetBusy, TargetError
from certd.testing import docker as real
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from tests.containers import Front, Site, before
from tests.servers import read_in_place

PATIENCE = 20.0  # seconds for a program in a container to do what it is told
HEARS = ("sh", "-c", "trap 'echo HUP >>/tmp/heard' HUP; while :; do sleep 0.02; done")
SPEAKS = ("sh", "-c", "while :; do echo .; sleep 0.02; done")


@pytest.fixture(scope="module")
def engine() -> Iterator[real.Docker]:
    with real.Docker() as running:
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
    return Docker(path="/etc/ssl/{name}", container="web", socket=site.engine.socket, signal="HUP")


class TestDockerContract(TargetContract):
    @pytest.fixture(autouse=True)
    def _site(self, site: Site, web: real.Container) -> None:
        self.site, self.container = site, web

    def in_place(self, target: Docker, name: str) -> Pair | None:
        time.sleep(0.001)
        return read_in_place(self.container.at(f"/etc/ssl/{name}"))

    @contextlib.contextmanager
    def out_of_order(self, target: Docker) -> Iterator[None]:
        """What is copied arrives, and no program can be run that switches the link."""
        container = f"/containers/{self.container.id}"
        self.site.engine.request("POST", f"{container}/pause")
        try:
            yield
        finally:
            self.site.engine.request("POST", f"{container}/unpause")

    def writes(self, target: Docker) -> int | None:
        return self.site.copied(self.container)


class TestPodmanContract(TestDockerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Iterator[real.Docker]:
        with real.Podman() as running:
            yield running

    def writes(self, target: Docker) -> None:
        """It does not tell of what is copied."""

    def test_it_is_found_by_its_label_and_its_programs_are_run(self, target: Docker) -> None:
        labelled, wanted = replace(target, container=None, label="app=web"), bundle()
        labelled.deploy(wanted)
        assert labelled.serving("www") == wanted.certificate.fingerprint
        fails = replace(labelled, exec=("sh", "-c", "echo bad pair; exit 3"))
        with pytest.raises(TargetError, match='sh ended with status 3 in it: "bad pair"'):
            fails.deploy(wanted)
        self.site.stop(self.container)
        with pytest.raises(TargetError, match="no container that runs has the label app=web"):
            labelled.serving("www")
        with pytest.raises(TargetError, match="container web does not run; start it"):
            target.deploy(wanted)


def test_the_layout_is_that_of_the_disk_target(target: Docker, web: real.Container) -> None:
    umask, begun = os.umask(0o077), time.time()
    try:
        for number in range(1, 6):
            wanted = bundle("www", number)
            replace(target, mode="0640", owner=7, group=9).deploy(wanted)
    finally:
        os.umask(umask)
    there = web.at("/etc/ssl/www")
    link = os.readlink(there / "current")
    assert link == f"versions/5-{wanted.certificate.fingerprint[:16]}"
    assert {path.name for path in there.iterdir()} == {"current", "versions"}
    kept = {path.name.partition("-")[0] for path in (there / "versions").iterdir()}
    assert kept == {"3", "4", "5"}
    found = {path.name: path.stat() for path in (there / link).iterdir()}
    public = dict.fromkeys(("cert.pem", "chain.pem", "fullchain.pem"), 0o644)
    modes = {name: stat.S_IMODE(one.st_mode) for name, one in found.items()}
    assert modes == {"privkey.pem": 0o640, **public}
    assert {(one.st_uid, one.st_gid) for one in found.values()} == {(7, 9)}
    # A server that looks for changes of files goes by this.
    assert all(begun - 1 <= one.st_mtime <= time.time() + 1 for one in found.values())
    assert stat.S_IMODE((there / link).stat().st_mode) == 0o755


def test_files_of_other_formats_are_beside_the_four(target: Docker, web: real.Container) -> None:
    there = web.at("/etc/ssl/www/current")
    password = SecretReference("plain", Secret("changeit"))
    files = {"site.pem": "combined", "site.p12": "pkcs12"}
    more = replace(target, files=files, password=password)
    wanted = bundle()
    target.deploy(wanted)
    key = _identity(there / "privkey.pem")
    assert more.serving("www") == ""
    for damage in ("", "site.p12", "site.pem"):
        if damage:
            (there / damage).write_text("of somebody else")
        assert more.serving("www") == ""
        more.deploy(wanted)
        assert more.serving("www") == wanted.certificate.fingerprint
        assert (there / "site.pem").read_text() == wanted.fullchain_pem + wanted.key_pem.reveal()
        assert _identity(there / "privkey.pem") == key, "it is in use, and was right"


def test_a_test_that_fails_leaves_the_old_pair_in_place(
    target: Docker, site: Site, web: real.Container
) -> None:
    older, newer = bundle("www", 1), bundle("www", 2)
    script = (
        "readlink /etc/ssl/www/current >>/tmp/seen;"
        " case $(tail -1 /tmp/seen) in versions/2-*) echo bad pair; exit 1; esac"
    )
    tested = replace(target, test=("sh", "-c", script))
    with pytest.raises(TargetError):
        tested.deploy(newer)
    assert tested.serving("www") == "", "there was nothing before"
    tested.deploy(older)
    with pytest.raises(TargetError, match=r"version 2 is not taken up: the test in web") as failed:
        tested.deploy(newer)
    assert "bad pair" in failed.value.why
    assert tested.serving("www") == older.certificate.fingerprint
    seen = web.at("/tmp/seen").read_text().split()
    assert [link[:10] for link in seen] == ["versions/2", "versions/1", "versions/2"]
    assert site.told(web) == 1, "its server is told of what it can take"


def test_a_container_made_anew_has_nothing_in_place_and_gets_it_again(
    target: Docker, site: Site
) -> None:
    wanted = bundle()
    target.deploy(wanted)
    site.make()
    assert target.serving("www") == ""
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


def test_one_that_is_started_again_has_what_it_had(
    target: Docker, site: Site, web: real.Container
) -> None:
    wanted = bundle()
    target.deploy(wanted)
    site.stop(web)
    site.engine.request("POST", f"/containers/{web.id}/start")
    assert target.serving("www") == wanted.certificate.fingerprint


def test_the_server_is_told_each_time(target: Docker, site: Site) -> None:
    container, wanted = site.engine.run("web", HEARS), bundle()
    for _ in range(2):
        target.deploy(wanted)
        replace(target, exec=("sh", "-c", "echo $0 >>/tmp/ran", "it ran")).deploy(wanted)
    ran, heard = container.at("/tmp/ran"), container.at("/tmp/heard")
    assert ran.read_text() == "it ran\n" * 2
    assert site.told(container) == 4
    until = time.monotonic() + PATIENCE
    while not heard.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert heard.read_text().startswith("HUP\n")
    assert site.copied(container) == 1


def test_all_with_a_label_get_it_and_serve_it_only_together(
    target: Docker, site: Site, web: real.Container
) -> None:
    other, stranger = site.engine.run("web-2", app="web"), site.engine.run("db", app="db")
    labelled, wanted = replace(target, container=None, label="app=web"), bundle()
    target.deploy(wanted)
    assert labelled.serving("www") == ""
    labelled.deploy(wanted)
    assert labelled.serving("www") == wanted.certificate.fingerprint
    assert (site.told(other), site.copied(stranger)) == (1, 0)
    other.at("/etc/ssl/www/current/privkey.pem").write_text(bundle().key_pem.reveal())
    assert labelled.serving("www") == ""
    site.stop(other)
    assert labelled.serving("www") == wanted.certificate.fingerprint


def test_what_is_no_pair_is_not_served_and_is_put_right(
    target: Docker, web: real.Container
) -> None:
    wanted = bundle()
    target.deploy(wanted)
    web.at("/etc/ssl/www/current/privkey.pem").write_text(bundle().key_pem.reveal())
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
        pytest.param({"path": "/usr/{name}"}, "is marked read-only", id="read-only"),
        pytest.param({"path": "/run/{name}"}, "cannot stat '/run/www", id="tmpfs"),
        pytest.param({"signal": "NOPE"}, "Invalid signal: NOPE", id="no signal"),
        pytest.param({"exec": ("nope",)}, "nope ended with status 126", id="no program"),
        pytest.param(
            {"exec": ("sh", "-c", "echo bad pair; exit 3")},
            'sh ended with status 3 in it: "bad pair"',
            id="fails",
        ),
        pytest.param(
            {"exec": ("sleep", "1d"), "exec_timeout": 0.2},
            "sleep did not end within 0.2 s",
            id="hangs",
        ),
        pytest.param(
            {"exec": SPEAKS, "exec_timeout": 0.2},
            "sh did not end within 0.2 s",
            id="writes all the time",
        ),
    ],
)
def test_what_goes_wrong_is_told(target: Docker, change: dict[str, object], why: str) -> None:
    with pytest.raises(TargetError) as failed:
        replace(target, **change).deploy(bundle())  # type: ignore[arg-type]
    assert not isinstance(failed.value, TargetBusy)
    assert why in failed.value.why
    assert failed.value.next


def test_one_that_does_not_run_is_told(target: Docker, site: Site, web: real.Container) -> None:
    site.stop(web)
    with pytest.raises(TargetError, match="container web does not run; start it"):
        target.deploy(bundle())
    with pytest.raises(TargetError, match="container web does not run; start it"):
        target.serving("www")


@pytest.fixture
def front(site: Site) -> Iterator[Front]:
    with before(site.engine) as server:
        yield server


def test_an_engine_that_is_away_or_unwell_is_busy(target: Docker, front: Front) -> None:
    with pytest.raises(TargetBusy, match="there is no such socket"):
        replace(target, socket=front.path.with_name("none")).deploy(bundle())
    target = replace(target, socket=front.path)
    for status in (429, 500, 503):
        front.answer(status, b'{"message": "later"}')
        with pytest.raises(TargetBusy, match=f"{status}: later"):
            target.deploy(bundle())
    front.answer(403, b'{"message": "no"}', "PUT")
    with pytest.raises(TargetError, match="403: no; let what lies before the engine pass it"):
        target.deploy(bundle())


def test_of_what_is_not_read_to_its_end_the_refusal_is_told(front: Front) -> None:
    front.answer(404, b'{"message": "no such folder"}', "PUT")
    large = [(tarfile.TarInfo("large"), bytes(4 * 2**20))]
    with pytest.raises(TargetError, match="404: no such folder"):
        Engine(front.path, "nothing is copied").put("web", "/etc", large)


@pytest.mark.parametrize("data", [b"<html>", b"[]", b"{}", b"null", b""])
def test_what_is_no_engine_is_told(target: Docker, front: Front, data: bytes) -> None:
    front.answer(200, data)
    with pytest.raises(TargetError, match="answers what certd does not understand"):
        replace(target, socket=front.path).deploy(bundle())


@pytest.mark.fault(row=41)
@pytest.mark.parametrize(
    "point",
    [
        "docker: version is copied",
        "docker: link switched",
        "docker: in place",
        "docker: taken up",
    ],
)
def test_killed_anywhere_a_pair_is_in_place_and_the_next_run_goes_on(
    target: Docker,
    site: Site,
    web: real.Container,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
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
    pair = read_in_place(web.at("/etc/ssl/www"))
    assert pair is not None
    assert target.serving("www") == pair.fingerprint
    [copied] = web.at("/etc/ssl/www/versions").glob("2-*/privkey.pem")
    key = _identity(copied)
    target.deploy(second)
    assert target.serving("www") == second.certificate.fingerprint
    assert _identity(copied) == key, "nothing is copied twice"
    assert site.told(web) == (3 if point == "docker: taken up" else 2)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_ctime_ns


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
