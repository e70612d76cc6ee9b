"""What is asked of a real server: to serve each pair that is deployed, and of bad ones the old.

class TestMine(ServerContract):
    kind = MyServer

    def recipe(self, server, path): return MyTarget(path, test=…, reload=…)
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from certd_deploy.disk import Disk

from certd.api import Bundle, DeployTarget, Secret, TargetError
from certd.testing.chains import bundle
from certd.testing.server import Server
from certd.testing.targets import Pair, TargetContract
from certd.testing.tls import mint, probe

DAMAGES = ["another's key", "half a key", "half a leaf", "half a chain", "no leaf"]
PATIENCE = 30.0  # seconds for a server to take up what it was told to
CLIENTS = 4


def damaged(kind: str) -> Bundle:
    """Version 2 of ``www``, which no server can take."""
    good, other = bundle("www", 2), bundle("www", 3)
    return {
        "another's key": replace(good, key_pem=other.key_pem),
        "half a key": replace(good, key_pem=Secret(good.key_pem.reveal()[:100])),
        "half a leaf": replace(good, leaf_pem=good.leaf_pem[:300], chain_pem=""),
        "half a chain": replace(good, chain_pem=good.chain_pem[:300]),
        "no leaf": replace(good, leaf_pem="", chain_pem=""),
    }[kind]


def read_in_place(folder: Path) -> Pair | None:
    """As a server should: the link is followed once, then both files are read there."""
    while True:
        try:
            version = folder / os.readlink(folder / "current")
        except FileNotFoundError:
            return None
        # A reader that was asleep for several deployments finds its version pruned.
        with contextlib.suppress(FileNotFoundError):
            return Pair(
                (version / "fullchain.pem").read_text(), (version / "privkey.pem").read_text()
            )


def agreed(port: int) -> str:
    """The serial that is served once all of nginx's workers agree: it tells the old ones to go
    100 ms after a reload.
    """
    serial, since = probe(port).serial, time.monotonic()
    while time.monotonic() < since + 0.3:
        if (now := probe(port).serial) != serial:
            serial, since = now, time.monotonic()
    return serial


def settled(server: Server, wanted: str) -> bool:
    """Whether it comes to serve this, and nothing else after it: workers change one by one."""
    deadline, agreed = time.monotonic() + PATIENCE, 0
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            agreed = agreed + 1 if server.served == wanted else 0
        if agreed == 5:
            return True
    return False


class ServerContract(TargetContract):
    """The suite of every target, with a look at what a server of ``www`` serves; and more."""

    kind: ClassVar[type[Server]]

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        folder = tmp_path_factory.mktemp(cls.kind.program)
        folder.chmod(0o755)  # servers have users of their own
        minted = mint(folder)
        with cls.kind(minted.fullchain, minted.key) as server:
            yield server

    def recipe(self, server: Any, path: Path) -> Disk:
        raise NotImplementedError

    @pytest.fixture
    def target(self, server: Any, tmp_path: Path) -> Disk:
        """With a folder of its own; the server learns it with the first reload."""
        target = self.recipe(server, tmp_path / "{name}")
        current = tmp_path / "www" / "current"
        server.configure(current / "fullchain.pem", current / "privkey.pem")
        return target

    def in_place(self, target: Any, name: str) -> Pair | None:
        return read_in_place(Path(target.place(name)))

    @contextlib.contextmanager
    def out_of_order(self, target: DeployTarget) -> Iterator[None]:
        """The file system is full in the middle of a certificate."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.fixture(autouse=True)
    def _served(self, server: Any) -> None:
        self._server = server

    def assert_in_place(self, target: DeployTarget, wanted: Bundle) -> None:
        super().assert_in_place(target, wanted)
        if wanted.name == "www":
            self.assert_served(wanted)

    def assert_served(self, wanted: Bundle) -> None:
        assert settled(self._server, wanted.certificate.fingerprint), self._server.log.read_text()[
            -3000:
        ]
        assert self._server.runs

    @pytest.mark.parametrize("kind", DAMAGES)
    def test_of_what_is_no_pair_the_old_one_stays_served(
        self, target: DeployTarget, kind: str
    ) -> None:
        older, newer = bundle("www", 1), bundle("www", 3)
        target.deploy(older)
        self.assert_served(older)
        with pytest.raises(TargetError, match="for a pair"):
            target.deploy(damaged(kind))
        self.assert_in_place(target, older)
        target.deploy(newer)
        self.assert_in_place(target, newer)

    @pytest.mark.fault(row=47)
    def test_its_test_refuses_a_wrong_configuration(self, target: Disk) -> None:
        if not target.test:
            pytest.skip("the server has no test of its own")
        older, newer = bundle("www", 1), bundle("www", 2)
        target.deploy(older)
        self.assert_served(older)
        with self._server.broken():
            with pytest.raises(TargetError, match="test refuses it") as failed:
                target.deploy(newer)
            assert failed.value.why
            self.assert_in_place(target, older)
        target.deploy(newer)
        self.assert_in_place(target, newer)


class UnderLoad(ServerContract):
    """Of servers whose reload loses no connection."""

    changes: ClassVar[int] = 10  # of the certificate, under load

    def test_no_handshake_fails_while_certificates_change(self, target: DeployTarget) -> None:
        bundles = [bundle("www", number) for number in range(1, self.changes + 2)]
        earlier = self._server.served
        target.deploy(bundles[0])
        self.assert_served(bundles[0])
        done, seen, failures = threading.Event(), set[str](), list[str]()

        def shake_hands() -> None:
            while not done.is_set():
                try:
                    seen.add(self._server.served)
                except OSError as error:
                    failures.append(repr(error))

        clients = [threading.Thread(target=shake_hands) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for wanted in bundles:
                target.deploy(wanted)
                self.assert_served(wanted)
                until = time.monotonic() + PATIENCE
                while wanted.certificate.fingerprint not in seen and time.monotonic() < until:
                    time.sleep(0.01)  # on a busy machine a client comes by seldom
        finally:
            done.set()
            for client in clients:
                client.join()
        assert failures == []
        # A process of before may still have answered the first of them.
        assert seen - {earlier} == {wanted.certificate.fingerprint for wanted in bundles}
