"""A real OpenSSH server on loopback, never as root, with host keys of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from certd.testing.nameserver import program
from certd.testing.processes import Child, ComponentError, NotInstalled, Ports, Stopped

NOBODY = 65534

_CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""


class OpenSSH(Stopped):
    """``user`` may log in with the key in ``key``; ``files`` is a folder that it may write to.

    Root's own server would need a user and a folder of the system, and would show nothing of
    missing rights. So root starts it as nobody, with a shell by a file of users that only this
    server sees.

    Raises:
        NotInstalled: there is no sshd.
        ComponentError: it did not start.
    """

    def __init__(self) -> None:
        sshd = program("sshd", "openssh-server")
        self.folder = Path(tempfile.mkdtemp(prefix="certd-sshd-"))
        self.folder.chmod(0o755)
        self.files = self.folder / "files"
        self.files.mkdir()
        self._ports = Ports()
        self.port = self._ports.take()
        self.host_key = self.make_key("host_key")
        (self.folder / "authorized_keys").write_text(self.make_key("key"))
        self.key = self.folder / "key"
        configuration = self.folder / "sshd_config"
        configuration.write_text(_CONFIGURATION.format(port=self.port, folder=self.folder))
        argv = [str(sshd), "-D", "-e", "-f", str(configuration)]
        if os.geteuid() == 0:
            argv = self._as_nobody(argv)
        else:
            self.user = subprocess.check_output(["id", "-un"], text=True).strip()
        self._child = Child(argv, self.folder / "sshd.log")
        try:
            self._child.wait_until(self._greets)
        except ComponentError:
            self.stop()
            raise

    def make_key(self, name: str, passphrase: str = "", kind: str = "ed25519") -> str:
        """A new key in a file of this name; returns its public half."""
        path = self.folder / name
        words = ["-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(path)]
        subprocess.run([program("ssh-keygen", "openssh-client"), *words], check=True)
        return path.with_suffix(".pub").read_text().strip()

    def end_sessions(self) -> None:
        """As if the machine had lost its network: without a word."""
        parents = [self._child.pid]
        for pid in parents:  # which grows: a session is several processes, each the next one's
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            parents += map(int, children)
        for pid in parents[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        if hasattr(self, "_child"):
            self._child.stop()
        self._ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _as_nobody(self, argv: list[str]) -> list[str]:
        users = self.folder / "passwd"
        # With a name of its own: whatever else knows nobody says that it is locked.
        self.user = "tester"
        tester = f"{self.user}:x:{NOBODY}:{NOBODY}::{self.files}:/bin/sh\n"
        users.write_text(tester + Path("/etc/passwd").read_text())
        for path in (self.files, self.folder / "host_key"):
            os.chown(path, NOBODY, NOBODY)
        mount = f"mount --bind {users} /etc/passwd"
        apart = ["unshare", "--mount", "sh", "-c"]
        if subprocess.run([*apart, mount], capture_output=True, check=False).returncode:
            why = "sshd must not run as root, and nobody has no shell"
            raise NotInstalled("the right to mount", why, "run the tests as an ordinary user")
        ids = f"--reuid={NOBODY} --regid={NOBODY} --clear-groups"
        return [*apart, f'{mount} && exec setpriv {ids} "$@"', "sh", *argv]

    def _greets(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            return connection.recv(4) == b"SSH-"
