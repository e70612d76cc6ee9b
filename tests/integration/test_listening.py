"""Opening the responder's sockets, on a real kernel, with and without rights and families."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from certd.challenges.http01 import PortTaken, open_sockets
from certd.errors import ChallengeError

UNPRIVILEGED_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


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
import os
from certd.challenges.http01 import open_sockets
from certd.errors import ChallengeError
for sock in open_sockets([("127.0.0.1", 0)]):
    sock.close()
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    open_sockets([("127.0.0.1", 80)])
except ChallengeError as error:
    print(type(error).__name__, error)
"""


def test_a_privileged_port_without_the_right_to_it_names_the_ways_out() -> None:
    if int(UNPRIVILEGED_START.read_text()) <= 80:
        pytest.skip("this kernel gives port 80 to everybody (ip_unprivileged_port_start)")
    said = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, check=True, timeout=30
    ).stdout

    assert said.startswith("ChallengeError")
    for word in ("127.0.0.1:80", "certd.socket", "CAP_NET_BIND_SERVICE", "webroot"):
        assert word in said


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
