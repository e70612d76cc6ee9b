"""Sites as a sweep finds them, each time the same again."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

from certd.store import Store
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.nameserver import txt
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.site import Site
from tests.warm import Warm

NAME = "www.example.com"
SWEPT = "swept.example.test"  # in a zone of tests.faults.world
DAY = timedelta(days=1)
WISHES = {"profile": "special", "fallback_profile": "default", "lifetime": "7d"}


class Scene:
    """A site that was prepared once, and is put back to that before each run."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._prepared = site.folder.with_name("prepared")
        # In the same place, for a target that has moved is another one.
        shutil.copytree(site.folder, self._prepared, symlinks=True)

    def again(self) -> Site:
        shutil.rmtree(self.site.folder)
        shutil.copytree(self._prepared, self.site.folder, symlinks=True)
        return self.site


def from_nothing(site: Site, warm: Warm, pebble: Pebble) -> None:
    """Nothing has happened yet."""
    site.certificate("www", NAME, targets=["web"]).disk()
    Store.open(site.state).close()  # making the tables is most of a first run


def unseen(site: Site, warm: Warm, pebble: Pebble) -> None:
    """The same; nobody looks at the challenges before the CA does."""
    site.certificate("www", NAME, targets=["web"], self_check=False).disk()
    Store.open(site.state).close()


def by_tls(site: Site, warm: Warm, pebble: Pebble) -> None:
    """The same, by TLS-ALPN-01."""
    site.certificate("www", NAME, targets=["web"], challenge="tls-alpn-01").disk()
    Store.open(site.state).close()


def by_dns(site: Site, warm: Warm, pebble: Pebble) -> None:
    """The same, by DNS-01: two values at one name."""
    names = (SWEPT, f"*.{SWEPT}")
    site.certificate("www", *names, targets=["web"], challenge="dns-01").disk()
    Store.open(site.state).close()


def assert_nothing_in_dns(site: Site, pebble: Pebble) -> None:
    """Neither there nor in the journal."""
    primary = f"127.0.0.1:{site.tables['certd']['name_server_port']}"
    assert txt(primary, f"_acme-challenge.{SWEPT}") == []
    with site.store() as store:
        assert store.records.all() == []


def by_another(site: Site, warm: Warm, pebble: Pebble) -> None:
    """The same, where nobody answers the first of two challenges."""
    either = ["http-01", "tls-alpn-01"]
    site.certificate("www", NAME, targets=["web"], challenge=either).disk()
    site.tables["http"]["listen"] = [f"127.0.0.2:{pebble.http_port}"]
    site.write()
    Store.open(site.state).close()


def deployed(site: Site, warm: Warm, pebble: Pebble) -> None:
    """Version 1 is in place, and certd has looked at it since: its CRL is known."""
    site.certificate("www", NAME, targets=["web"]).disk()
    for _ in range(2):
        assert warm.certd(site, "renew").returncode == 0


def assert_revoked(site: Site, pebble: Pebble) -> None:
    """Version 1 is, at the CA and here, and no other has its key."""
    with site.store() as store:
        lineage = store.lineages.get("www")
        [revoked] = lineage.revocations
        first = store.lineages.bundle("www", 1).certificate
        same = store.revocations.same_key(first.spki_sha256, datetime.now(UTC))
        assert [(name, version.number) for name, version in same] == [("www", 1)]
    assert (revoked.number, revoked.revoked_at is None) == (1, False)
    assert pebble.cert_status(first.serial)["Status"] == "Revoked"


def due(site: Site, warm: Warm, pebble: Pebble) -> None:
    """Version 1 is at two targets, and its CA wants it renewed; certd is about to ask.

    Its next key is made, and its pin may have been published. The CA lists no such profile.
    """
    site.certificate("www", NAME, targets=["web", "mail"], backup_key=True, **WISHES)
    site.disk().disk("mail", reload=["true"])
    assert warm.certd(site, "renew").returncode == 0
    bundle, now = site.bundle("www"), datetime.now(UTC)
    assert bundle is not None
    pebble.set_renewal_info(bundle.leaf_pem, now - 2 * DAY, now - DAY)
    store = Store.open(site.state)
    store.lineages.ask_all(now)
    store.close()


def refused(site: Site, warm: Warm, pebble: Pebble) -> None:
    """Version 2 is issued, and the server will not take it up."""
    site.certificate("www", NAME, targets=["web"])
    site.disk(reload=["sh", "-c", '[ "$CERTD_VERSION" = 1 ]'])
    assert warm.certd(site, "renew").returncode == 0
    warm.certd(site, "renew", "www", "--force", CERTD_KILL_AT="issue: version is current")
    assert len(pebble.ledger()) == 2


def drifted(site: Site, warm: Warm, pebble: Pebble) -> None:
    """Version 2 was verified, and somebody has put version 1 back in place."""
    site.certificate("www", NAME, targets=["web"]).disk()
    for words in ((), ("www", "--force"), ()):
        assert warm.certd(site, "renew", *words).returncode == 0
    current = site.folder / "web/www/current"
    assert current.readlink().name == "2"
    current.unlink()
    current.symlink_to("versions/1")


def refuse(ca: FaultyCA) -> None:
    """No order replaces anything, none has a lifetime or the profile that is listed, and each
    has to be finalized twice, with another key.
    """
    keys: dict[str, str] = {}  # by order, the CSR that was refused

    def listed(exchange: Exchange, forward: Forward) -> Reply | None:
        meta = forward().json()["meta"]
        return forward().but(meta={**meta, "profiles": {"special": "", "default": ""}})

    def replaced(exchange: Exchange, forward: Forward) -> Reply | None:
        if "notAfter" in exchange.payload:
            return Reply.problem(400, "malformed", "NotAfter is not supported")
        if "replaces" in exchange.payload:
            return Reply.problem(409, "alreadyReplaced", "it has been")
        return forward()

    def finalized(exchange: Exchange, forward: Forward) -> Reply | None:
        csr = exchange.payload["csr"]
        if keys.setdefault(exchange.path, csr) == csr:
            return Reply.problem(400, "badCSR", "not that key")
        return forward()

    ca.on("directory", listed)
    ca.on("new-order", replaced)
    ca.on("finalize", finalized)


def lose(pebble: Pebble) -> None:
    """The CA does not find the name any more."""
    assert pebble.dns is not None
    pebble.dns.set_servfail(NAME)


def find(pebble: Pebble) -> None:
    assert pebble.dns is not None
    pebble.dns.clear_servfail(NAME)
