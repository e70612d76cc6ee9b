"""certd as it really starts: a process of its own for each command, which imports what it needs.

Most tests run commands in forks of a process that has imported all of certd (``tests/warm.py``).
What a command forgets to import, or imports in an order that only works when something else
came first, shows here.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from certd.cli.main import COMMANDS
from certd.testing.pebble import Pebble
from certd.testing.processes import Child, Ports
from tests.machines import Hub
from tests.site import Site

# In this order: each finds what those before it have left.
WALK = (
    ("check", "good: 1 certificate"),
    ("plan", "www"),
    ("renew", "www: issued, version 1"),
    ("renew", "www: not due before"),
    ("renew --force www", "www: renewed, version 2"),
    ("renew --dry-run", "www"),
    ("status --json", '"state": "ok"'),
    ("status", "www"),
    ("show www", "version"),
    ("verify www", "in place"),
    ("export www --format fullchain", "-----BEGIN CERTIFICATE-----"),
    ("account show test", "thumbprint"),
    ("account rollover test", "has another key"),
    ("db backup", "certd-"),
    ("db check", "good"),
    ("ca init", "next: `certd ca trust`"),
    ("ca root", "-----BEGIN CERTIFICATE-----"),
    ("revoke www --yes", "revoked"),
    ("seal key {folder}/key", ""),
    ("plugins rfc2136", "credential"),
    ("pull --help", "another certd"),  # for which see below
    ("dns persist --help", "records"),  # which are somebody's to publish
)


def cold(site: Site, *words: str) -> str:
    done = subprocess.run(
        site.argv(*words), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout


def test_every_command_does_its_work_from_cold(pebble: Pebble, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", pebble).disk()
    site.certificate("www", f"{tmp_path.name}.example.com".replace("_", "-"), targets=["web"])
    site.tables["ca.test"]["staging"] = pebble.directory
    site.write()
    for words, said in WALK:
        assert said in cold(site, *words.format(folder=site.folder).split()), words
    # The daemon is below; `certd demo` starts a CA of its own, and is for `make demo`.
    assert {words.split()[0] for words, _ in WALK} == set(COMMANDS) - {"run", "demo"}


def test_what_one_certd_gives_another_pulls_from_cold(tmp_path: Path) -> None:
    with Ports() as ports:
        hub = Hub(tmp_path, ports)
        machine = hub.machine("web1", "www")
        with Child(hub.site.argv("run"), hub.site.folder / "certd.log") as daemon:
            daemon.wait_until(hub.answers)
            assert "www: fetched from hub, version 1" in cold(machine.site, "pull")
        assert machine.serves("www")


def test_the_daemon_does_its_work_from_cold(pebble: Pebble, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", pebble).disk()
    site.certificate("www", f"{tmp_path.name}.example.com".replace("_", "-"), targets=["web"])
    with Child(site.argv("run"), site.folder / "certd.log") as daemon:
        daemon.wait_until((site.folder / "web/www/current").exists)
        daemon.send(signal.SIGTERM)
        assert daemon.wait(20) == 0, daemon.output()
    [entry] = json.loads(cold(site, "status", "--json"))["certificates"]
    assert entry["name"] == "www"
