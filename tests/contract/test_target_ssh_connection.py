"""Who is let in by an OpenSSH server, who it is, and what happens when it is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from certd_deploy.sftp import RemoteFolder
from certd_deploy.ssh import SSH

from certd.api import ConfigError, Secret, SecretReference, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.openssh import OpenSSH
from certd.testing.processes import Child
from tests.sshtargets import folder, to, unused


@pytest.fixture(scope="module")
def server() -> Iterator[OpenSSH]:
    with OpenSSH() as running:
        yield running


@pytest.fixture
def target(server: OpenSSH) -> SSH:
    return to(server)


def test_without_a_host_key_the_one_seen_is_told_and_nothing_is_sent(
    target: SSH, server: OpenSSH
) -> None:
    shown = subprocess.check_output(
        ["ssh-keygen", "-l", "-f", str(server.folder / "host_key.pub")], text=True
    ).split()[1]
    stranger = server.make_key(unused("stranger"))
    for host_key, said in ((None, "host_key is not set"), (stranger, "another host key")):
        unknown = replace(target, host_key=host_key)
        with pytest.raises(TargetError, match=said) as refused:
            unknown.deploy(bundle())
        with pytest.raises(TargetError, match=said):
            unknown.serving("www")
        assert shown in refused.value.why
        assert server.host_key in refused.value.why
    assert not folder(target).exists()


def test_a_host_key_of_another_kind_is_refused_too(target: SSH, server: OpenSSH) -> None:
    ecdsa = server.make_key(unused("ecdsa"), kind="ecdsa")
    with pytest.raises(TargetError, match="another host key") as refused:
        replace(target, host_key=ecdsa).deploy(bundle())
    assert server.host_key in refused.value.why


def test_a_key_that_is_not_let_in_is_told(target: SSH, server: OpenSSH) -> None:
    name = unused("unknown")
    server.make_key(name)
    with pytest.raises(TargetError, match=r"refuses user .*authorized_keys") as refused:
        replace(target, key=SecretReference("file", server.folder / name)).deploy(bundle())
    assert not isinstance(refused.value, TargetBusy)


def test_an_encrypted_key_needs_its_passphrase(target: SSH, server: OpenSSH) -> None:
    name = unused("encrypted")
    public = server.make_key(name, "sesame")
    with (server.folder / "authorized_keys").open("a") as file:
        file.write(f"\n{public}\n")
    locked = replace(target, key=SecretReference("file", server.folder / name))
    for passphrase in (None, SecretReference("plain", Secret("wrong"))):
        with pytest.raises(TargetError, match="private key cannot be used"):
            replace(locked, passphrase=passphrase).deploy(bundle())
    replace(locked, passphrase=SecretReference("plain", Secret("sesame"))).deploy(bundle())


def test_an_agent_may_have_the_key(target: SSH, server: OpenSSH, tmp_path: Path) -> None:
    socket = tmp_path / "agent"
    with Child(["ssh-agent", "-D", "-a", socket], tmp_path / "log") as agent:
        agent.wait_until(socket.exists)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", server.key], env=environment, check=True)
        replace(target, key=None, agent=socket).deploy(bundle())
    assert target.serving("www")


def test_a_machine_that_is_away_is_busy(target: SSH, free_port: object) -> None:
    port = free_port()  # type: ignore[operator]
    with pytest.raises(TargetBusy, match=r"Connect call failed|refused"):
        replace(target, port=port).deploy(bundle())
    with pytest.raises(TargetBusy):
        replace(target, port=port).serving("www")


def test_a_machine_that_is_lost_in_the_middle_is_busy(
    target: SSH, server: OpenSSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bundle("www", 1), bundle("www", 2)
    target.deploy(first)
    switch = RemoteFolder._switch

    async def lost(self: RemoteFolder, to: str) -> None:
        server.end_sessions()
        await switch(self, to)

    monkeypatch.setattr(RemoteFolder, "_switch", lost)
    with pytest.raises(TargetBusy):
        target.deploy(second)
    monkeypatch.undo()
    assert target.serving("www") == first.certificate.fingerprint
    target.deploy(second)
    assert target.serving("www") == second.certificate.fingerprint


def test_one_credential_is_needed(target: SSH) -> None:
    with pytest.raises(ConfigError, match="neither"):
        replace(target, key=None)
    with pytest.raises(ConfigError, match="both"):
        replace(target, agent=Path("/agent"))


def test_without_the_library_it_is_said_how_to_get_it(
    target: SSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(TargetError, match=r"pip install 'certd\[ssh\]'"):
        target.deploy(bundle())
