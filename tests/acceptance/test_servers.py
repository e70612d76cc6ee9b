"""Real servers, each with its own target, through certd: what it says, and what is served."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certd.testing.apache import Apache
from certd.testing.caddyserver import CaddyServer
from certd.testing.dovecot import Dovecot
from certd.testing.haproxy import HAProxy
from certd.testing.nginx import Nginx
from certd.testing.postfix import Postfix
from certd.testing.server import Server
from certd.testing.tls import mint
from certd.testing.traefik import Traefik
from tests.servers import settled
from tests.site import Site

KINDS: dict[str, type[Server]] = {
    "apache": Apache,
    "caddy": CaddyServer,
    "dovecot": Dovecot,
    "haproxy": HAProxy,
    "nginx": Nginx,
    "postfix": Postfix,
    "traefik": Traefik,
}


def own_settings(server: Server) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if isinstance(server, HAProxy):
        settings = {"socket": str(server.socket), "crt_list": str(server.crt_list)}
    elif isinstance(server, Traefik):
        return {"configuration": str(server.dynamic / "{name}.yml")}
    else:
        settings["reload"] = server.reload_argv
    return {**settings, "test": server.test_argv}


@contextlib.contextmanager
def served(name: str, folder: Path) -> Iterator[tuple[Server, Site]]:
    """A server with a certificate of somebody else's, and a site whose first is to replace it."""
    minted = mint(folder / "first")
    with KINDS[name](minted.fullchain, minted.key) as server:
        site = Site(folder / "site", None)
        current = site.folder / "tls" / "www" / "current"
        site.certificate("www", "www.example.com", targets=["web"])
        site.disk("web", path=str(site.folder / "tls" / "{name}"), verify=[server.endpoint])
        site.tables["target.web"].update(type=name, verify_timeout=10, **own_settings(server))
        site.write()
        if isinstance(server, Postfix):
            server.take(current / "postfix.pem")
        elif not isinstance(server, HAProxy):
            server.configure(current / "fullchain.pem", current / "privkey.pem")
        yield server, site


def fingerprint(site: Site) -> str:
    bundle = site.bundle("www")
    assert bundle is not None
    return bundle.certificate.fingerprint


@pytest.mark.parametrize("name", KINDS)
def test_what_is_issued_is_served_and_what_is_refused_is_not(name: str, tmp_path: Path) -> None:
    """Of every server: the first version, then one that its own test refuses, then that one."""
    with served(name, tmp_path) as (server, site):
        assert site.certd("ca", "init").returncode == 0
        first = site.certd("renew")
        assert first.returncode == 0, first.stdout + first.stderr
        older = fingerprint(site)
        assert settled(server, older)
        with server.broken():
            done = site.certd("renew", "www", "--force")
            assert done.returncode == 1, done.stdout
            assert "www: FAILED web: version 2 is not " in done.stdout
            assert settled(server, older)
        link = site.folder / "tls" / "www" / "current"
        assert str(link.readlink()) == "versions/1"
        [target] = site.status()["www"]["targets"]
        assert target["state"] in ("failed", "rolled-back")
        again = site.certd("renew", "www")
        assert again.returncode == 0, again.stdout
        assert fingerprint(site) != older
        assert settled(server, fingerprint(site))
