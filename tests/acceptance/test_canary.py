"""Secrets that are marked, everything at DEBUG and everything failing: none is seen anywhere.

What is looked at: what all commands and the daemon print and log, every file that they leave
but for those that are to hold a secret, the arguments of all processes, and the environment of
those that certd starts.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import signal
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certd import config as configuration
from certd.config import BadConfig
from certd.errors import SecretError, StoreError
from certd.model import Bundle
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests import shelf, vault
from tests.site import Site
from tests.warm import ROOT

KINDS = ("plain", "password", "file", "env", "credential", "command", "argument")

# What the programs that certd starts see: of all processes the arguments, their own environment.
SPY = """\
cat /proc/[0-9]*/cmdline >>{seen} 2>/dev/null
cat /proc/self/environ >>{seen}
"""


class Marked:
    """A site whose every secret is known, and all that was seen of it."""

    def __init__(self, site: Site, faulty: FaultyCA) -> None:
        self.site, self.faulty = site, faulty
        self.canary = {kind: f"canary-{kind}-{secrets.token_hex(8)}" for kind in KINDS}
        self.seen: list[str] = []
        self.keys: set[str] = set()
        self.processes = site.folder / "processes"
        self.places = site.folder / "places"  # of the secrets
        self.places.mkdir()
        plugins = site.folder / "plugins"
        plugins.mkdir()
        shelf.install(plugins, vault.ENTRY_POINTS)
        self.environment = {
            "PYTHONPATH": f"{plugins}:{ROOT}",
            "CREDENTIALS_DIRECTORY": str(self.places),
            "CANARY": self.canary["env"],
        }
        for kind in ("file", "credential", "command"):
            (self.places / kind).write_text(f"{self.canary[kind]}\n")
            (self.places / kind).chmod(0o600)
        spy = SPY.format(seen=self.processes)
        fetch = self.script("fetch", f"{spy}cat {self.places}/command\n")
        fail = f"cat {self.places}/command\ncat {self.places}/command >&2\necho $1 >&2\nexit 3\n"
        self.failing = {"command": [self.script("fail", fail), self.canary["argument"]]}
        self.site.disk(reload=[self.script("reload", spy)]).sealed()
        self.vault(keys=[{"command": [fetch]}])

    def script(self, name: str, lines: str) -> str:
        path = self.site.folder / name
        path.write_text(f"#!/bin/sh\n{lines}")
        path.chmod(0o755)
        return str(path)

    def vault(self, how: str = "good", keys: list[object] | None = None) -> None:
        """The secrets of every kind, and some more."""
        every = [
            self.canary["plain"],
            {"file": f"{self.places}/file"},
            {"env": "CANARY"},
            {"credential": "credential"},
        ]
        self.site.tables["target.vault"] = {
            "type": "safe",
            "folder": str(self.site.folder / "vault"),
            "password": self.canary["password"],
            "keys": [*every, *(keys or [])],
            "how": how,
        }
        self.site.write()

    def certd(self, *words: str, ends: int = 0) -> str:
        done = self.site.certd(*words, **self.environment)
        self.seen.append(f"{words}\n{done.stdout}\n{done.stderr}")
        assert done.returncode == ends, self.seen[-1]
        with contextlib.suppress(SecretError, StoreError):  # it may have been damaged on purpose
            self._learn()
        return done.stdout + done.stderr

    def found(self) -> list[str]:
        """Which secrets were seen, and where."""
        text = {"output": "\n".join(self.seen).encode()}
        own = {self.places, self.site.path, self.site.folder / "key", self.site.folder / "web"}
        for path in sorted(self.site.folder.rglob("*")):
            if path.is_file() and own.isdisjoint({path, *path.parents}):
                text[str(path)] = path.read_bytes()
        assert str(self.processes) in text
        return [
            f"{secret} in {where}"
            for where, data in text.items()
            for secret in self._secrets()
            if secret.encode() in data
        ]

    def _secrets(self) -> set[str]:
        sealing = (self.site.folder / "key").read_text().split()
        return {*self.canary.values(), *self.keys, *self._tokens(), *sealing}

    def _tokens(self) -> set[str]:
        """What the CA has sent, and asked for."""
        found: set[str] = set()
        for exchange in self.faulty.acted_on("authorization"):
            assert exchange.upstream is not None
            found |= {one.get("token", "") for one in exchange.upstream.json()["challenges"]}
        return found - {""}

    def _learn(self) -> None:
        """The private keys that there are now, in the forms that they may be seen in."""
        if not (self.site.state / "certd.db").exists():
            return
        with self.site.store() as store:
            account = store.accounts.account(self.faulty.directory)
            bundles: list[Bundle] = []
            if any(spec.name == "www" for spec, _ in store.lineages.all()):
                current = store.lineages.get("www").current
                bundles = [store.lineages.bundle("www", current.number)] if current else []
            order = store.orders.live("www") if bundles or account else None
            following = store.next_keys.get("www")
            own = [store.authorities.newest("local", role) for role in ("root", "intermediate")]
        pems = [one.key_pem for one in (account, order, *bundles, *own) if one]
        pems += [one for one in (following, account and account.next_key_pem) if one]
        for pem in (secret.reveal() for secret in pems):
            # The lines after these hold the public half only, which is in each request too.
            self.keys |= set(pem.splitlines()[1:3])
            key = load_pem_private_key(pem.encode(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            number = key.private_numbers().private_value
            octets = number.to_bytes(key.key_size // 8, "big")
            jwk = base64.urlsafe_b64encode(octets).decode().rstrip("=")
            self.keys |= {octets.hex(), jwk, str(number), pem.replace("\n", "\\n")}


@pytest.fixture
def marked(pebble: Pebble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marked]:
    with FaultyCA(pebble, tmp_path / "ca") as faulty:
        site = Site(tmp_path / "site", faulty)
        host = f"{secrets.token_hex(6)}.example.com"
        site.certificate("www", host, targets=["web", "vault"], backup_key=True)
        marked = Marked(site, faulty)
        monkeypatch.setenv("PYTHONPATH", marked.environment["PYTHONPATH"])
        yield marked


def test_when_all_goes_well(marked: Marked) -> None:
    assert "warning: " in marked.certd("check")
    marked.certd("plan")
    marked.certd("ca", "init")
    assert "issued" in marked.certd("renew", "--debug")
    marked.certd("account", "rollover", "test")
    marked.certd("revoke", "www", "--reason", "keyCompromise", "--yes")
    for line in ("account list", "account show test", "ca root"):
        marked.certd(*line.split())
    for words in (("status",), ("status", "--json"), ("show", "www"), ("db", "check")):
        marked.certd(*words)
    marked.certd("db", "backup")
    marked.certd("seal", "key", str(marked.site.folder / "key"))
    marked.certd("seal", "rotate")
    marked.certd("seal", "status")
    with marked.site.start("run", "--debug", **marked.environment) as daemon:
        log = marked.site.folder / "certd.log"
        daemon.wait_until(lambda: ": watching " in log.read_text())
        marked.certd("renew", "www", "--force", "--debug")
        daemon.send(signal.SIGHUP)
        daemon.wait_until(lambda: "configuration reread" in log.read_text())
    assert len(marked.keys) > 10
    assert marked.processes.stat().st_size > 0
    assert (marked.site.folder / "vault/www").exists()
    assert marked.found() == []


def test_when_the_ca_fails(marked: Marked) -> None:
    def garbage(exchange: Exchange, forward: Forward) -> Reply | None:
        return Reply(200, {"Content-Type": "application/json"}, b'{"status": ["' + b"x" * 99)

    def refuse(exchange: Exchange, forward: Forward) -> Reply | None:
        return Reply.problem(403, "unauthorized", f"what is {exchange.payload}?")

    marked.processes.touch()
    faults = [
        ("new-account", refuse),
        ("new-order", garbage),
        ("new-order", refuse),
        ("finalize", refuse),
    ]
    for kind, act in faults:
        marked.faulty.on(kind, act)
        marked.certd("renew", "www", "--debug", ends=1)
        marked.faulty.honest()
    marked.certd("status", ends=1)
    marked.certd("renew", "www", "--debug")
    assert marked._tokens()
    assert marked.found() == []


def test_when_the_plugin_or_its_secrets_fail(marked: Marked) -> None:
    for how, said in (("refused", "the vault refuses"), ("broken", "made a mistake")):
        marked.vault(how)
        assert said in marked.certd("renew", "www", "--debug", ends=1)
    assert "Traceback" in marked.seen[-1]
    marked.certd("status", ends=1)
    failing: list[tuple[object, str]] = [
        (marked.failing, "ended with status 3; run the command by hand"),
        ({"env": "ABSENT"}, "has no ABSENT"),
        ({"command": ["head", "-c", "99999", "/dev/zero"]}, "too much"),
    ]
    for reference, said in failing:
        marked.vault(keys=[reference])
        marked.certd("renew", "www", "--debug", ends=1)
        assert said in marked.certd("status", ends=1)
    marked.processes.touch()
    assert marked.found() == []


def test_when_the_configuration_is_wrong(marked: Marked, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in marked.environment["PYTHONPATH"].split(":"):
        monkeypatch.syspath_prepend(path)
    secret = marked.canary["plain"]
    wrong: list[dict[str, object]] = [
        {"how": "wrong"},
        {"how": "odd"},
        {"password": [secret]},
        {"password": {secret: secret}},
        {"keys": secret},
        {"keys": [{"env": f"{secret}!"}, {"credential": f"/{secret}"}, {"command": secret}]},
        {"keys": [7, [], {"file": [secret]}, {"file": secret, "env": secret}]},
    ]
    for settings in wrong:
        marked.vault()
        marked.site.tables["target.vault"] |= settings
        marked.site.write()
        with pytest.raises(BadConfig) as caught:
            configuration.load(marked.site.path)
        trace = traceback.TracebackException.from_exception(caught.value)
        marked.seen += [str(caught.value), repr(caught.value), *trace.format()]
        assert "not TOML" not in marked.seen[-1]
    marked.processes.touch()
    marked.certd("run", "--debug", ends=2)
    assert marked.found() == []


@pytest.mark.parametrize("sealed", [True, False])
def test_when_the_database_is_wrong(marked: Marked, sealed: bool) -> None:
    """A statement that fails has keys among its values."""
    if not sealed:
        del marked.site.tables["certd"]["seal"]
        marked.site.write()
    marked.processes.touch()
    marked.certd("renew", "--debug")
    with contextlib.closing(sqlite3.connect(marked.site.state / "certd.db")) as database:
        for table in ("token", "certificate_order"):
            no = f"BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
            database.execute(f"CREATE TRIGGER no_{table} {no}")
        if sealed:
            database.execute("UPDATE version SET key_pem = substr(key_pem, 1, 100)")
        database.commit()
    marked.certd("db", "check", ends=int(sealed))
    words = ("renew", "www", "--force", "--debug")  # tries for ever, as it is the machine's fault
    with marked.site.start(*words, **marked.environment) as child:
        log = marked.site.folder / "certd.log"
        child.wait_until(lambda: "failed: no" in log.read_text())
    found = marked.found()
    if sealed:
        assert found == []
    else:
        assert found != [], "the database is not sealed, and the search is one"
        assert [where for where in found if "/state/" not in where] == []


def test_when_the_key_is_wrong(marked: Marked) -> None:
    marked.processes.touch()
    marked.certd("renew", "--debug")
    key = marked.site.folder / "key"
    for wrong in (f"{base64.b64encode(os.urandom(32)).decode()}\n", marked.canary["plain"], ""):
        key.write_text(wrong)
        assert "key" in marked.certd("run", "--debug", ends=1)
        assert marked.found() == []
