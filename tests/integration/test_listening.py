"""Opening the responder's sockets, on a real kernel, with and without rights and families."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from certd.challenges.http01 import PortTaken, open_sockets
from certd.errors import ChallengeError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def test_ipv4_and_ipv6_stand_side_by_side() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = free_port()

    four, six = open_sockets([("127.0.0.1", port), ("::", port)])

    with closing(four), closing(six):
        assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


def test_a_taken_port_is_told_apart_and_nothing_stays_open() -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1:{port}.*webroot"):
            open_sockets([("127.0.0.1", free), ("127.0.0.1", port)])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free), timeout=5)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("192.0.2.1", id="of another machine"),
        pytest.param("not-an-address.invalid", id="no address at all"),
    ],
)
def test_a_wrong_address_is_the_configuration(host: str) -> None:
    with pytest.raises(ChallengeError, match="correct listen in"):
        open_sockets([("127.0.0.1", 0), (host, 0)])


# The first call loads what nobody may not be allowed to read.
AS_NOBODY = """
import fcntl, os, socket, struct, sys
from certd.challenges.http01 import open_sockets
from certd.errors import ChallengeError
with socket.socket() as any:
    up = 0x1
    fcntl.ioctl(any, 0x8914, struct.pack("16sH14x", b"lo", up))  # SIOCSIFFLAGS
for sock in open_sockets([("127.0.0.1", 0)]):
    sock.close()
kept = open_sockets([("0.0.0.0", 80)]) if "taken" in sys.argv else []
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    open_sockets([("0.0.0.0", 80)])
except ChallengeError as error:
    print(type(error).__name__, error)
for sock in kept:
    sock.close()
"""


def as_nobody(*arguments: str) -> str:
    """What an unprivileged user is told, in a network name space where port 80 is our own."""
    unshare = shutil.which("unshare")
    if os.getuid() != 0 or unshare is None:
        pytest.skip("only root can make a network name space and then become nobody in it")
    command = [unshare, "--net", sys.executable, "-c", AS_NOBODY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_privileged_port_without_the_right_to_it_names_the_ways_out() -> None:
    said = as_nobody()

    assert said.startswith("ChallengeError")
    for word in ("0.0.0.0:80", "certd.socket", "CAP_NET_BIND_SERVICE", "webroot"):
        assert word in said


def test_a_privileged_port_that_is_taken_is_taken_for_the_unprivileged_too() -> None:
    assert as_nobody("taken").startswith("PortTaken")


# In a new network name space the loopback interface is down: IPv6 has no address at all.
WITHOUT_IPV6 = """
from certd.challenges.http01 import open_sockets
from certd.errors import ChallengeError
print([sock.family.name for sock in open_sockets([("::", 0), ("::1", 0), ("0.0.0.0", 0)])[1:]])
try:
    open_sockets([("::1", 0)])
except ChallengeError as error:
    print(error)
"""


def test_a_lacking_family_is_left_out_as_long_as_there_is_another() -> None:
    unshare = shutil.which("unshare")
    command = [unshare or "", "--map-root-user", "--net"]
    if unshare is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives no network name space")
    said = subprocess.run(
        [*command, sys.executable, "-c", WITHOUT_IPV6],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ).stdout

    assert said.splitlines() == [
        "['AF_INET']",
        "the HTTP-01 responder has no address to listen on: this machine lacks the address "
        "family of every one in [http] listen; add an IPv4 address, such as 0.0.0.0:80, to "
        "[http] listen",
    ]
