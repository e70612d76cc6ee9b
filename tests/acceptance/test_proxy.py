"""A CA that is there by way of a proxy only: nothing listens where its directory says."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from certd.known import Lineage
from certd.testing.pebble import RunningPebble
from tests.integration.tunnels import Proxy
from tests.site import Site

UNUSED = "localhost:1"  # tcpmux, which nobody has
SECONDS = 60.0  # far more than it takes


@pytest.fixture
def proxy(pebble: RunningPebble) -> Iterator[Proxy]:
    port = urlsplit(pebble.directory).port
    assert port
    with Proxy(pair="certd:right", leads={UNUSED: port}) as proxy:
        yield proxy


@pytest.fixture
def site(pebble: RunningPebble, tmp_path: Path, proxy: Proxy) -> Site:
    site = Site(tmp_path / "site", pebble)
    site.tables["ca.test"] |= {
        "directory": f"https://{UNUSED}{urlsplit(pebble.directory).path}",
        "proxy": f"http://certd@127.0.0.1:{proxy.port}",
        "source_address": "127.0.0.2",
        "min_tls": "1.3",
    }
    (site.folder / "right").write_text("right\n")
    (site.folder / "wrong").write_text("wrong\n")
    return site.certificate("www", f"{secrets.token_hex(6)}.example.com")


def lineage(site: Site) -> Lineage:
    if not (site.state / "certd.db").exists():
        return Lineage("www")
    with site.store() as store:
        found = {spec.name: row for spec, row in store.lineages.all()}
    return found.get("www", Lineage("www"))


def with_password(site: Site, file: str) -> None:
    """Write the configuration with the password in this file of the site's folder."""
    site.write()  # which knows no tables in place
    text = site.path.read_text()
    place = f'proxy_password = {{ file = "{file}" }}\n'
    site.path.write_text(text.replace("[ca.test]\n", f"[ca.test]\n{place}"))
    for name in ("right", "wrong"):
        (site.folder / name).chmod(0o600)


def test_all_that_a_ca_is_asked_goes_by_its_proxy(site: Site, proxy: Proxy) -> None:
    with_password(site, "right")
    checked = site.certd("check")
    assert (checked.returncode, checked.stderr) == (0, "")
    site.renew("www")
    assert set(proxy.asked) == {UNUSED}
    assert set(proxy.clients) == {"127.0.0.2"}
    assert site.status()["www"]["state"] == "ok"


def test_a_proxy_that_was_corrected_counts_from_the_reload_on(site: Site, proxy: Proxy) -> None:
    with_password(site, "wrong")
    with site.start("run", "--debug") as daemon:
        daemon.wait_until(lambda: bool(lineage(site).failure), SECONDS)
        failure = lineage(site).failure
        assert failure
        assert "does not take the user and password (HTTP 407)" in failure.why
        assert failure.next == "correct the user in proxy, or proxy_password, in [ca.test]"
        assert not proxy.passed
        with_password(site, "right")
        daemon.send(signal.SIGHUP)
        daemon.wait_until(lambda: bool(lineage(site).current), SECONDS)
        output = (site.folder / "certd.log").read_text()
        daemon.send(signal.SIGTERM)
        assert daemon.wait(20) == 0
    assert "Proxy-Authorization" not in output
    assert "right" not in output.replace("copyright", "")
