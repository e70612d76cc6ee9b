"""A CA of our own: SIGKILL at every failpoint, two at once, and time (faults 41 and 43)."""

from __future__ import annotations

import signal
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd import x509
from certd.ca import local
from certd.known import Authority
from certd.model import Identifier
from certd.store import Store
from certd.store.files import database_file
from tests.faults import invariants
from tests.faults.driving import Driver
from tests.faults.scenes import Scene
from tests.site import Site
from tests.warm import Warm

ENOUGH = 60  # failpoints; a sweep ends at the first run that survives
DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A certificate of our own CA is wanted at a target; its root is not made yet."""
    site = Site(tmp_path / "site", None)
    return site.certificate("www", "www.example.internal", targets=["web"]).disk()


def init(site: Site) -> None:
    store = Store.open(site.state)
    assert local.found("local", "certd local", [], store.authorities, None, datetime.now(UTC))
    store.close()


def signed(site: Site) -> list[str]:
    """The serials of all that has been signed, and not yet forgotten."""
    with sqlite3.connect(database_file(site.state)) as connection:
        chains = connection.execute("SELECT chain_pem FROM issued ORDER BY rowid").fetchall()
    return [x509.facts(x509.read_chain(chain)[0]).serial for (chain,) in chains]


def authorities(site: Site) -> list[str]:
    with sqlite3.connect(database_file(site.state)) as connection:
        return [row[0] for row in connection.execute("SELECT role FROM authority ORDER BY id")]


@pytest.mark.fault(row=41)
def test_killed_at_every_failpoint_it_signs_once(site: Site, warm: Warm) -> None:
    init(site)
    nothing = invariants.pairs_in_place(site, "www")
    scene, places = Scene(site), []
    for number in range(1, ENOUGH):
        scene.again()
        killed = warm.certd(site, "renew", CERTD_KILL_AT=str(number))
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        places.append(killed.stderr.splitlines()[-1].partition(": ")[2])
        invariants.assert_old_or_new_in_place(site, "www", nothing)  # I1
        invariants.assert_told(warm.status(site))  # I5
        done = warm.certd(site, "renew")
        assert done.returncode == 0, (places, done.stdout, done.stderr)
        [version] = invariants.bundles(site, "www")
        assert signed(site) == [version.certificate.serial], places  # I2, I3: and nothing else
        entry = warm.status(site)["www"]
        assert (entry["state"], entry["targets"][0]["state"]) == ("ok", "verified"), places
        assert set(invariants.pairs_in_place(site, "www").values()) == {entry["serial"]}
    assert {
        "issue: key and CSR are kept",
        "issue: order URL is kept",
        "local: leaf is kept",
        "issue: certificate downloaded",
        "issue: version is current",
    } <= set(places)


@pytest.mark.fault(row=41)
def test_killed_in_the_middle_of_init_there_is_all_of_a_root_or_nothing(
    site: Site, warm: Warm
) -> None:
    Store.open(site.state).close()
    scene, places = Scene(site), []
    for number in range(1, ENOUGH):
        scene.again()
        killed = warm.certd(site, "ca", "init", CERTD_KILL_AT=str(number))
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        places.append(killed.stderr.splitlines()[-1].partition(": ")[2])
        made = authorities(site)
        assert made in ([], ["root", "intermediate"]), places
        again = warm.certd(site, "ca", "init")
        assert again.returncode == (1 if made else 0), again.stderr
        assert warm.certd(site, "renew").returncode == 0
        assert authorities(site) == ["root", "intermediate"]
    assert "authority: root is kept" in places


# -- its intermediates, and its root --------------------------------------------------------


def current(driver: Driver, role: local.Role) -> Authority:
    found = driver.store.authorities.newest("local", role)
    assert found is not None
    return found


def test_another_intermediate_signs_in_time_and_for_ever(site: Site) -> None:
    init(site)
    with Driver(site) as driver:
        driver.attempt("www")
        root, first = current(driver, "root"), current(driver, "intermediate")
        driver.wait((240 * DAY).total_seconds())
        driver.attempt("www")
        assert current(driver, "intermediate") == first
        driver.wait((10 * DAY).total_seconds())
        lineage = driver.attempt("www")
        assert lineage.failure is None
        second = current(driver, "intermediate")
        assert second.id != first.id
        assert second.not_before > first.not_after - 130 * DAY
        assert current(driver, "root") == root
        driver.attempt("www")
        assert current(driver, "intermediate") == second, "one is enough"


@pytest.mark.fault(row=41)
def test_killed_while_an_intermediate_is_renewed(site: Site, warm: Warm) -> None:
    """The intermediate that was made is the one that signs."""
    init(site)
    with sqlite3.connect(database_file(site.state)) as connection:
        old = (datetime.now(UTC) - 300 * DAY).timestamp()
        connection.execute(
            "UPDATE authority SET not_before = ? WHERE role = 'intermediate'", (int(old * 1e6),)
        )
        soon = (datetime.now(UTC) + 65 * DAY).timestamp()
        connection.execute(
            "UPDATE authority SET not_after = ? WHERE role = 'intermediate'", (int(soon * 1e6),)
        )
    killed = warm.certd(site, "renew", CERTD_KILL_AT="authority: intermediate is kept")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert authorities(site) == ["root", "intermediate", "intermediate"]
    assert warm.certd(site, "renew").returncode == 0
    assert authorities(site) == ["root", "intermediate", "intermediate"]
    assert len(signed(site)) == 1


def test_towards_the_roots_end_nothing_is_made_without_end(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    init(site)
    with Driver(site) as driver:
        root = current(driver, "root")
        driver.wait((root.not_after - driver.now() - 30 * DAY).total_seconds())
        for _ in range(3):
            lineage = driver.force("www")
            assert lineage.failure is None
        assert authorities(site) == ["root", "intermediate", "intermediate"]
        driver.tidy()
        assert caplog.text.count("`certd ca init --replace`, and let the clients trust") == 1
        driver.tidy()  # told once a day
        assert caplog.text.count("`certd ca init --replace`, and let the clients trust") == 1
        driver.wait(DAY.total_seconds())
        driver.tidy()
        assert caplog.text.count("`certd ca init --replace`, and let the clients trust") == 2
        assert current(driver, "intermediate").not_after == root.not_after
        driver.wait((28 * DAY).total_seconds())
        lineage = driver.force("www")
        assert lineage.current is not None
        assert lineage.current.certificate.not_after == root.not_after
        driver.wait((2 * DAY).total_seconds())
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "its root expired" in lineage.failure.why
        assert "certd ca init --replace" in lineage.failure.next
        # Which is what the operator does.
        assert local.found("local", "certd local", [], driver.store.authorities, root, driver.now())
        driver.store.parks.lift("local", ["www"], driver.now())
        assert driver.attempt("www").failure is None


def test_a_root_in_its_last_year_is_told_where_the_operator_looks(site: Site, warm: Warm) -> None:
    init(site)
    for days, said in ((370, ""), (360, "expires"), (-1, "expired")):
        end = datetime.now(UTC) + days * DAY
        with sqlite3.connect(database_file(site.state)) as connection:
            connection.execute(
                "UPDATE authority SET not_after = ? WHERE role = 'root'",
                (int(end.timestamp() * 1e6),),
            )
        words = f"warning: local: its root {said} at {end:%F}: `certd ca init --replace`, and let"
        for command in ("status", "check"):
            done = warm.certd(site, command)
            assert done.returncode == 0, done.stderr
            assert (words in done.stdout) == bool(said)
            assert ("its root" in done.stdout) == bool(said)


def test_of_two_that_make_a_root_or_an_intermediate_one_is_kept(site: Site) -> None:
    store, now = Store.open(site.state), datetime.now(UTC)
    kept: list[bool] = []
    ready = threading.Barrier(4)

    def make() -> None:
        ready.wait()
        kept.append(local.found("local", "certd local", [], store.authorities, None, now))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert sorted(kept) == [False, False, False, True]
    assert authorities(site) == ["root", "intermediate"]


def test_an_order_gets_one_leaf_whoever_signs_twice(site: Site) -> None:
    """A process that was suspended while it signed, and goes on behind its successor."""
    init(site)
    store = Store.open(site.state)
    ca = local.LocalCA("local", 7 * DAY, store.authorities, lambda: datetime.now(UTC))
    order = ca.new_order((), None)
    csr = x509.csr_der(x509.csr(x509.new_key("ec-p256"), [Identifier("dns", "a.internal")]))
    answers: list[str] = []
    ready = threading.Barrier(4)

    def finalize() -> None:
        ready.wait()
        done = ca.finalize(order, csr)
        assert done.certificate is not None
        answers.append(ca.download(done.certificate).pem)

    threads = [threading.Thread(target=finalize) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert len(answers) == 4
    assert len(set(answers)) == len(signed(site)) == 1


def test_what_was_signed_is_forgotten_when_it_has_expired(site: Site) -> None:
    init(site)
    with Driver(site) as driver:
        driver.attempt("www")
        driver.tidy()
        assert len(signed(site)) == 1
        driver.wait((8 * DAY).total_seconds())
        driver.tidy()
        assert signed(site) == []
        assert driver.attempt("www").failure is None


def test_leaves_of_minutes_are_renewed_in_time_and_no_more(site: Site) -> None:
    """Forty minutes of a leaf that lives for ten."""
    site.tables["ca.local"] = {"lifetime": 600}
    site.write()
    init(site)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        begun = driver.now()
        while driver.now() - begun < timedelta(minutes=40):
            assert lineage.failure is None
            assert lineage.current is not None
            assert lineage.current.certificate.not_after > driver.now()
            driver.wait(60)
            lineage = driver.attempt("www")
        assert lineage.current is not None
        assert 6 <= lineage.current.number <= 10
