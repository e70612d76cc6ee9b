"""The ssh target against a real OpenSSH server that runs without root."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from asyncssh import SFTPClientFile
from certd_deploy.folders import Content
from certd_deploy.sftp import RemoteFolder
from certd_deploy.ssh import SSH

from certd import failpoint as failpoints
from certd.api import ConfigError, Secret, SecretReference, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.openssh import OpenSSH
from certd.testing.processes import Child
from certd.testing.targets import Pair, TargetContract
from tests.servers import read_in_place

_FOLDERS = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[OpenSSH]:
    with OpenSSH() as running:
        yield running


@pytest.fixture
def target(server: OpenSSH) -> SSH:
    """In a folder that no other test has."""
    return SSH(
        host="127.0.0.1",
        port=server.port,
        user=server.user,
        path=f"{server.files}/{next(_FOLDERS)}/{{name}}",
        host_key=server.host_key,
        key=SecretReference("file", server.key),
    )


def folder(target: SSH, name: str = "www") -> Path:
    return Path(target.path.replace("{name}", name))


class TestSSHContract(TargetContract):
    @pytest.fixture
    def target(self, target: SSH) -> SSH:
        return target

    def in_place(self, target: SSH, name: str) -> Pair | None:
        time.sleep(0.001)  # looks without a pause starve the event loop of a deployment
        return read_in_place(folder(target, name))

    @contextlib.contextmanager
    def out_of_order(self, target: SSH) -> Iterator[None]:
        """Somebody took the right to write away."""
        versions = folder(target) / "versions"
        versions.chmod(0o555)
        try:
            yield
        finally:
            versions.chmod(0o755)

    def writes(self, target: SSH) -> int:
        """What is in its folders: whatever was made or written has changed it."""
        files = folder(target).parent.rglob("*")
        return hash(
            frozenset((path, path.lstat().st_ino, path.lstat().st_mtime_ns) for path in files)
        )


def test_the_layout_is_that_of_the_disk_target(target: SSH) -> None:
    for number in (1, 2, 3, 4, 5, 6):
        replace(target, mode="0640").deploy(bundle("www", number))
    there = folder(target)
    assert os.readlink(there / "current") == "versions/6"
    assert {path.name for path in there.iterdir()} == {"current", "versions"}
    assert {path.name for path in (there / "versions").iterdir()} == {"4", "5", "6"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (there / "current").iterdir()}
    public = dict.fromkeys(("cert.pem", "chain.pem", "fullchain.pem"), 0o644)
    assert modes == {"privkey.pem": 0o640, **public}


def test_a_file_is_closed_to_others_before_it_has_its_owner_and_content(
    target: SSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = dict[str, tuple[int, int]]()
    settle = RemoteFolder._settle

    async def watched(self: RemoteFolder, file: SFTPClientFile, content: Content) -> None:
        new = Path(self.path).glob("versions/.*/*")
        seen.update({one.name: (one.stat().st_mode, one.stat().st_size) for one in new})
        monkeypatch.setattr(RemoteFolder, "_settle", settle)  # the first of them is the key
        await settle(self, file, content)

    monkeypatch.setattr(RemoteFolder, "_settle", watched)
    target.deploy(bundle())
    assert seen == {"privkey.pem": (stat.S_IFREG | 0o600, 0)}


def test_a_changed_mode_is_applied_to_what_is_in_place(target: SSH) -> None:
    wanted = bundle()
    target.deploy(wanted)
    key = folder(target) / "current/privkey.pem"
    before = key.stat().st_ino
    replace(target, mode="0640").deploy(wanted)
    assert (key.stat().st_ino, stat.S_IMODE(key.stat().st_mode)) == (before, 0o640)


def test_a_group_that_the_user_is_not_in_is_told(target: SSH) -> None:
    with pytest.raises(TargetError, match=r"owner of the files.*group 4321.*a member of"):
        replace(target, group=4321).deploy(bundle())
    assert target.serving("www") == ""


def test_what_is_no_pair_any_more_is_not_served(target: SSH) -> None:
    first, other = bundle("www", 1), bundle("www", 1)
    target.deploy(first)
    (folder(target) / "current/privkey.pem").write_text(other.key_pem.reveal())
    assert target.serving("www") == ""
    target.deploy(first)
    assert target.serving("www") == first.certificate.fingerprint


def test_what_stands_in_the_place_of_the_link_is_left_there(target: SSH, server: OpenSSH) -> None:
    target.deploy(bundle("www", 1))
    current = folder(target) / "current"
    current.unlink()
    current.write_text("of somebody else")
    with pytest.raises(TargetError, match="not a link of certd's; move it away"):
        target.deploy(bundle("www", 2))
    assert current.read_text() == "of somebody else"


def test_without_a_host_key_the_one_seen_is_told_and_nothing_is_sent(
    target: SSH, server: OpenSSH
) -> None:
    shown = subprocess.check_output(
        ["ssh-keygen", "-l", "-f", str(server.folder / "host_key.pub")], text=True
    ).split()[1]
    stranger = server.make_key(f"stranger-{next(_FOLDERS)}")
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
    ecdsa = server.make_key(f"ecdsa-{next(_FOLDERS)}", kind="ecdsa")
    with pytest.raises(TargetError, match="another host key") as refused:
        replace(target, host_key=ecdsa).deploy(bundle())
    assert server.host_key in refused.value.why


def test_a_key_that_is_not_let_in_is_told(target: SSH, server: OpenSSH) -> None:
    name = f"unknown-{next(_FOLDERS)}"
    server.make_key(name)
    with pytest.raises(TargetError, match=r"refuses user .*authorized_keys") as refused:
        replace(target, key=SecretReference("file", server.folder / name)).deploy(bundle())
    assert not isinstance(refused.value, TargetBusy)


def test_an_encrypted_key_needs_its_passphrase(target: SSH, server: OpenSSH) -> None:
    name = f"encrypted-{next(_FOLDERS)}"
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


def test_the_command_gets_its_words_as_they_are_and_is_run_each_time(target: SSH) -> None:
    told = folder(target).parent / "told"
    odd = "$(touch /tmp/no); 'a' \"b\" *"
    script = f'echo "$1 $CERTD_NAME $CERTD_VERSION $CERTD_PATH" >> {told}'
    reloading = replace(target, reload=("sh", "-c", script, "sh", odd))
    wanted = bundle("www", 7)
    for _ in range(2):
        reloading.deploy(wanted)
    assert told.read_text() == f"{odd} www 7 {folder(target)}\n" * 2


@pytest.mark.fault(row=51)
@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("echo bad pair >&2; exit 3", 'sh ended with 3: "bad pair"', id="fails"),
        pytest.param("kill -TERM $$", "sh ended with 143", id="ended by a signal"),
        pytest.param("echo on; exec sleep 60", 'within 0.5 s: "on"', id="hangs"),
        pytest.param("while :; do echo flood; done", 'within 0.5 s: "', id="floods"),
    ],
)
def test_a_command_that_goes_wrong_is_told(target: SSH, script: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(TargetError, match=r"in place on 127\.0\.0\.1 but not taken up") as failed:
        replace(target, reload=("sh", "-c", script), reload_timeout=0.5).deploy(bundle())
    assert said in failed.value.why
    assert len(failed.value.why) < 1000
    assert time.monotonic() - began < 10


@pytest.mark.fault(row=51)
def test_a_command_that_hangs_is_ended_there(target: SSH) -> None:
    there = folder(target).parent / "pid"
    hanging = ("sh", "-c", f"echo $$ > {there}; exec sleep 60")
    with pytest.raises(TargetError, match="raise reload_timeout"):
        replace(target, reload=hanging, reload_timeout=0.5).deploy(bundle())
    process, deadline = Path("/proc") / there.read_text().strip(), time.monotonic() + 10
    while process.exists() and "Z" not in (process / "stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.fault(row=51)
def test_a_command_that_cannot_be_ended_there_is_not_waited_for(
    target: SSH, server: OpenSSH
) -> None:
    """OpenSSH passes no signal to a forced command, nor to one that sudo has made root's."""
    name = f"forced-{next(_FOLDERS)}"
    public = server.make_key(name)
    with (server.folder / "authorized_keys").open("a") as file:
        sftp = "internal-sftp*) exec /usr/lib/openssh/sftp-server"
        rest = '*) eval \\"$SSH_ORIGINAL_COMMAND\\"'
        file.write(f'\ncommand="case $SSH_ORIGINAL_COMMAND in {sftp};; {rest};; esac" {public}\n')
    forced = replace(target, key=SecretReference("file", server.folder / name))
    began = time.monotonic()
    with pytest.raises(TargetError, match="raise reload_timeout"):
        replace(forced, reload=("sleep", "15"), reload_timeout=0.5).deploy(bundle())
    assert time.monotonic() - began < 10


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


@pytest.mark.fault(row=41)
def test_killed_anywhere_a_pair_is_in_place_and_the_next_run_goes_on(
    target: SSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    for point in (
        "ssh: version is complete, without its name",
        "ssh: version written",
        "ssh: link is made, not switched",
        "ssh: link switched",
    ):
        first, second = bundle("www", 1), bundle("www", 2)
        target.deploy(first)
        monkeypatch.setattr(failpoints, "_KILL_AT", point)
        if (child := os.fork()) == 0:
            try:
                target.deploy(second)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        monkeypatch.undo()
        pair = read_in_place(folder(target))
        assert pair is not None
        assert target.serving("www") == pair.fingerprint
        target.deploy(second)
        assert target.serving("www") == second.certificate.fingerprint
        names = [path.name for path in folder(target).rglob("*")]
        assert not [name for name in names if re.search(r"tmp$", name)]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("host", "-oProxyCommand=x"),
        ("host", "ssh://host"),
        ("port", 0),
        ("path", "tls/{name}"),
        ("path", "/tls/{nam}"),
        ("host_key", "SHA256:abc"),
        ("host_key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("group", -1),
        ("reload", (" ",)),
        ("reload_timeout", 0.0),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        SSH.__dataclass_fields__[setting].metadata["check"](value)
    assert refused.value.next


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
