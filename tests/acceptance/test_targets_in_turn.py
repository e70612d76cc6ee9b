"""Several targets of one certificate: in their turn, in their window, with hooks, put right."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certd.x509 import facts, read_chain
from tests.site import Site

NAME = "www.internal.example"
FIVE = ("a", "b", "c", "d", "e")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Its CA is certd's own: nobody has to be asked."""
    site = Site(tmp_path / "site", None)
    assert site.certd("ca", "init").returncode == 0
    return site


def states(site: Site) -> dict[str, Any]:
    return {one["name"]: one for one in site.status()["www"]["targets"]}


def serial(site: Site, target: str) -> str:
    """Of what is in place."""
    chain = site.folder / target / "www/current/fullchain.pem"
    return facts(read_chain(chain.read_text())[0]).serial


def note(site: Site, words: str) -> list[str]:
    """A command that writes these words down, in order."""
    return ["sh", "-c", f"echo {words} >> {site.folder}/notes"]


def notes(site: Site) -> list[str]:
    path = site.folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_the_canary_goes_first_and_while_it_fails_the_others_are_left_alone(site: Site) -> None:
    site.disk("canary", reload=note(site, "canary"))
    site.disk("web", reload=note(site, "web"), after=["canary"])
    site.certificate("www", NAME, targets=["web", "canary"]).renew()
    assert notes(site) == ["canary", "web"]
    before = serial(site, "web")

    site.disk("canary", reload=["sh", "-c", "echo broken; exit 1"])
    failed = site.certd("renew", "www", "--force")
    assert failed.returncode == 1
    assert 'canary: version 2 is in place but not taken up: sh ended with status 1: "broken"' in (
        failed.stdout
    )
    assert serial(site, "web") == before
    shown = states(site)
    assert shown["web"]["reason"] == "version 2 is not there; it waits for canary"
    assert shown["web"]["next_attempt"] is None
    assert "www at web: version 2 is not there; it waits for canary" in site.certd("status").stdout
    assert "deploy web –: version 2 is not there; it waits for canary" in (
        site.certd("plan", "--all").stdout
    )

    site.disk("canary", reload=note(site, "canary"))
    site.renew()
    assert notes(site) == ["canary", "web", "canary", "web"]
    assert serial(site, "web") == serial(site, "canary") != before


def test_a_window_is_waited_for(site: Site) -> None:
    now = datetime.now(UTC)
    opens = now + timedelta(days=2)
    site.disk(window=f"{opens:%a} 02:00-03:00")
    site.disk("late", after=["web"]).certificate("www", NAME, targets=["late", "web"])
    assert site.certd("plan").stdout.splitlines()[1:] == [
        "www: then deploy to late, once web is verified",
        f"www: then deploy to web, when its window opens ({opens:%Y-%m-%d} 02:00Z)",
    ]
    done = site.certificate("www", NAME, targets=["web"]).renew()
    waits = "version 1 is not there; its window opens then"
    when = f"{opens:%Y-%m-%d} 02:00Z"
    assert "www: issued, version 1" in done.stdout
    assert f"; at no target yet; web: {waits} ({when})" in done.stdout
    assert f"; web: {waits} ({when})" in site.renew().stdout
    assert not (site.folder / "web").exists()
    assert site.certd("plan").stdout.startswith("nothing to do now for 1 certificate")
    shown = states(site)["web"]
    assert shown["reason"] == "version 1 is not there; its window opens then"
    assert shown["next_attempt"] == f"{opens:%Y-%m-%d}T02:00:00Z"
    assert f"its window opens then ({opens:%Y-%m-%d} 02:00Z, in " in site.certd("status").stdout

    site.disk(window=["daily 00:00-24:00", f"{opens:%a} 02:00-03:00"])
    site.renew()
    assert serial(site, "web")


def test_what_is_to_be_put_right_in_a_window_or_turn_says_when(site: Site) -> None:
    """Not "now", and not "stopped"."""
    site.disk("canary").disk("web", after=["canary"])
    site.certificate("www", NAME, targets=["canary", "web"]).renew()
    opens = datetime.now(UTC) + timedelta(days=2)
    (site.folder / "web/www/current").unlink()
    site.disk("canary", window=f"{opens:%a} 02:00-03:00")
    found = site.certd("renew", "www")
    assert "web: web has no usable certificate in place" in found.stdout
    shown = site.certd("status").stdout
    when = f"{opens:%Y-%m-%d} 02:00Z"
    assert f"www at canary: to be deployed; its window opens then ({when}, in " in shown
    assert "\n  it waits for canary\n" in shown
    assert "next attempt now" not in shown
    planned = site.certd("plan")
    assert f"failed and waiting: www; the next attempt is due {when}" in planned.stdout


def test_until_its_window_opens_a_target_is_to_serve_what_it_has(site: Site) -> None:
    site.disk().certificate("www", NAME, targets=["web"]).renew()
    opens = datetime.now(UTC) + timedelta(days=2)
    site.disk(window=f"{opens:%a} 02:00-03:00")
    site.renew("www", "--force")
    looked = site.certd("verify")
    assert looked.returncode == 0, looked.stdout
    when = f"its window opens then ({opens:%Y-%m-%d} 02:00Z, in "
    assert f"www at web is to serve version 1, until a newer one is deployed: {when}" in (
        looked.stdout
    )
    assert serial(site, "web") in looked.stdout
    (site.folder / "web/www/current").unlink()
    assert site.certd("verify").returncode == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"after": ["canary"]}, 'no such target: "canary"'),
        ({"after": ["web"]}, '"web" waits for itself'),
        ({"window": "Sunday"}, '"Sunday" is no maintenance window'),
        ({"look_every": "often"}, '"often" is no time between two looks'),
        ({"pre_hook": ["no-such-program"]}, "there is no program"),
        ({"post_hook": "drain web1"}, "post_hook"),
        ({"hook_timeout": 0}, "hook_timeout"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    site: Site, settings: dict[str, Any], said: str
) -> None:
    site.disk(**settings)
    done = site.certificate("www", NAME, targets=["web"]).certd("check")
    assert done.returncode == 2
    assert said in done.stderr
    [line] = [
        number
        for number, text in enumerate(site.path.read_text().splitlines(), 1)
        if text.startswith(next(iter(settings)))
    ]
    assert f"certd.toml:{line}" in done.stderr


def the_time_has_come(site: Site) -> None:
    """For the next look at each target."""
    with contextlib.closing(sqlite3.connect(site.state / "certd.db")) as database, database:
        database.execute("UPDATE target SET retry_at = 0")
        database.execute("UPDATE lineage SET due_at = 0")


def test_what_somebody_has_copied_back_is_put_right_also_by_the_daemon(site: Site) -> None:
    site.disk(reload=note(site, "reload"))
    site.certificate("www", NAME, targets=["web"]).renew()
    old = site.folder / "web/www/versions/1"
    kept = site.folder / "kept"
    shutil.copytree(old, kept)
    site.renew("www", "--force")
    wanted = serial(site, "web")

    current = site.folder / "web/www/current"

    def copy_back() -> None:
        for file in kept.iterdir():
            shutil.copy(file, current.resolve() / file.name)

    copy_back()
    assert serial(site, "web") != wanted
    assert "deployed, version 2" in site.renew("www").stdout
    assert serial(site, "web") == wanted
    assert notes(site) == ["reload"] * 3

    copy_back()
    the_time_has_come(site)
    daemon = site.start("run")
    try:
        until = time.monotonic() + 30
        while serial(site, "web") != wanted:
            assert time.monotonic() < until, daemon.log.read_text()
            time.sleep(0.1)
    finally:
        daemon.stop()
    assert "has another certificate in place" in daemon.log.read_text()


@pytest.mark.fault(row=50)
def test_killed_in_the_middle_of_five_targets_the_rest_is_done_and_nothing_twice(
    site: Site,
) -> None:
    for name in FIVE:
        site.disk(name, reload=note(site, name))
    site.certificate("www", NAME, targets=list(FIVE))
    killed = site.certd("renew", CERTD_KILL_AT="rollout: verified is kept")
    assert killed.returncode != 0
    done = {name for name, one in states(site).items() if one["state"] == "verified"}
    assert done
    before = Counter(notes(site))
    site.renew()
    after = Counter(notes(site))
    assert {one["state"] for one in states(site).values()} == {"verified"}
    assert all(after[name] == before[name] == 1 for name in done)
    assert all(after[name] in (1, 2) for name in FIVE), "at most the one that was cut off, again"
    assert len({serial(site, name) for name in FIVE}) == 1
    assert site.status()["www"]["version"] == 1, "nothing was issued again"


def test_who_runs_a_hook_sees_little(site: Site) -> None:
    """No secret of certd's own environment, and no key, is handed to it."""
    seen = site.folder / "seen"
    site.disk(pre_hook=["sh", "-c", f"env > {seen}; cat >> {seen}"])
    site.certificate("www", NAME, targets=["web"]).renew(TOKEN_OF_SOMEBODY="hunter2")
    text = seen.read_text()
    assert "CERTD_HOOK=pre" in text
    assert "hunter2" not in text
    assert "PRIVATE KEY" not in text
