"""One certd distributes, others pull: real processes, two folders, mutual TLS on the loopback."""

from __future__ import annotations

import shutil
import signal
from functools import partial

import pytest

from certd import Certd
from certd.x509 import fingerprint
from tests.machines import Hub, Machine, within


def test_once_by_hand(hub: Hub, machine: Machine) -> None:
    with hub.start():
        done = machine.site.certd("pull")
        assert (done.returncode, done.stderr) == (0, "")
        assert "www: fetched from hub, version 1, valid until " in done.stdout
        assert machine.serves("www")
        assert "www: hub has nothing newer; valid until" in machine.site.certd("pull").stdout
        hub.site.renew("--force", "www")
        assert "fetched from hub, version 2" in machine.site.certd("pull", "www").stdout
        assert machine.serves("www")
        entry = machine.site.status()["www"]
        assert (entry["state"], entry["ca"], entry["version"]) == ("ok", "hub", 2)


def test_a_new_version_is_there_within_seconds(hub: Hub, machine: Machine) -> None:
    with hub.start(), machine.site.start("run") as child:
        child.wait_until(lambda: machine.serves("www"))
        for _ in range(3):
            hub.site.renew("--force", "www")
            lasted = within(20, lambda: machine.serves("www"))
            print(f"there after {lasted:.2f} s")
        assert machine.site.status()["www"]["version"] == 4


def test_other_names_than_wanted_are_refused(hub: Hub, machine: Machine) -> None:
    with hub.start():
        machine.site.renew()
        before = machine.served("www")
        machine.want("www", names=["www.example.com", "example.com"])
        done = machine.site.certd("pull")
        assert (
            "is refused: it lacks example.com; what is in place stays there; let names and usage "
            "be here what they are for www at hub, or see `certd status` there"
        ) in done.stdout
        assert machine.served("www") == before
        assert machine.site.status()["www"]["state"] == "failing"
        # Which is mended where it is ordered.
        hub.site.certificate("www", "www.example.com", "example.com")
        hub.site.renew()
        assert "fetched from hub, version 2" in machine.site.certd("pull").stdout


def test_killed_between_fetch_and_deployment(hub: Hub, machine: Machine) -> None:
    with hub.start():
        for place in ("pulling: the hub has answered", "pulling: version is current"):
            done = machine.site.certd("pull", CERTD_KILL_AT=place)
            assert done.returncode == -signal.SIGKILL
            assert machine.served("www") is None
    # What was taken in is deployed, whether the hub is there or not.
    done = machine.site.certd("renew")
    assert machine.serves("www"), done.stdout


@pytest.mark.fault(row=41)
def test_killed_at_every_failpoint_it_has_one_version_and_it_is_in_place(
    shared: tuple[Hub, Machine],
) -> None:
    _, machine = shared
    places = []
    for number in range(1, 40):
        for left in (machine.site.state, machine.folder / "web"):
            shutil.rmtree(left, ignore_errors=True)
        done = machine.site.certd("pull", CERTD_KILL_AT=str(number))
        if done.returncode == 0:
            break
        places.append(done.stderr.partition(": ")[2].strip())
        done = machine.site.certd("pull")
        assert done.returncode == 0, (places[-1], done.stdout)
        assert machine.serves("www"), places[-1]
        bundle = machine.site.bundle("www")
        assert bundle is not None
        assert bundle.version == 1, places[-1]
    assert {"pulling: version is current", "rollout: deployed"} <= set(places)
    assert len(places) < 38


def test_a_hub_that_restarts(hub: Hub, machine: Machine) -> None:
    with machine.site.start("run"):
        with hub.start():
            within(30, lambda: machine.served("www") is not None)
        hub.site.renew("--force", "www")
        with hub.start():
            within(20, lambda: machine.serves("www"))
        assert machine.site.status()["www"]["state"] == "ok"


def test_a_hub_that_is_away(hub: Hub, machine: Machine) -> None:
    with hub.start():
        machine.site.renew()
    before = machine.served("www")
    with machine.site.start("run"):
        within(30, lambda: machine.site.status()["www"]["last_error"] is not None)
        entry = machine.site.status()["www"]
        assert entry["last_error"]["what"] == "hub cannot be asked"
        assert "refused" in entry["last_error"]["why"]
        assert (entry["state"], entry["failures"]) == ("ok", 1)  # it is served still
        assert entry["next_attempt"]
        assert machine.served("www") == before
        assert "next attempt" in machine.site.certd("status").stdout
        for _ in range(2):
            assert machine.site.certd("pull").returncode == 1
        assert machine.site.status()["www"]["state"] == "failing"  # by now it is more than a pause
        with hub.start():
            within(90, lambda: machine.site.status()["www"]["state"] == "ok")
            assert machine.site.status()["www"]["failures"] == 0


def test_a_machine_pulls_its_own_client_certificate_too(hub: Hub, machine: Machine) -> None:
    """As docs/operations.md has it: the folder of the hub's target becomes one of its own."""
    shutil.rmtree(machine.client)
    source, there = hub.site.folder / "out" / "web1", machine.folder / "own" / "web1"
    shutil.copytree(source, there, symlinks=True)
    machine.site.disk("own", path=str(machine.folder / "own" / "{name}"))
    table = machine.site.tables["ca.hub"]
    table["certificate"] = "own/web1/current/fullchain.pem"
    table["key"] = "own/web1/current/privkey.pem"
    machine.site.certificate(
        "web1", "web1.example.com", ca=["hub"], usage=["client"], targets=["own"]
    )
    hub.allow("web1", "www", "web1")

    def renewed() -> bool:
        served = fingerprint((there / "current/fullchain.pem").read_text())
        return served == hub.fingerprint("web1")

    with hub.start(), machine.site.start("run"):
        within(20, partial(machine.serves, "www"))
        for _ in range(2):
            hub.site.renew("--force", "web1")
            within(20, renewed)
            hub.site.renew("--force", "www")
            within(20, partial(machine.serves, "www"))
        assert {one["state"] for one in machine.site.status().values()} == {"ok"}


def test_the_database_is_lost_and_the_hub_is_away(hub: Hub, machine: Machine) -> None:
    with hub.start():
        machine.site.renew()
    shutil.rmtree(machine.site.state)
    done = machine.site.certd("pull")
    assert "hub cannot be asked" in done.stdout
    assert machine.site.status()["www"]["version"] == 1
    assert machine.serves("www")


def test_a_program_follows_its_hub_too(hub: Hub, machine: Machine) -> None:
    with hub.start(), Certd(machine.site.path) as certd:
        certd.wait("www", timeout=30)
        hub.site.renew("--force", "www")
        within(20, partial(machine.serves, "www"))


def test_many_certificates_at_once(hub: Hub, machine: Machine) -> None:
    """Each of the threads that fetch has a connection, and the one that waits keeps its own."""
    names = [f"n{number}" for number in range(30)]
    for name in names:
        hub.site.certificate(name, f"{name}.example.com")
        machine.want(name)
    hub.allow("web1", "www", *names)
    hub.site.renew()
    with hub.start(), machine.site.start("run"):
        within(20, lambda: all(map(machine.served, names)))
        hub.site.renew("--force", *names)
        within(20, lambda: all(map(machine.serves, names)))
        assert {one["state"] for one in machine.site.status().values()} == {"ok"}


def test_no_key_is_logged(hub: Hub, machine: Machine) -> None:
    with hub.start() as child, machine.site.start("run", "--debug") as puller:
        within(30, lambda: machine.served("www") is not None)
        text = child.log.read_text() + puller.log.read_text()
        text += machine.site.certd("pull", "--debug").stderr
    assert "version 1 is given to web1" in text
    bundle = hub.site.bundle("www")
    assert bundle is not None
    for line in bundle.key_pem.reveal().splitlines()[1:3]:
        assert line not in text


def test_what_belongs_to_the_hub_is_refused_here(hub: Hub, machine: Machine) -> None:
    with hub.start():
        machine.site.renew()
        assert (
            "`certd renew --force www` there"
            in machine.site.certd("renew", "--force", "www").stderr
        )
        assert "`certd revoke www` there" in machine.site.certd("revoke", "www", "--yes").stderr
        assert "nothing to rehearse" in machine.site.certd("renew", "--dry-run").stdout
        assert "www: ask for it " in machine.site.certd("plan", "--all").stdout
        assert "does not come from another certd" in hub.site.certd("pull", "www").stderr
        assert "there is nothing to pull" in hub.site.certd("pull").stderr
