"""The store under a seal: no byte of it shows a secret, whatever is changed or killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from certd import failpoint, x509
from certd.ca import local
from certd.errors import CertdError, SecretError, StoreError
from certd.known import Account, NextKey
from certd.model import CertificateSpec, DNSChallenge, Identifier, SigningRequest, TxtRecord
from certd.references import SecretReference
from certd.secrets import Secret
from certd.store import Store, resealing, schema
from certd.store.backup import back_up
from certd.store.inspection import inspect
from certd.store.keyfile import add_key
from certd.store.restoring import restore
from certd.store.sealed import SECRETS, look
from certd.testing.chains import bundle

NOW = datetime(2026, 5, 1, tzinfo=UTC)
NAME = Identifier("dns", "www.example.com")
TOKEN = "token-canary-0123456789abcdef"
KEY_AUTHORIZATION = "record-canary-0123456789abcdef.thumbprint"
FEW, MANY = 3, 4  # values in one transaction; accounts, which are more


class Sealed:
    """A state folder, and beside it the file with its key."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.key = folder / "key"
        self.seal = SecretReference("file", self.key)

    @contextlib.contextmanager
    def store(self, seal: SecretReference | None = None) -> Iterator[Store]:
        with contextlib.closing(Store.open(self.state, seal or self.seal)) as store:
            yield store

    def plain(self) -> contextlib.closing[Store]:
        return contextlib.closing(Store.open(self.state))

    def bytes(self) -> bytes:
        """Of all files in the state folder."""
        files = [path for path in sorted(self.state.rglob("*")) if path.is_file()]
        return b"".join(path.read_bytes() for path in files)


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    made = Sealed(tmp_path)
    add_key(made.key)
    return made


SPEC = CertificateSpec("www", (NAME,), ("test",), ("http-01",), (), "ec-p256", None)
OWN = replace(SPEC, name="own", csr=SigningRequest("", "pin"))
ROLES: tuple[Literal["root", "intermediate"], ...] = ("root", "intermediate")


def fill(store: Store, accounts: int = 1) -> list[str]:
    """An account whose key is being rolled over, two versions, an order that has failed, one
    under way, its token, the key after it, and a CA of our own; and a version whose key is
    elsewhere. Returns the secrets, none of which is to be found.
    """
    secrets = []

    def key() -> Secret:
        made = x509.new_key("ec-p256")
        secrets.append(made.reveal())
        return made

    for number in range(accounts):
        store.accounts.keep_account(Account(f"https://ca{number}.example/dir", key(), "uri"))
    account = store.accounts.account("https://ca0.example/dir")
    assert account is not None
    assert store.accounts.keep_next_key(account, key()) is not None
    assert local.found("local", "label", (), store.authorities, None, NOW)
    for role in ROLES:
        authority = store.authorities.newest("local", role)
        assert authority is not None
        secrets.append(authority.key_pem.reveal())
    store.lineages.take_over({"www": SPEC, "own": OWN}, "digest")
    assert sorted(store.leases.claim(["www", "own"])) == ["own", "www"]
    following = key()
    about = NextKey("ec-p256", x509.pin(following))
    store.next_keys.keep("www", following, about, NOW)
    _issue_for_a_request(store)
    for ends in ("complete", "adopt", "fail", "stay"):
        mine = key()
        csr = x509.csr(mine, (NAME,))
        if ends == "adopt":
            found = bundle("www", 0, NAME.value)
            secrets.append(found.key_pem.reveal())
            store.versions.adopt(found, "ec-p256", "test", (), NOW)
            continue
        order = store.orders.begin(
            "www", "test", "https://ca.example/dir", (NAME,), "ec-p256", mine, csr, None, NOW
        )
        if ends == "complete":
            found = bundle("www", 1, NAME.value)
            order = store.orders.with_new_key(order, found.key_pem, csr)
            secrets.append(found.key_pem.reveal())
            store.orders.complete(order, found.leaf_pem, found.chain_pem, found.certificate, NOW)
        elif ends == "fail":
            store.orders.end(order, "failed", "the CA would not", NOW)
    store.tokens.publish("www", {TOKEN: Secret(f"{TOKEN}.thumbprint")}, NOW)
    made_of = DNSChallenge("example.com", Secret(KEY_AUTHORIZATION))
    record = TxtRecord("example.com", "_acme-challenge.example.com", "value", 60, made_of)
    store.records.publish("www", "main", record, NOW)
    for name in ("www", "own"):
        store.leases.release(name, None)
    return [*secrets, TOKEN, KEY_AUTHORIZATION]


def _issue_for_a_request(store: Store) -> None:
    """Of the operator's own: there is no key, and that is sealed too."""
    found = bundle("own", 1, NAME.value)
    csr = x509.csr(found.key_pem, (NAME,))
    order = store.orders.begin(
        *("own", "test", "https://ca.example/dir", (NAME,), "ec-p256", Secret(""), csr, None, NOW),
        wishes=OWN.wishes,
    )
    store.orders.complete(order, found.leaf_pem, found.chain_pem, found.certificate, NOW)


def shown(data: bytes, secrets: list[str]) -> list[str]:
    """Which of them are to be found, whole or by a line of theirs."""
    lines = [line for secret in secrets for line in secret.splitlines() if len(line) > 20]
    return [line for line in lines if "-----" not in line and line.encode() in data]


def opens(store: Store, secrets: list[str], accounts: int = 1) -> None:
    """All of it can be read, and is what was written."""
    order = store.orders.live("www")
    assert order is not None
    found = {order.key_pem.reveal()}
    found |= {store.lineages.bundle("www", number).key_pem.reveal() for number in (1, 2)}
    for number in range(accounts):
        account = store.accounts.account(f"https://ca{number}.example/dir")
        assert account is not None
        found.add(account.key_pem.reveal())
        if account.next_key_pem:
            found.add(account.next_key_pem.reveal())
    for role in ROLES:
        authority = store.authorities.newest("local", role)
        assert authority is not None
        found.add(authority.key_pem.reveal())
    following = store.next_keys.get("www")
    assert following is not None
    found.add(following.reveal())
    assert found <= set(secrets)
    assert len(found) == accounts + 7
    assert store.lineages.bundle("own", 1).keyless
    assert store.tokens.answer(TOKEN) == f"{TOKEN}.thumbprint"
    assert store.tokens.published("www") == [TOKEN]


def test_no_byte_of_the_state_folder_shows_a_secret(sealed: Sealed) -> None:
    with sealed.store() as store:
        secrets = fill(store)
        assert len(secrets) == 13
        opens(store, secrets)
        back_up(sealed.state, None, NOW)
        data = sealed.bytes()
        assert shown(data, secrets) == []
        assert b"PRIVATE KEY" not in data
    assert shown(sealed.bytes(), secrets) == []
    with sealed.store() as store:
        opens(store, secrets)


def test_without_a_seal_they_are_found_so_the_search_is_one(sealed: Sealed) -> None:
    with sealed.plain() as store:
        secrets = fill(store)
        opens(store, secrets)
    found = shown(sealed.bytes(), secrets)
    assert TOKEN in found
    assert len(found) > 10
    assert look(sealed.state / "certd.db").by == ()


def test_a_database_that_is_there_is_sealed_and_its_free_space_too(sealed: Sealed) -> None:
    with sealed.plain() as store:
        secrets = fill(store)
    assert shown(sealed.bytes(), secrets) != []
    with sealed.store() as store:
        opens(store, secrets)
        assert shown(sealed.bytes(), secrets) == []
    found = look(sealed.state / "certd.db")
    assert (found.state, found.sealed, found.plain) == ("whole", 12, 0)


def test_every_column_of_secrets_is_sealed() -> None:
    """Whoever adds one finds out here."""
    named = {
        (table.name, column.name)
        for table in schema.metadata.tables.values()
        for column in table.columns
        if column.name.endswith("key_pem") or column.name == "key_authorization"
    }
    sealed = {(each.column.table.name, each.column.name) for each in resealing.SEALED}
    assert sealed == named == set(SECRETS)


def test_a_row_that_was_moved_does_not_open(sealed: Sealed) -> None:
    with sealed.store() as store:
        fill(store)
    with contextlib.closing(sqlite3.connect(sealed.state / "certd.db")) as connection:
        connection.execute(
            "UPDATE version SET key_pem = (SELECT key_pem FROM version WHERE lineage = 'www' "
            "AND number = 1) WHERE lineage = 'www'"
        )
        connection.commit()
    with sealed.store() as store:
        assert store.lineages.bundle("www", 1)
        with pytest.raises(SecretError, match="does not open: version www: it was changed"):
            store.lineages.bundle("www", 2)
    [finding] = inspect(sealed.state / "certd.db", sealed.seal).findings
    assert "www: version 2: a sealed value does not open" in finding.what


# -- the key is not there -------------------------------------------------------------------


def wrong_keys(sealed: Sealed) -> dict[str, SecretReference | None]:
    (sealed.key.with_name("empty")).touch()
    add_key(sealed.key.with_name("other"))
    return {
        "is sealed: the configuration has no seal": None,
        "was not fetched: No such file": SecretReference("file", sealed.key.with_name("absent")),
        "was not fetched: it is empty": SecretReference("file", sealed.key.with_name("empty")),
        "which is not there: { file": SecretReference("file", sealed.key.with_name("other")),
        "seal is no sealing key: line 1": SecretReference("plain", Secret("password")),
    }


def test_without_its_key_nothing_is_opened_and_nothing_is_changed(sealed: Sealed) -> None:
    with sealed.store() as store:
        secrets = fill(store)
    before = (sealed.state / "certd.db").read_bytes()
    for said, seal in wrong_keys(sealed).items():
        with pytest.raises(CertdError) as caught:
            Store.open(sealed.state, seal)
        assert said in str(caught.value)
        assert caught.value.next
        assert (sealed.state / "certd.db").read_bytes() == before
        assert len(inspect(sealed.state / "certd.db", seal).findings) == 1
    with sealed.store() as store:
        opens(store, secrets)


def test_a_wrong_key_for_a_database_that_is_not_sealed_changes_nothing(sealed: Sealed) -> None:
    with sealed.plain() as store:
        fill(store)
    before = (sealed.state / "certd.db").read_bytes()
    with pytest.raises(StoreError, match="no sealing key"):
        Store.open(sealed.state, SecretReference("plain", Secret("password")))
    assert (sealed.state / "certd.db").read_bytes() == before


def test_who_has_opened_it_before_it_was_sealed_writes_nothing_in_the_clear(sealed: Sealed) -> None:
    with sealed.plain() as before:
        secrets = fill(before)
        with sealed.store():
            pass
        with pytest.raises(StoreError, match="is to be restarted"):
            before.tokens.publish("www", {"another-token": Secret("a.b")}, NOW)
        with pytest.raises(StoreError, match="is to be restarted"):
            before.lineages.bundle("www", 1)
        assert before.lineages.get("www").current is not None, "what is no secret is read"
        assert b"another-token" not in sealed.bytes()
    with sealed.store() as store:
        opens(store, secrets)


# -- another key ----------------------------------------------------------------------------


def test_another_key_is_taken_up_beside_whoever_works(sealed: Sealed) -> None:
    with sealed.store() as daemon:
        secrets = fill(daemon)
        [old] = look(sealed.state / "certd.db").by
        new = add_key(sealed.key)
        with sealed.store() as other:
            assert other.seal_anew()
            assert not other.seal_anew(), "it is so already"
        opens(daemon, secrets)
        daemon.tokens.publish("mail", {"second-token": Secret("a.b")}, NOW)
    assert look(sealed.state / "certd.db").by == (new,)
    lines = sealed.key.read_text().splitlines()
    sealed.key.write_text(f"{lines[0]}\n")
    with sealed.store() as store:
        opens(store, secrets)
        assert store.tokens.answer("second-token") == "a.b"
    sealed.key.write_text(f"{lines[1]}\n")
    with pytest.raises(StoreError, match=f"key {new}, which is not there: .* has {old}"):
        Store.open(sealed.state, sealed.seal)


def test_a_value_that_does_not_open_holds_up_nothing_else(
    sealed: Sealed, caplog: pytest.LogCaptureFixture
) -> None:
    with sealed.store() as store:
        secrets = fill(store)
        store.tokens.publish("mail", {"second-token": Secret("a.b")}, NOW)
    with contextlib.closing(sqlite3.connect(sealed.state / "certd.db")) as connection:
        [lost] = connection.execute("SELECT max(number) FROM version WHERE lineage = 'www'")
        connection.execute("UPDATE version SET lineage = 'other' WHERE number = ?", lost)
        connection.execute("UPDATE token SET lineage = 'other'")
        connection.commit()
    add_key(sealed.key)
    with sealed.store() as store, pytest.raises(StoreError, match="1 values in the database do"):
        store.seal_anew()
    with sealed.store() as store:
        assert "version other" in caplog.text
        assert store.accounts.account("https://ca0.example/dir") is not None
        store.tokens.publish("www", {"third-token": Secret("a.c")}, NOW)
        assert store.tokens.answer("third-token") == "a.c"
    assert not any(secret in caplog.text for secret in secrets)


def test_whoever_lacks_the_new_key_writes_nothing_until_it_has_it(sealed: Sealed) -> None:
    first = SecretReference("plain", Secret(sealed.key.read_text()))  # as a credential: read once
    with sealed.store(first) as daemon:
        secrets = fill(daemon)
        add_key(sealed.key)
        with sealed.store() as other:
            assert other.seal_anew()
        with pytest.raises(StoreError, match="which is not there"):
            daemon.tokens.publish("www", {"another-token": Secret("a.b")}, NOW)
    with sealed.store() as store:
        opens(store, secrets)


def test_a_backup_needs_the_key_of_its_time(sealed: Sealed) -> None:
    with sealed.store() as store:
        secrets = fill(store)
        copy = back_up(sealed.state, None, NOW)
        add_key(sealed.key)
        assert store.seal_anew()
    keys = sealed.key.read_text().splitlines()
    before = (sealed.state / "certd.db").read_bytes()
    sealed.key.write_text(f"{keys[0]}\n")
    with pytest.raises(StoreError, match=r"was not restored: .*which is not there.*put the key"):
        restore(sealed.state, copy, NOW, sealed.seal)
    assert (sealed.state / "certd.db").read_bytes() == before
    sealed.key.write_text("\n".join(keys))
    restore(sealed.state, copy, NOW, sealed.seal)
    with sealed.store() as store:
        opens(store, secrets)


def test_a_backup_from_before_the_seal_is_sealed_when_it_is_back(sealed: Sealed) -> None:
    with sealed.plain() as store:
        secrets = fill(store)
        copy = back_up(sealed.state, sealed.key.with_name("copy.db"), NOW)
    with sealed.store():
        pass
    restore(sealed.state, copy, NOW, sealed.seal)
    with sealed.store() as store:
        opens(store, secrets)
    assert shown((sealed.state / "certd.db").read_bytes(), secrets) == []


# -- killed ---------------------------------------------------------------------------------


def run(sealed: Sealed, kill_at: int) -> int:
    """Seal everything, in a process that ends at its n-th failpoint; the signal, or 0."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            failpoint._KILL_AT = str(kill_at)
            failpoint._passed = itertools.count(1)
            os.close(2)
            os.open(os.devnull, os.O_WRONLY)
            with sealed.store() as store:
                store.seal_anew()
            status = 0
        finally:
            os._exit(status)
    ended = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(ended) or os.WEXITSTATUS(ended) == 0
    return os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0


@pytest.mark.parametrize("sealing", ["the first time", "with another key"])
def test_killed_anywhere_every_secret_opens_and_the_next_run_goes_on(
    sealed: Sealed, sealing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after another kill at the same place."""
    monkeypatch.setattr(resealing, "AT_ONCE", FEW)
    first = sealing == "the first time"
    with sealed.plain() if first else sealed.store() as store:
        secrets = fill(store, MANY)
    if not first:
        add_key(sealed.key)
    prepared = {path: path.read_bytes() for path in sealed.state.glob("certd.db*")}
    number = 0
    while True:
        number += 1
        for path, data in prepared.items():
            path.write_bytes(data)
        status = run(sealed, number)
        if status == 0:
            break
        assert status == signal.SIGKILL
        if number % 3 == 0:
            run(sealed, number)
        # Whoever opens it next: with the key it finishes the first sealing, or reads both.
        with sealed.store() as store:
            opens(store, secrets, MANY)
            store.seal_anew()
            opens(store, secrets, MANY)
        found = look(sealed.state / "certd.db")
        assert (len(found.by), found.state, found.plain) == (1, "whole", 0)
        assert shown((sealed.state / "certd.db").read_bytes(), secrets) == []
    assert number > 8, "there are more places than that"
