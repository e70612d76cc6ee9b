"""sd_notify, the watchdog's interval and passed sockets, with real sockets of each kind."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certd.systemd import NONE_PASSED, listen_sockets, notify, watchdog_interval
from certd.testing.processes import NotInstalled


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """What systemd has at the other end of NOTIFY_SOCKET."""
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@certd-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(address.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield sock


def test_lines_arrive_as_one_message(manager: socket.socket) -> None:
    assert notify("READY=1", "STATUS=3 certificates")
    assert manager.recv(4096) == b"READY=1\nSTATUS=3 certificates"


def test_a_status_of_several_lines_sets_nothing_else(manager: socket.socket) -> None:
    notify("STATUS=failed\nSTOPPING=1")
    assert manager.recv(4096) == b"STATUS=failed STOPPING=1"


def test_reloading_says_since_when(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1")
    first, _, since = manager.recv(4096).decode().partition("\nMONOTONIC_USEC=")

    assert first == "RELOADING=1"
    assert before <= int(since) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_nobody_is_told_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")


def test_a_manager_that_is_gone_does_not_stop_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with caplog.at_level(logging.WARNING):
        assert not notify("WATCHDOG=1")
    assert "systemd was not told WATCHDOG" in caplog.text


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        pytest.param("60000000", None, 30.0, id="half of what is allowed"),
        pytest.param("60000000", str(os.getpid()), 30.0, id="for this process"),
        pytest.param("60000000", "1", None, id="for another process"),
        pytest.param("0", None, None, id="switched off"),
        pytest.param("soon", None, None, id="no number"),
        pytest.param(None, None, None, id="no watchdog"),
    ],
)
def test_the_watchdog_interval(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, seconds: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_interval() == seconds


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="no systemd"),
        pytest.param({"LISTEN_FDS": "2", "LISTEN_PID": "1"}, id="for another process"),
        pytest.param({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}, id="no number"),
    ],
)
def test_no_sockets_are_taken_that_are_not_ours(given: dict[str, str]) -> None:
    environ = {"PATH": "/bin", "LISTEN_FDNAMES": "certd.socket", **given}

    assert listen_sockets(environ) == NONE_PASSED
    assert environ == {"PATH": "/bin"}


PASSED = """
import os, socket, sys
from certd.errors import CertdError
from certd.systemd import listen_sockets
for number, fd in enumerate(map(int, sys.argv[1:]), 3):
    os.dup2(fd, number + 100)
for number in range(3, 3 + len(sys.argv[1:])):
    os.dup2(number + 100, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sys.argv[1:])))
try:
    passed = listen_sockets()
    for sock in passed.http + passed.tls_alpn:
        shared = os.get_inheritable(sock.fileno())
        print(sock.fileno(), sock.family.name, shared, sock.getsockname())
        sock.detach()
except CertdError as error:
    print(error)
print(sorted(name for name in os.environ if name.startswith("LISTEN_")), *listen_sockets().http)
"""


def passing(*sockets: socket.socket) -> list[str]:
    fds = [sock.fileno() for sock in sockets]
    arguments = [sys.executable, "-c", PASSED, *map(str, fds)]
    return subprocess.run(
        arguments, pass_fds=fds, capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()


def test_passed_sockets_are_ours_alone(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        assert passing(tcp, unix) == [
            f"3 AF_INET False {tcp.getsockname()}",
            f"4 AF_UNIX False {tmp_path / 's'}",
            "[]",
        ]


NAMED = """
import os
from certd.systemd import listen_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
passed = listen_sockets()
for sockets in (passed.http, passed.tls_alpn):
    print(*(sock.getsockname()[1] for sock in sockets))
for sock in passed.http + passed.tls_alpn:
    sock.detach()
"""


@pytest.mark.parametrize(
    ("names", "by_tls"),
    [
        pytest.param("certd.socket:tls-alpn-01:tls-alpn-01", {1, 2}, id="by the units' names"),
        pytest.param("tls-alpn-01:certd.socket:x", {0}, id="in any order"),
        pytest.param("certd.socket", set(), id="too few names"),
        pytest.param("", set(), id="no names"),
    ],
)
def test_a_socket_is_for_what_its_unit_is_named_for(names: str, by_tls: set[int]) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [sock.getsockname()[1] for sock in sockets]

        def pass_on() -> None:
            copies = [os.dup(sock.fileno()) for sock in sockets]
            for number, fd in enumerate(copies, 3):
                os.dup2(fd, number, inheritable=True)

        environ = {**os.environ, "LISTEN_FDS": "3", "LISTEN_FDNAMES": names}
        said = subprocess.run(
            [sys.executable, "-c", NAMED],
            preexec_fn=pass_on,
            close_fds=False,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    http, tls, _ = said.split("\n")
    assert [int(port) for port in tls.split()] == [ports[index] for index in sorted(by_tls)]
    assert [int(port) for port in http.split()] == [
        port for index, port in enumerate(ports) if index not in by_tls
    ]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_socket_that_does_not_listen_is_a_wrong_unit(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        first, last = passing(sock)
    assert first.startswith("descriptor 3 from systemd is not a listening stream socket")
    assert first.endswith("use ListenStream= and no Accept=yes in certd.socket")
    assert last == "[]"


def test_systemds_own_activation_passes_a_socket(free_port: Callable[[], int]) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        raise NotInstalled("systemd", "there is no systemd-socket-activate", "install systemd")
    port = free_port()
    code = (
        "from certd.systemd import listen_sockets\n"
        "[listener] = listen_sockets().http\n"
        "listener.accept()[0].sendall(b'hello')\n"
    )
    arguments = [activate, f"--listen=127.0.0.1:{port}", sys.executable, "-c", code]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        try:
            assert said_at(port, process) == b"hello"
        finally:
            process.terminate()


def said_at(port: int, process: subprocess.Popen[bytes]) -> bytes:
    end = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                return client.recv(10)
        except ConnectionRefusedError:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
