"""Deployment on a real nginx: what is served, what is said, and what is done again.

Every target state is looked at from both ends: what certd says of itself, and what the
server presents in a TLS handshake.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certd.engine.node import STOP_SECONDS
from certd.testing.nginx import Nginx
from certd.testing.pebble import Pebble
from certd.testing.tls import mint, probe
from tests.servers import agreed
from tests.site import Site

StartNginx = Callable[[Path, Path], Nginx]
QUICK = 1.0  # seconds until an endpoint must serve, in tests that wait for it in vain


class Served:
    """A site with one certificate and one target, which an nginx serves."""

    def __init__(self, site: Site, nginx: Nginx, pebble: Pebble, name: str) -> None:
        self.site, self.nginx, self.pebble, self.name = site, nginx, pebble, name
        self.before = probe(nginx.port).serial  # the placeholder's
        site.certificate("www", name, targets=["web"])
        self.web(reload=list(nginx.reload_argv))
        self._orders = len(pebble.ledger())

    def web(self, **settings: Any) -> None:
        """Change settings of the target."""
        old = self.site.tables.get("target.web", {"verify": [self.nginx.endpoint]})
        self.site.disk(**{**old, "path": str(self.site.folder / "web" / "{name}"), **settings})

    @property
    def folder(self) -> Path:
        return self.site.folder / "web" / "www"

    @property
    def link(self) -> str:
        return str((self.folder / "current").readlink())

    @property
    def served(self) -> str:
        return agreed(self.nginx.port)

    @property
    def issued(self) -> int:
        return len(self.pebble.ledger()) - self._orders

    @property
    def target(self) -> dict[str, Any]:
        return dict(self.site.status()["www"]["targets"][0])

    def renew(self, *words: str, status: int = 0) -> str:
        done = self.site.certd("renew", *words)
        assert done.returncode == status, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout


@pytest.fixture
def live(pebble: Pebble, start_nginx: StartNginx, tmp_path: Path) -> Served:
    """nginx runs with a placeholder where certd will put the first version."""
    site = Site(tmp_path / "site", pebble)
    placeholder = site.folder / "web" / "www" / "versions" / "0"
    minted = mint(placeholder, ["localhost"])
    minted.fullchain.rename(placeholder / "fullchain.pem")
    minted.key.rename(placeholder / "privkey.pem")
    current = placeholder.parent.parent / "current"
    current.symlink_to("versions/0")
    nginx = start_nginx(current / "fullchain.pem", current / "privkey.pem")
    return Served(site, nginx, pebble, f"{secrets.token_hex(6)}.example.com")


@pytest.fixture
def deployed(live: Served) -> Served:
    """Version 1 is served."""
    live.renew()
    assert live.served != live.before
    return live


def assert_told(target: dict[str, Any], state: str, *words: str) -> None:
    """State, reason and next attempt are visible (invariant I5)."""
    assert target["state"] == state, target
    said = f"{target['last_error']['what']}: {target['last_error']['why']}"
    for word in words:
        assert word in said
    wait = datetime.fromisoformat(target["next_attempt"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < wait < timedelta(seconds=67)


def test_what_is_issued_is_deployed_and_served(live: Served) -> None:
    said = live.renew()
    assert "www: issued, version 1" in said
    assert "; at web" in said
    bundle = live.site.bundle("www")
    assert bundle is not None
    assert live.served == bundle.certificate.serial
    assert live.link == "versions/1"
    target = live.target
    assert (target["state"], target["serving"]) == ("verified", 1)
    assert live.issued == 1


def test_a_renewal_takes_its_place_and_the_version_before_stays(deployed: Served) -> None:
    first = deployed.served
    deployed.renew("www", "--force")
    assert deployed.served != first
    assert deployed.link == "versions/2"
    assert (deployed.folder / "versions" / "1" / "privkey.pem").is_file()


def test_a_reload_that_fails_is_rolled_back_and_not_issued_again(deployed: Served) -> None:
    first = deployed.served
    deployed.web(reload=["sh", "-c", 'echo "emerg: broken"; exit 3'])
    said = deployed.renew("www", "--force", status=1)
    assert "www: FAILED web: version 2 is in place but not taken up" in said
    assert 'status 3: "emerg: broken"' in said
    assert deployed.issued == 2

    # The link is back. The command fails for the version before as well, and is told of.
    assert deployed.link == "versions/1"
    assert deployed.served == first
    assert_told(deployed.target, "failed", "status 3")
    assert deployed.site.certd("status").returncode == 1

    deployed.web(reload=deployed.nginx.reload_argv)
    assert "www: deployed, version 2" in deployed.renew("www")
    assert deployed.link == "versions/2"
    assert deployed.served != first
    assert deployed.issued == 2, "a failed deployment is no reason to issue"
    assert deployed.site.certd("status").returncode == 0


@pytest.mark.fault(row=47)
def test_a_server_that_refuses_the_new_pair_gets_the_old_one_back(deployed: Served) -> None:
    """The reload fails for version 2 only, as a server's configuration test would."""
    first = deployed.served
    reload = " ".join(deployed.nginx.reload_argv)
    deployed.web(reload=["sh", "-c", f'[ "$CERTD_VERSION" = 1 ] && exec {reload}'])
    deployed.renew("www", "--force", status=1)
    target = deployed.target
    assert_told(target, "rolled-back", "version 2", "version 1 is in place")
    assert target["serving"] == 1
    assert deployed.link == "versions/1"
    assert deployed.served == first


@pytest.mark.fault(row=48)
def test_a_server_that_did_not_take_it_up_is_rolled_back(deployed: Served) -> None:
    first = deployed.served
    deployed.web(reload=["true"], verify_timeout=QUICK)
    said = deployed.renew("www", "--force", status=1)
    assert f"still serves serial {first}" in said
    assert_told(deployed.target, "rolled-back", f"serial {first}", "version 1 is in place")
    assert deployed.link == "versions/1"
    deployed.web(reload=deployed.nginx.reload_argv)
    deployed.renew("www")
    assert deployed.served != first
    assert deployed.issued == 2


def test_a_server_that_is_down_is_told(deployed: Served) -> None:
    deployed.web(reload=["true"], verify_timeout=QUICK)
    deployed.nginx.halt()
    said = deployed.renew("www", "--force", status=1)
    assert "connection was refused" in said
    assert_told(deployed.target, "rolled-back", "connection was refused")
    deployed.nginx.start()
    deployed.web(reload=deployed.nginx.reload_argv)
    deployed.renew("www")
    assert deployed.link == "versions/2"
    assert deployed.issued == 2


def test_the_first_deployment_may_fail(live: Served) -> None:
    """There is nothing to go back to: what was there before certd stays served."""
    live.web(reload=["false"])
    assert "FAILED web" in live.renew(status=1)
    target = live.target
    assert_told(target, "failed", "status 1")
    assert target["serving"] is None
    assert live.served == live.before
    live.web(reload=live.nginx.reload_argv)
    assert "www: deployed, version 1" in live.renew("www")
    assert live.served != live.before
    assert live.issued == 1


def test_what_the_machine_lacks_holds_up_one_target_only(live: Served) -> None:
    """Without names, everything else goes on, and the target fails like any."""
    live.web(reload=["no-such-program"])
    done = live.site.certd("renew")
    assert done.returncode == 1
    assert "[target.web] reload: " in done.stderr
    assert "www: FAILED web: " in done.stdout
    assert live.issued == 1


def test_a_path_that_cannot_be_written_is_told(deployed: Served, tmp_path: Path) -> None:
    first = deployed.served
    (tmp_path / "file").write_text("not a folder")
    deployed.web(path=str(tmp_path / "file" / "{name}"))
    deployed.renew(status=1)
    target = deployed.target
    assert_told(target, "failed", str(tmp_path / "file"))
    assert "a file is where certd needs a folder" in target["last_error"]["next"]
    assert deployed.served == first


def test_where_a_file_is_in_the_way_nothing_is_ordered(live: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    live.web(path=str(tmp_path / "file" / "{name}"))
    said = live.renew(status=1)
    assert "www: FAILED nothing was ordered for www: a deployment to" in said
    assert f"{tmp_path / 'file'} is a file, where a folder is needed; move it away" in said
    assert live.served == live.before
    assert live.issued == 0
    (tmp_path / "file").unlink()
    live.web(reload=["true"], verify=[])
    assert "www: issued, version 1" in live.renew("www")


def test_only_the_target_that_failed_is_done_again(live: Served, tmp_path: Path) -> None:
    done = tmp_path / "reloads"
    live.site.certificate("www", live.name, targets=["web", "mail"])
    reload = " ".join(live.nginx.reload_argv)
    live.web(reload=["sh", "-c", f"echo web >> {done}; exec {reload}"])
    live.site.disk("mail", reload=["false"])
    live.renew(status=1)
    states = {item["name"]: item["state"] for item in live.site.status()["www"]["targets"]}
    assert states == {"web": "verified", "mail": "failed"}
    # Its back-off holds for an unnamed renewal, and the other target is left alone.
    assert "FAILED mail" in live.renew(status=1)
    live.site.disk("mail", reload=["sh", "-c", f"echo mail >> {done}"])
    live.renew("www")
    assert done.read_text().split() == ["web", "mail"]
    assert live.issued == 1
    assert live.site.status()["www"]["state"] == "ok"


@pytest.mark.parametrize(
    "place",
    [
        "issue: version is current",
        "disk: link switched",
        "disk: reloaded",
        "rollout: applied is kept",
    ],
)
def test_killed_on_the_way_it_goes_on(live: Served, place: str) -> None:
    killed = live.site.certd("renew", CERTD_KILL_AT=place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    live.renew()
    bundle = live.site.bundle("www")
    assert bundle is not None
    assert live.served == bundle.certificate.serial
    assert live.target["state"] == "verified"
    assert live.issued == 1


def test_killed_while_it_rolled_back_it_says_why_in_the_end(deployed: Served) -> None:
    first = deployed.served
    deployed.web(reload=["true"], verify_timeout=QUICK)
    deployed.site.certd("renew", "www", "--force", CERTD_KILL_AT="rollout: rolled back")
    assert deployed.served == first
    deployed.renew(status=1)
    assert_told(deployed.target, "rolled-back", "does not serve version 2")
    assert deployed.link == "versions/1"
    assert deployed.issued == 2


@pytest.mark.parametrize("change", ["path", "reload", "verify"])
def test_a_target_whose_settings_have_changed_is_deployed_to_again(
    alone: Site, change: str
) -> None:
    """The commands that only look know it before anybody has acted on it."""
    alone.disk().renew()
    issued = alone.status()["www"]["serial"]
    seen = alone.folder / "reloaded"
    changes: dict[str, dict[str, Any]] = {
        "path": {"path": str(alone.folder / "elsewhere" / "{name}")},
        "reload": {"reload": ["touch", str(seen)]},
        "verify": {"verify": ["127.0.0.1:1"], "verify_timeout": 0.1},
    }
    alone.disk(**changes[change])
    assert alone.certd("plan").stdout == "www: deploy web: to be deployed\n"
    entry = alone.status()["www"]
    assert (entry["state"], entry["targets"][0]["state"]) == ("deploying", "pending")
    assert re.search(r"^state +deploying$", alone.certd("show", "www").stdout, re.MULTILINE)
    done = alone.certd("renew")
    if change == "verify":
        assert (done.returncode, "127.0.0.1:1" in done.stdout) == (1, True)
    else:
        assert "www: deployed, version 1" in done.stdout
    assert (alone.folder / "elsewhere" / "www" / "current").exists() is (change == "path")
    assert seen.exists() is (change == "reload")
    assert alone.status()["www"]["serial"] == issued
    if change != "verify":
        assert "not due before" in alone.renew().stdout
        assert alone.certd("plan").stdout.startswith("nothing to do now")


def test_a_failure_says_whether_it_was_tried_now(alone: Site) -> None:
    alone.disk(path="/proc/nothing/{name}")
    tried, waiting = (alone.certd("renew") for _ in range(2))
    assert (tried.returncode, waiting.returncode) == (1, 1)
    assert "no folder can be made there" in tried.stdout
    assert "not tried again before" not in tried.stdout
    assert "not tried again before" in waiting.stdout


STOPS = pytest.mark.parametrize(
    ("command", "number", "status"),
    [("run", signal.SIGTERM, 0), ("renew", signal.SIGINT, 130), ("renew", signal.SIGTERM, 130)],
)


def stop_during_a_reload(
    site: Site, script: str, command: str, number: signal.Signals, status: int
) -> list[int]:
    """Stop certd while this reload command runs; which processes the command had."""
    pids = site.folder / "pids"
    begin = f"sleep 60 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; "
    site.disk(reload=["sh", "-c", begin + script])
    with site.start(command) as certd:
        certd.wait_until(pids.exists)
        certd.send(number)
        assert certd.wait(20) == status, certd.output()
    return [int(pid) for pid in pids.read_text().split()]


def runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def alone(pebble: Pebble, tmp_path: Path) -> Site:
    """A site with one certificate, and no server for it."""
    name = f"{secrets.token_hex(6)}.example.com"
    return Site(tmp_path / "site", pebble).certificate("www", name, targets=["web"])


@pytest.mark.fault(row=52)
@STOPS
def test_a_reload_that_hangs_ends_with_certd_and_the_next_run_does_it_again(
    alone: Site, command: str, number: signal.Signals, status: int
) -> None:
    began = time.monotonic()
    pids = stop_during_a_reload(alone, "wait", command, number, status)
    assert time.monotonic() - began > STOP_SECONDS, "it was not given the time of the stop"
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []
    [target] = alone.status()["www"]["targets"]
    assert (target["state"], target["last_error"]) == ("pending", None)
    alone.disk(reload=["true"])
    assert "www: deployed, version 1" in alone.renew().stdout


@STOPS
def test_a_reload_that_does_not_hang_comes_to_its_own_end(
    alone: Site, command: str, number: signal.Signals, status: int
) -> None:
    done = alone.folder / "done"
    script = f"kill $!; sleep 1; echo done > {done}"
    stop_during_a_reload(alone, script, command, number, status)
    assert done.read_text() == "done\n"
    [target] = alone.status()["www"]["targets"]
    assert target["state"] == "verified"
