"""What the store keeps of revocations, and what the CAs' lists lead to."""

from __future__ import annotations

import contextlib
import http.server
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509 as cryptography

from certd import crls, due, revocation, x509
from certd.adoption import adopt
from certd.api import Bundle
from certd.ca.local import LocalCA
from certd.config import CASettings, TargetSettings
from certd.config.authorities import Proxy
from certd.known import Failure, Lineage, NextKey, Revocation
from certd.model import CertificateSpec, Decision, Identifier, Pair
from certd.secrets import Secret
from certd.standing import Entry
from certd.store import Store
from certd.store.glance import glance
from certd.store.revocations import CompromisedKey
from certd.testing.chains import DAY, HOUR, Authority, distribution_point, pem

NOW = datetime.now(UTC).replace(microsecond=0)
CA = Authority.root().authority("Intermediate 1", not_after=NOW + 1000 * DAY)
DIRECTORY = "https://ca.example/dir"
SETTINGS = {"test": CASettings("test", DIRECTORY)}
KEY = x509.new_key("ec-p256")


def spec(name: str) -> CertificateSpec:
    return CertificateSpec(
        name, (Identifier("dns", f"{name}.example"),), ("test",), targets=("web",)
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Knows ``a``, ``b`` and ``c``, of which this process has the leases."""
    opened = Store.open(tmp_path / "state")
    opened.lineages.take_over({name: spec(name) for name in "abc"}, "digest")
    opened.leases.claim("abc")
    yield opened
    opened.close()


def made(name: str, key: Secret, *lists: str, age: timedelta = HOUR, by: Authority = CA) -> Bundle:
    points = [distribution_point(*lists)] if lists else []
    leaf = by.leaf(
        key, f"{name}.example", not_before=NOW - age, not_after=NOW + 90 * DAY, crls=points
    )
    return Bundle(name, 0, pem(leaf), pem(by.certificate), key, x509.facts(leaf))


def issue(store: Store, name: str, key: Secret | None = None, *lists: str) -> Bundle:
    """The next version of it."""
    key = key or x509.new_key("ec-p256")
    csr = x509.csr(key, spec(name).identifiers)
    names = spec(name).identifiers
    order = store.orders.begin(name, "test", DIRECTORY, names, "ec-p256", key, csr, None, NOW)
    got = made(name, key, *lists)
    number = store.orders.complete(order, got.leaf_pem, got.chain_pem, got.certificate, NOW)
    return replace(got, version=number)


def intend(store: Store, name: str, reason: str) -> list[Revocation]:
    found = store.revocations.find(name, None)
    assert found is not None
    return store.revocations.intend(name, found[0], reason, "account", NOW)


def wish(store: Store, name: str) -> Decision:
    return due.issuance(spec(name), store.lineages.get(name), NOW)


def test_a_compromised_key_is_given_up_wherever_it_is_used(store: Store) -> None:
    issue(store, "a", KEY)
    issue(store, "b", KEY)
    issue(store, "c")
    asked = intend(store, "a", "keyCompromise")
    assert {one.name for one in asked} == {"a", "b"}
    for name in "ab":
        assert wish(store, name) == Decision(NOW, "version 1 is being revoked (keyCompromise)")
        assert store.lineages.get(name).forced
        assert store.lineages.get(name).new_key
    assert not store.lineages.get("c").new_key
    assert not wish(store, "c").due(NOW)
    # Whoever comes with it later is refused: a new order, or another key for one under way.
    with pytest.raises(CompromisedKey, match=r"a had it, and it is compromised since"):
        issue(store, "c", KEY)
    csr = x509.csr(KEY, spec("c").identifiers)
    fresh = x509.new_key("ec-p256")
    order = store.orders.begin(
        *("c", "test", DIRECTORY, spec("c").identifiers, "ec-p256", fresh),
        x509.csr(fresh, spec("c").identifiers),
        None,
        NOW,
    )
    with pytest.raises(CompromisedKey):
        store.orders.with_new_key(order, KEY, csr)
    # The CA may refuse to revoke, and the version may be gone: the key stays given up.
    for one in asked:
        store.revocations.drop(one)
    assert store.lineages.get("a").revocations == ()
    with pytest.raises(CompromisedKey):
        store.orders.refuse_compromised(csr)


def test_a_certificate_that_comes_for_a_key_given_up_meanwhile_is_revoked_too(store: Store) -> None:
    csr = x509.csr(KEY, spec("b").identifiers)
    order = store.orders.begin(
        *("b", "test", DIRECTORY, spec("b").identifiers, "ec-p256", KEY, csr, None, NOW)
    )
    issue(store, "a", KEY)
    intend(store, "a", "keyCompromise")
    late = made("b", KEY)
    store.orders.complete(order, late.leaf_pem, late.chain_pem, late.certificate, NOW)
    assert {one.name for one in store.revocations.pending()} == {"a", "b"}
    assert wish(store, "b").due(NOW)
    assert store.lineages.get("b").new_key


def test_one_that_another_certd_keeps_while_the_key_is_given_up_is_revoked_too(
    store: Store, tmp_path: Path
) -> None:
    issue(store, "a", KEY)
    [path] = (tmp_path / "state").glob("*.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        giving_up = threading.Thread(target=intend, args=(store, "a", "keyCompromise"))
        giving_up.start()
        giving_up.join(0.1)  # it waits for the other's transaction
        other.execute("CREATE TEMP TABLE late AS SELECT * FROM version")
        other.execute("UPDATE late SET lineage = 'b', fingerprint = 'ff'")
        other.execute("INSERT INTO version SELECT * FROM late")
        other.execute("COMMIT")
        giving_up.join()
    assert {one.name for one in store.revocations.pending()} == {"a", "b"}


def test_a_key_made_in_advance_is_given_up_too(store: Store) -> None:
    """As after a restore: what was the next key then has been in use since."""
    issue(store, "a", KEY)
    store.next_keys.keep("b", KEY, NextKey("ec-p256", x509.pin(KEY)), NOW)
    intend(store, "a", "keyCompromise")
    assert store.next_keys.get("b") is None


@pytest.mark.parametrize("reason", ["superseded", "unspecified"])
def test_for_any_other_reason_it_is_replaced_once_the_ca_has_done_it(
    reason: str, store: Store
) -> None:
    issue(store, "a", KEY)
    [asked] = intend(store, "a", reason)
    assert not wish(store, "a").due(NOW)
    store.revocations.done(asked, NOW)
    assert wish(store, "a").reason == f"version 1 was revoked on your word ({reason})"
    issue(store, "a", KEY)  # such a key may be used on
    assert not wish(store, "a").due(NOW)
    assert store.lineages.get("a").revocation is None
    assert [one.number for one in store.lineages.get("a").revocations] == [1]


def test_what_failed_is_tried_again_in_its_time_and_is_seen(store: Store, tmp_path: Path) -> None:
    issue(store, "a")
    [asked] = intend(store, "a", "superseded")
    assert store.revocations.pending(NOW) == [asked]
    failure = Failure("what", "why", "next", NOW)
    store.revocations.failed(asked, failure, NOW + HOUR)
    assert store.revocations.pending(NOW) == []
    [later] = store.revocations.pending(NOW + HOUR)
    assert (later.failures, later.failure) == (1, failure)
    assert glance(tmp_path / "state").wanted == store.lineages.all()
    [(_, lineage)] = glance(tmp_path / "state", "a").wanted
    assert lineage.revocations == (later,)
    store.revocations.done(later, NOW)
    assert store.revocations.pending() == []
    store.revocations.drop(later)  # too late for that
    assert store.lineages.get("a").revocation is not None


def test_one_that_cannot_be_read_is_put_off_and_the_others_are_asked_for(
    store: Store, tmp_path: Path
) -> None:
    for name in "ab":
        issue(store, name)
        intend(store, name, "superseded")
    [path] = (tmp_path / "state").glob("*.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE version SET leaf_pem = 'no PEM' WHERE lineage = 'a'")
    asked: list[bytes] = []

    class Asked(LocalCA):
        def revoke(self, der: bytes, reason: int, key_pem: Secret | None = None) -> None:
            asked.append(der)

    client = Asked("test", DAY, store.authorities, lambda: NOW)
    revocation.resume(store, lambda _: client, SETTINGS, lambda: 0.5, NOW, lambda: False)
    assert len(asked) == 1
    [left] = store.revocations.pending()
    assert (left.name, left.failures) == ("a", 1)
    assert left.failure is not None
    assert left.failure.what == "certd, or a plugin, made a mistake"
    assert store.revocations.pending(NOW) == []


def test_what_has_expired_is_not_to_be_revoked_any_more(store: Store, tmp_path: Path) -> None:
    issue(store, "a")
    [asked] = intend(store, "a", "superseded")
    store.revocations.failed(asked, Failure("what", "why", "next", NOW), NOW + HOUR)
    issue(store, "a")
    for now, states in ((NOW + HOUR, "failing"), (NOW + 91 * DAY, "expired")):
        [(_, lineage)] = glance(tmp_path / "state", "a").wanted
        assert lineage == store.lineages.get("a")
        assert Entry.of(spec("a"), lineage, now).state == states
        assert [one.number for one in store.revocations.pending(now)] == [1] * (
            now < NOW + 90 * DAY
        )
    [gone] = lineage.revocations
    young = replace(lineage, current=None, revocations=(replace(gone, ends=NOW),))
    assert Entry.of(spec("a"), young, NOW + DAY).state == "new"


def test_a_back_off_does_not_hold_what_is_revoked(store: Store) -> None:
    issue(store, "a")
    store.lineages.keep_failure("a", Failure("what", "why", "next", NOW), 3, NOW + DAY)
    store.revocations.done(intend(store, "a", "unspecified")[0], NOW)
    assert wish(store, "a").due(NOW)


class Shelf:
    """A target that holds a pair."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def deploy(self, bundle: Bundle) -> None:
        raise AssertionError("nothing is deployed")

    def serving(self, name: str) -> str | None:
        return None

    def recover(self, name: str) -> Pair:
        return self.pair


@pytest.mark.parametrize("reason", ["superseded", "keyCompromise"])
def test_what_is_revoked_is_not_taken_back_in(reason: str, store: Store) -> None:
    """Not the certificate, and of a key that is given up no other certificate either."""
    issue(store, "a", KEY)
    for one in intend(store, "a", reason):
        store.revocations.done(one, NOW)
    key = KEY if reason == "keyCompromise" else x509.new_key("ec-p256")
    newer = made("a", key, age=HOUR / 2)
    said: list[str] = []
    targets = {
        "web": TargetSettings("web", "shelf", Shelf(Pair(newer.fullchain_pem, newer.key_pem)))
    }
    number = adopt(
        spec("a"), store.lineages.get("a"), targets, store, lambda _, text: said.append(text), NOW
    )
    if reason == "keyCompromise":
        assert number is None
        assert "what web holds is not taken back in: its private key is compromised" in said[0]
    else:
        assert number == 2


# -- what the CAs' lists lead to -----------------------------------------------------------


class Lists:
    """A server of lists on loopback: what it has, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.has: dict[str, bytes] = {}
        lists = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lists.asked.append(self.path)
                body = lists.has.get(self.path)
                self.send_response(200 if body else 404)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/1.crl"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def put(self, *serials: str, reason: cryptography.ReasonFlags | None = None) -> None:
        self.has["/1.crl"] = CA.crl(
            *(int(serial, 16) for serial in serials),
            reason=reason,
            last_update=NOW - HOUR,
            next_update=NOW + 5 * HOUR,
        )

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def lists() -> Iterator[Lists]:
    server = Lists()
    yield server
    server.stop()


def look(store: Store, now: datetime = NOW, settings: CASettings = SETTINGS["test"]) -> None:
    crls.look(store, {"test": settings}, lambda: 0.0, lambda: now, lambda: False)


def revoked(store: Store) -> list[str]:
    return [name for name in "abc" if store.lineages.get(name).revocation]


def test_a_list_is_fetched_once_for_all_and_again_when_it_is_over(
    store: Store, lists: Lists
) -> None:
    first = issue(store, "a", None, lists.url)
    issue(store, "b", None, lists.url)
    issue(store, "c")  # names none
    lists.put()
    look(store)
    look(store)
    assert (lists.asked, revoked(store)) == (["/1.crl"], [])
    lists.put(first.certificate.serial)
    look(store, NOW + 5 * HOUR - timedelta(seconds=1))
    assert revoked(store) == []
    look(store, NOW + 5 * HOUR)
    assert (len(lists.asked), revoked(store)) == (2, ["a"])
    decision = due.issuance(spec("a"), store.lineages.get("a"), NOW + 5 * HOUR)
    assert decision.reason == "version 1 was revoked by its CA (unspecified)"
    assert decision.due(NOW + 5 * HOUR)
    assert not store.lineages.get("a").forced  # a CA that goes mad is held by our own limits
    issue(store, "a", None, lists.url)
    assert revoked(store) == []


def test_which_list_a_version_names_is_known_as_soon_as_it_is_kept(store: Store) -> None:
    issue(store, "a", None, "http://ca.example/1.crl")
    issue(store, "b")
    found = made("c", KEY, "http://ca.example/2.crl")
    store.versions.adopt(found, "ec-p256", "test", (), NOW)
    assert store.crls.unread(NOW) == []
    urls = {one.url for one in store.crls.due(NOW)}
    assert urls == {"http://ca.example/1.crl", "http://ca.example/2.crl"}


def test_a_key_that_the_ca_calls_compromised_is_given_up(store: Store, lists: Lists) -> None:
    first = issue(store, "a", KEY, lists.url)
    issue(store, "b", KEY)
    lists.put(first.certificate.serial, reason=cryptography.ReasonFlags.key_compromise)
    look(store)
    assert revoked(store) == ["a", "b"]  # the second is still to be asked for
    assert [one.name for one in store.revocations.pending()] == ["b"]
    assert {name for name in "abc" if store.lineages.get(name).new_key} == {"a", "b"}
    with pytest.raises(CompromisedKey):
        issue(store, "c", KEY)


def test_what_we_have_asked_for_and_find_there_is_done(store: Store, lists: Lists) -> None:
    first = issue(store, "a", KEY, lists.url)
    intend(store, "a", "superseded")
    lists.put(first.certificate.serial)
    look(store)
    [found] = store.lineages.get("a").revocations
    assert (found.signer, found.reason, found.revoked_at) == ("account", "superseded", NOW - HOUR)


def test_a_list_that_is_not_to_be_had_is_asked_for_ever_more_seldom(
    store: Store, lists: Lists
) -> None:
    issue(store, "a", None, lists.url)
    now = NOW
    for hours in (1, 2, 4, 8, 16, 24, 24):
        look(store, now)
        before = len(lists.asked)
        look(store, now + hours * HOUR - timedelta(seconds=1))
        assert len(lists.asked) == before
        now += hours * HOUR
    assert store.lineages.get("a") == replace(
        store.lineages.get("a"), failure=None, failures=0, revocations=()
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(CASettings("test", DIRECTORY, crl=False), None, id="crl = false"),
        pytest.param(
            CASettings("test", "https://acme-v02.api.letsencrypt.org/directory"),
            "is none at which a public CA has its list",
            id="a public CA",
        ),
    ],
)
def test_where_nothing_is_to_be_asked_nothing_is(
    settings: CASettings,
    words: str | None,
    store: Store,
    lists: Lists,
    caplog: pytest.LogCaptureFixture,
) -> None:
    issue(store, "a", None, lists.url)
    look(store, settings=settings)
    assert lists.asked == []
    assert (words or "was not") in caplog.text if words else not caplog.text


def test_a_list_comes_the_way_that_its_ca_is_asked(store: Store, lists: Lists) -> None:
    first = issue(store, "a", None, "http://lists.test/1.crl")
    lists.put(first.certificate.serial)
    lists.has["http://lists.test/1.crl"] = lists.has["/1.crl"]
    port = int(lists.url.split(":")[2].partition("/")[0])
    look(store, settings=CASettings("test", DIRECTORY, proxy=Proxy("127.0.0.1", port)))
    assert lists.asked == ["http://lists.test/1.crl"]
    assert revoked(store) == ["a"]


def test_a_list_that_is_over_still_revokes_and_is_asked_for_again(
    store: Store, lists: Lists
) -> None:
    first = issue(store, "a", None, lists.url)
    issue(store, "b", None, lists.url)
    lists.put(first.certificate.serial)
    look(store, NOW + 6 * HOUR)
    assert revoked(store) == ["a"]
    look(store, NOW + 7 * HOUR)
    assert len(lists.asked) == 2


def test_another_authoritys_list_revokes_nothing(store: Store, lists: Lists) -> None:
    first = issue(store, "a", None, lists.url)
    lists.has["/1.crl"] = Authority.root("Intermediate 1").crl(int(first.certificate.serial, 16))
    look(store)
    assert revoked(store) == []


def test_a_list_that_is_good_for_some_is_a_failure_for_the_others(
    store: Store, lists: Lists, caplog: pytest.LogCaptureFixture
) -> None:
    """Two issuers' leaves name it, and one of the two has signed it."""
    first = issue(store, "a", None, lists.url)
    other = Authority.root("Another").authority("Intermediate 2", not_after=NOW + 1000 * DAY)
    for name, authority in (("b", other), ("c", CA)):
        found = made(name, x509.new_key("ec-p256"), lists.url, by=authority)
        store.versions.adopt(found, "ec-p256", "test", (), NOW)
    lists.put(first.certificate.serial)
    look(store)
    assert revoked(store) == ["a"]
    assert "it is CN=Intermediate 1's, not CN=Intermediate 2's" in caplog.text
    [due_again] = store.crls.due(NOW + HOUR)
    assert due_again.failures == 1


def test_nothing_is_looked_at_without_a_certificate() -> None:
    store = Store.in_memory()
    look(store)
    store.close()


def test_the_lineage_knows_the_revocation_of_what_is_current_only() -> None:
    other = Revocation("ff", "a", 1, "superseded", "ca", NOW, NOW)
    assert Lineage("a", revocations=(other,)).revocation is None
