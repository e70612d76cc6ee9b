"""The haproxy target, on a real HAProxy: what is in its memory, and in its files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from certd_deploy.haproxy import HAProxy
from certd_deploy.runtime import Runtime

from certd.api import ConfigError, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.haproxy import HAProxy as Server
from certd.testing.tls import mint, probe
from tests.servers import UnderLoad


class Relay:
    """A stats socket in front of the real one, which counts the certificates that pass."""

    def __init__(self, behind: Path) -> None:
        self.path = behind.with_name("relay.sock")
        self.sent = 0
        self.lose = False  # the answer to the next one
        self._behind = behind
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(str(self._behind))
                command = _all(client)
                self.sent += command.startswith(b"set ssl cert")
                server.sendall(command)
                server.shutdown(socket.SHUT_WR)
                answer = _all(server)
                if self.lose and command.startswith(b"commit"):
                    self.lose = False
                else:
                    client.sendall(answer)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _all(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read()


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    relay = Relay(server.socket)
    yield relay
    relay.close()


def listed(path: Path, server: Server, socket: Path) -> HAProxy:
    return HAProxy(path, test=tuple(server.test_argv), socket=socket, crt_list=server.crt_list)


class TestHAProxy(UnderLoad):
    kind = Server

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Server]:
        """One a test: what its memory has is for ever."""
        minted = mint(tmp_path / "first")
        with Server(minted.fullchain, minted.key) as server:
            yield server

    @pytest.fixture
    def target(self, server: Server, relay: Relay, tmp_path: Path) -> HAProxy:
        self._relay = relay
        return listed(tmp_path / "tls" / "{name}", server, relay.path)

    def writes(self, target: HAProxy) -> int:
        return self._relay.sent

    def test_blank_lines_do_not_cut_what_is_sent(self, target: HAProxy) -> None:
        """At one HAProxy ends the payload, and says that all is well."""
        good = bundle("www", 1)
        blank = replace(good, leaf_pem=f"\n{good.leaf_pem}\n\n", chain_pem=f" \n{good.chain_pem}\n")
        target.deploy(blank)
        self.assert_served(good)
        shown = Runtime(target.socket, "").ask(
            f"show ssl cert {target.place('www')}/current/haproxy.pem"
        )
        assert "Chain Subject: /CN=Intermediate 1" in shown

    def test_another_process_has_it_from_the_file(self, target: HAProxy, server: Server) -> None:
        wanted = bundle("www", 1)
        target.deploy(wanted)
        server.halt()
        server.start()
        self.assert_served(wanted)
        target.deploy(wanted)
        assert self._relay.sent == 1

    def test_what_is_in_memory_only_is_not_taken_for_it(
        self, target: HAProxy, server: Server
    ) -> None:
        """Somebody has put another certificate there, by the same API."""
        older, newer = bundle("www", 1), bundle("www", 2)
        target.deploy(newer)
        target.deploy(older)
        assert target.serving("www") == older.certificate.fingerprint
        other = replace(target, path=server.folder / "{name}")
        stored = f"{target.place('www')}/current/haproxy.pem"
        text = newer.fullchain_pem + newer.key_pem.reveal()
        runtime = Runtime(other.socket, "")
        runtime.expect("set ssl cert", stored, "Transaction created", text.rstrip())
        runtime.expect("commit ssl cert", stored, "Success!")
        assert target.serving("www") not in (older.certificate.fingerprint, None)
        target.deploy(older)
        self.assert_in_place(target, older)

    def test_an_answer_that_is_lost_is_not_a_second_upload(self, target: HAProxy) -> None:
        target.deploy(bundle("www", 1))
        wanted = bundle("www", 2)
        self._relay.lose = True
        for _ in range(2):
            target.deploy(wanted)
            self.assert_in_place(target, wanted)
        assert self._relay.sent == 2

    def test_a_transaction_of_somebody_else_is_not_touched(
        self, target: HAProxy, server: Server
    ) -> None:
        """HAProxy has one only, and would put ours into it."""
        first = server.folder / "first.pem"
        runtime = Runtime(server.socket, "")
        older, newer = bundle("www", 1), bundle("www", 2)
        target.deploy(older)
        runtime.expect("set ssl cert", str(first), "created", first.read_text().rstrip())
        with pytest.raises(TargetBusy, match="neither committed nor aborted"):
            target.deploy(newer)
        self.assert_in_place(target, older)
        runtime.expect("commit ssl cert", str(first), "Success!")
        target.deploy(newer)
        self.assert_in_place(target, newer)

    def test_several_at_once_take_turns(self, target: HAProxy, server: Server) -> None:
        wanted = [bundle(name, 1) for name in ("www", "mail", "shop", "blog")]
        for _ in range(3):
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(target.deploy, wanted))
            for each in wanted:
                served = probe(server.port, f"{each.name}.example.com").fingerprint
                assert served == each.certificate.fingerprint
                assert target.serving(each.name) == served
            wanted = [bundle(each.name, each.version + 1) for each in wanted]
        lines = server.crt_list.read_text().splitlines()
        assert len(lines) == len(set(lines)) == 5

    def test_without_a_list_the_configuration_must_know_it(
        self, target: HAProxy, server: Server
    ) -> None:
        alone = replace(target, crt_list=None)
        with pytest.raises(TargetError, match="has no certificate") as failed:
            alone.deploy(bundle("www", 1))
        assert "bind :443 ssl crt" in failed.value.next
        assert alone.serving("www") == ""
        target.deploy(bundle("www", 1))
        wanted = bundle("www", 2)
        alone.deploy(wanted)
        self.assert_in_place(alone, wanted)

    def test_an_haproxy_that_is_not_there_is_told(self, target: HAProxy, server: Server) -> None:
        older = bundle("www", 1)
        target.deploy(older)
        direct = replace(target, socket=server.socket)
        server.halt()
        with pytest.raises(TargetError, match=r"admin\.sock: ") as failed:
            direct.deploy(bundle("www", 2))
        assert "start HAProxy" in failed.value.next
        server.start()
        self.assert_in_place(direct, older)

    def test_the_first_one_is_there_for_an_haproxy_that_cannot_start_without_it(
        self, target: HAProxy, server: Server
    ) -> None:
        """Its configuration names the file from the start, as the documentation has it."""
        wanted = bundle("www", 1)
        direct = replace(target, socket=server.socket, crt_list=None)
        text = server.configuration.read_text()
        crt = f"crt {direct.place('www')}/current/haproxy.pem"
        server.halt()
        server.configuration.write_text(text.replace(f"crt-list {server.crt_list}", crt))
        for _ in range(2):
            with pytest.raises(TargetError, match=r"not taken up: .*admin\.sock") as failed:
                direct.deploy(wanted)
            assert "start HAProxy" in failed.value.next
        server.start()
        direct.deploy(wanted)
        self.assert_in_place(direct, wanted)
        newer = bundle("www", 2)
        direct.deploy(newer)
        self.assert_in_place(direct, newer)

    @pytest.mark.parametrize("level", ["operator", "user"])
    def test_a_socket_that_may_not_is_told(
        self, target: HAProxy, server: Server, level: str
    ) -> None:
        text = server.configuration.read_text()
        server.configuration.write_text(text.replace("level admin", f"level {level}"))
        server.halt()
        server.start()
        with pytest.raises(TargetError, match="Permission denied") as failed:
            replace(target, crt_list=None if level == "user" else target.crt_list).deploy(
                bundle("www", 1)
            )
        assert failed.value.next == "give the socket `level admin`"

    @pytest.mark.parametrize(
        "place",
        [
            "haproxy: certificate store made",
            "haproxy: transaction created",
            "haproxy: transaction committed",
            "haproxy: added to the list in memory",
            "haproxy: added to the list",
        ],
    )
    def test_killed_anywhere_the_next_run_goes_on(self, target: HAProxy, place: str) -> None:
        wanted = bundle("www", 1)
        settings = [target.path, target.socket, target.crt_list]
        parts = [wanted.leaf_pem, wanted.chain_pem, wanted.key_pem.reveal()]
        killed = subprocess.run(
            [sys.executable, "-c", DEPLOY],
            input=json.dumps([*map(str, settings), *parts]),
            text=True,
            env={**os.environ, "CERTD_KILL_AT": place},
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        before = self._relay.sent
        target.deploy(wanted)
        self.assert_in_place(target, wanted)
        sent_again = self._relay.sent - before
        assert sent_again == (0 if "committed" in place or "added" in place else 1)


DEPLOY = """
import json, sys
from pathlib import Path
from certd_deploy.haproxy import HAProxy
from certd.api import Bundle, Secret
from certd.x509 import facts, read_chain
path, socket, crt_list, leaf, chain, key = json.load(sys.stdin)
target = HAProxy(Path(path), test=(), socket=Path(socket), crt_list=Path(crt_list))
target.deploy(Bundle("www", 1, leaf, chain, Secret(key), facts(read_chain(leaf)[0])))
"""


def test_the_file_that_haproxy_reads_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"haproxy\.pem"):
        HAProxy(tmp_path / "{name}", files={"site.pem": "combined"})


@pytest.mark.parametrize("word", ["a b", "a;b", "a\\b", "a\nb"])
def test_no_path_is_taken_for_a_command(tmp_path: Path, word: str) -> None:
    with pytest.raises(ConfigError, match="Runtime API"):
        HAProxy(tmp_path / word / "{name}")
    with pytest.raises(ConfigError, match="Runtime API"):
        HAProxy(tmp_path / "{name}", crt_list=tmp_path / word)
    with pytest.raises(TargetError, match="cannot be told"):
        HAProxy(tmp_path / "{name}", test=()).deploy(bundle(word))
