"""What a hub may give, and what of it is taken in: answers byte by byte, into a real store."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from certd import due
from certd.ca.wire import REPLY_CAP
from certd.config import Config, load_tables
from certd.distribution.hub import Hub, HubAway, HubError
from certd.distribution.wording import certificate_body, list_body, listed
from certd.engine.following import Followers
from certd.known import Lineage, Revocation
from certd.model import Bundle
from certd.pulling import Pulling
from certd.secrets import Secret
from certd.showing import Publisher
from certd.store import Store
from certd.testing.chains import Authority, pem
from certd.testing.tls import Minted, mint
from certd.x509 import facts, new_key
from tests.integration.answering import OK, saying, server
from tests.machines import within

NOW = datetime.now(UTC)
NOBODY = cast(Publisher, None)  # nothing is published for it, nor taken away
MIDDLE = Authority.root().authority("Intermediate 1")
WWW = "www.example.com"


@pytest.fixture(scope="module")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Minted:
    return mint(tmp_path_factory.mktemp("tls"))


class Site:
    """``www`` comes from whatever answers; it is leased."""

    def __init__(self, folder: Path, minted: Minted) -> None:
        for name in ("fullchain", "key"):
            shutil.copy(getattr(minted, name), folder / name)
        self.folder = folder
        self.root = minted.root
        self.store = Store.open(folder / "state")
        self.said: list[str] = []

    def step(self, url: str) -> Lineage:
        config = self.config(url)
        self.store.lineages.take_over(config.certificates, url)
        self.store.leases.claim(["www"])
        pulling = Pulling(config, self.store, NOBODY, lambda: NOW, lambda: 0.5, self._say)
        pulling.step(config.certificates["www"])
        pulling._hubs("hub").hang_up()  # whoever answers here has time for one connection only
        self.store.settle()
        return self.store.lineages.get("www")

    def config(self, url: str) -> Config:
        table = {
            "type": "certd",
            "server": url,
            "ca_bundle": str(self.root),
            "certificate": str(self.folder / "fullchain"),
            "key": str(self.folder / "key"),
        }
        wanted = {"names": [WWW], "ca": ["hub"]}
        return load_tables({"ca": {"hub": table}, "certificate": {"www": wanted}})

    def hub(self, url: str) -> Hub:
        return Hub(self.config(url).cas["hub"])

    def _say(self, name: str, text: str) -> None:
        self.said.append(f"{name}: {text}")


@pytest.fixture
def site(tmp_path: Path, minted: Minted) -> Iterator[Site]:
    site = Site(tmp_path, minted)
    with contextlib.closing(site.store):
        yield site


def made(
    *names: str, age: timedelta = timedelta(hours=1), left: timedelta = timedelta(days=80)
) -> Bundle:
    key = new_key("ec-p256")
    leaf = MIDDLE.leaf(key, *(names or (WWW,)), not_before=NOW - age, not_after=NOW + left)
    return Bundle("www", 7, pem(leaf), pem(MIDDLE.certificate), key, facts(leaf))


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def giving(one: Bundle) -> bytes:
    return answer(certificate_body(one))


NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n"


def test_what_is_good_is_taken_in(site: Site, minted: Minted) -> None:
    one = made()
    with server(minted, giving(one), 1 << 20) as (url, asked):
        lineage = site.step(url)
    assert lineage.current is not None
    assert (lineage.current.number, lineage.current.ca) == (1, "hub")
    assert lineage.current.directory == url
    assert lineage.failure is None
    assert lineage.ask_again is not None
    assert timedelta(minutes=13) < lineage.ask_again - NOW < timedelta(minutes=17)
    kept = site.store.lineages.bundle("www", 1)
    assert (kept.key_pem, kept.fullchain_pem) == (one.key_pem, one.fullchain_pem)
    assert asked[0].startswith(b"GET /v1/certificates/www HTTP/1.1\r\n")
    assert site.said == [
        f"www: version 7 of hub taken in as version 1, valid until {one.certificate.not_after:%F}"
    ]
    with server(minted, NOT_MODIFIED, 1 << 20) as (url, asked):
        assert site.step(url).current == lineage.current
    since = f"?since={one.certificate.fingerprint} ".encode()
    assert since in asked[0]


PAIR, OTHER = made(), made()
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("given", "words", "away"),
    [
        pytest.param(
            giving(replace(PAIR, key_pem=OTHER.key_pem)), "its public key is not", False, id="pair"
        ),
        pytest.param(
            giving(made("mail.example.com")), "it lacks www.example.com", False, id="name"
        ),
        pytest.param(
            giving(made(WWW, "mail.example.com")), "it is also for mail", False, id="one more name"
        ),
        pytest.param(
            giving(made(left=-timedelta(minutes=1))), "it expired at", False, id="expired"
        ),
        pytest.param(
            giving(made(age=-timedelta(hours=1))), "it is not yet valid", False, id="not yet valid"
        ),
        pytest.param(
            giving(replace(PAIR, chain_pem="")), "its chain is missing", False, id="no chain"
        ),
        pytest.param(
            giving(replace(PAIR, leaf_pem="nothing")), "its public key is not", False, id="no leaf"
        ),
        pytest.param(
            giving(replace(PAIR, key_pem=Secret("secret"))), "its key cannot", False, id="no key"
        ),
        pytest.param(
            giving(replace(PAIR, key_pem=Secret(""))), "hub has no key of www", False, id="keyless"
        ),
        pytest.param(giving(replace(PAIR, name="mail")), "another certificate", True, id="other"),
        pytest.param(answer(b"{}"), "another certificate", True, id="no object"),
        pytest.param(answer(b"<html>"), "not JSON", True, id="a page"),
        pytest.param(answer(b"x" * (REPLY_CAP + (1 << 17))), "longer than", True, id="huge"),
        pytest.param(REDIRECT, "HTTP 302", True, id="a redirect"),
        pytest.param(answer(b"", "500 Oops"), "HTTP 500", True, id="500"),
        pytest.param(b"SSH-2.0\r\n", "not HTTP", True, id="another protocol"),
        pytest.param(OK + b"A: b\r\n", "in the middle", True, id="half of it"),
        pytest.param(answer(b"", "403 No"), "does not know this machine", False, id="403"),
        pytest.param(answer(b"", "404 No"), "does not give www to this", False, id="404"),
    ],
)
def test_what_is_not_is_refused_and_what_there_is_stays(
    given: bytes, words: str, away: bool, site: Site, minted: Minted
) -> None:
    good = made(age=timedelta(days=1))
    with server(minted, giving(good), 1 << 20) as (url, _):
        site.step(url)
    for failures in (1, 2):
        with server(minted, given, 1 << 20) as (url, _):
            lineage = site.step(url)
        assert lineage.current is not None
        assert lineage.current.certificate == good.certificate
        assert lineage.failure is not None
        assert words in str(lineage.failure)
        assert "secret" not in str(lineage.failure)
        assert lineage.retry_at is not None
        assert lineage.retry_at > NOW
        # A hub that is away will be back; what it refuses, or gives, is to be mended there.
        assert lineage.failures == (failures if away else 2 + failures)
    with server(minted, NOT_MODIFIED, 1 << 20) as (url, _):
        assert site.step(url).failure is None


def test_what_is_older_is_not_taken_as_long_as_there_is_something_good(
    site: Site, minted: Minted
) -> None:
    new, old = made(age=timedelta(days=1)), made(age=timedelta(days=2), left=timedelta(days=85))
    with server(minted, giving(new), 1 << 20) as (url, _):
        site.step(url)
    with server(minted, giving(old), 1 << 20) as (url, _):
        failure = site.step(url).failure
    assert failure is not None
    assert failure.what == "what hub has of www is older than what is here"


def test_what_is_older_is_better_than_what_is_over(site: Site, minted: Minted) -> None:
    over, old = made(age=timedelta(days=1), left=-timedelta(hours=1)), made(age=timedelta(days=2))
    site.step("https://127.0.0.1:1")  # nobody is there
    site.store.versions.adopt(over, "ec-p256", "hub", (), NOW)
    with server(minted, giving(old), 1 << 20) as (url, _):
        lineage = site.step(url)
    assert lineage.failure is None
    assert lineage.current is not None
    assert lineage.current.certificate == old.certificate


def test_a_hub_that_should_have_something_newer(site: Site, minted: Minted) -> None:
    one = made(age=timedelta(days=88), left=timedelta(days=2))
    with server(minted, giving(one), 1 << 20) as (url, _):
        site.step(url)
    with server(minted, NOT_MODIFIED, 1 << 20) as (url, _):
        failure = site.step(url).failure
    assert failure is not None
    assert failure.what == "hub has nothing newer than version 1"


def test_what_is_revoked_is_not_taken(site: Site, minted: Minted) -> None:
    one = made()
    site.step("https://127.0.0.1:1")
    facts = one.certificate
    gone = Revocation(facts.fingerprint, "www", 1, "keyCompromise", "ca", NOW, NOW)
    site.store.revocations.noticed([gone], [(facts.spki_sha256, "www", NOW)])
    with server(minted, giving(one), 1 << 20) as (url, _):
        failure = site.step(url).failure
    assert "what hub has of www is not taken: it was revoked by its CA" in str(failure)


def test_what_the_hub_tells_while_it_is_asked_is_not_lost(site: Site, minted: Minted) -> None:
    """Else the version after next would be there a quarter of an hour late."""
    told = NOW + timedelta(seconds=1)

    for answered in (giving(made()), NOT_MODIFIED):

        def given(answered: bytes = answered) -> Iterator[bytes]:
            site.store.lineages.ask_hub(["www"], told)
            yield answered

        with saying(minted, given, goes_on=True) as (url, _):
            lineage = site.step(url)
        assert lineage.current is not None
        assert lineage.ask_again is not None
        assert lineage.ask_again <= told
    with server(minted, NOT_MODIFIED, 1 << 20) as (url, _):
        assert site.step(url).ask_again == NOW + due.HUB_LOOK


def test_what_has_failed_is_asked_for_as_soon_as_the_hub_answers_again(
    site: Site, minted: Minted
) -> None:
    """It failed with what was wrong then, and would wait for more than an hour."""
    with server(minted, giving(made()), 1 << 20) as (url, _):
        site.step(url)
    with server(minted, answer(b"", "403 No"), 1 << 20) as (url, _):
        failed = site.step(url)
    assert failed.retry_at is not None
    assert failed.retry_at > NOW + timedelta(hours=1)
    over = threading.Event()

    def answers() -> Iterator[bytes]:
        if len(asked) > 3:
            over.wait(30)
            return
        yield [answer(list_body(listed({}))), answer(b"", "403 No"), NOT_MODIFIED][len(asked) - 1]

    woken: list[str] = []
    followers = Followers(site.store, lambda: woken.append("up"), lambda: NOW, lambda: 0.0)
    with saying(minted, answers, goes_on=True) as (url, asked):
        followers.follow(site.config(url))
        try:
            within(10, lambda: bool(woken))
        finally:
            over.set()
            followers.stop()
    assert len(asked) >= 3
    assert site.store.lineages.get("www").retry_at is None


def test_a_hub_that_drips_is_given_up_in_time(site: Site, minted: Minted) -> None:
    def drips() -> Iterator[bytes]:
        yield OK
        while True:
            yield b"X: y\r\n"
            time.sleep(0.05)

    with saying(minted, drips) as (url, _):
        hub = site.hub(url)
        hub._tools()[False]._deadline = 0.5
        begun = time.monotonic()
        with pytest.raises(HubAway, match="in time"):
            hub.fetch("www")
        assert time.monotonic() - begun < 20


def test_who_waits_is_let_go(site: Site, minted: Minted) -> None:
    """A daemon that stops does not wait for a hub."""
    silent = threading.Event()

    def silence() -> Iterator[bytes]:
        silent.wait(10)
        yield b""

    with saying(minted, silence) as (url, asked):
        hub, failed = site.hub(url), list[Exception]()

        def wait() -> None:
            try:
                hub.list("state", 50)
            except HubError as error:
                failed.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while not asked:
            time.sleep(0.01)
        hub.hang_up()
        thread.join(5)
        assert not thread.is_alive()
        assert len(failed) == 1
        silent.set()


def test_another_client_certificate_is_shown_as_soon_as_it_is_there(
    site: Site, minted: Minted, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = mint(tmp_path_factory.mktemp("other"))
    with server(minted, answer(list_body(listed({}))), 1 << 20) as (url, _):
        hub = site.hub(url)
        assert hub.list() == listed({})
        shutil.copy(other.key, site.folder / "key")  # half of it
        with pytest.raises(HubError, match="its key does not belong to it"):
            hub.list()
        shutil.copy(other.fullchain, site.folder / "fullchain")
        assert hub.list() == listed({})
        (site.folder / "key").unlink()
        with pytest.raises(HubError, match="No such file"):
            hub.list()
        hub.hang_up()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_no_proxy_of_the_environment_is_used(
    name: str, site: Site, minted: Minted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    with server(minted, giving(made()), 1 << 20) as (url, _):
        assert site.step(url).current is not None
