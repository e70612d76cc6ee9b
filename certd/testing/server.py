"""A real server with a certificate, in a folder of its own: what all of them have in common."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from certd.testing.processes import Child, ComponentError, NotInstalled, Ports, Stopped
from certd.testing.tls import probe


def find(name: str) -> Path | None:
    """A program of this machine; Debian has servers where the PATH of users does not look."""
    found = shutil.which(
        name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    )
    return Path(found) if found else None


def other_user() -> str:
    """Whom a server's children run as: servers that root starts refuse to stay root."""
    return "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def other_group() -> str:
    """That user's."""
    return grp.getgrgid(pwd.getpwnam(other_user()).pw_gid).gr_name


class Server(Stopped):
    """A server of TLS on loopback, whatever name is asked for, with a pair that it has from files.

    Both files must be there and match when it starts. ``reload_argv`` makes a running one
    take up changed files, or another configuration, ``test_argv`` tests that.

    Raises:
        NotInstalled: there is no such server.
        ComponentError: it did not start.
    """

    sni: ClassVar[str | None] = None  # what it is asked for, if it needs to be
    package: ClassVar[str]
    program: ClassVar[str]
    test_argv: list[str]
    reload_argv: list[str]
    argv: list[str]

    def __init__(self, fullchain: Path, key: Path, folder: Path | None = None) -> None:
        self.binary = self.find()
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"certd-{self.program}-"))
        self._ports = Ports()
        self.port = self._ports.take()
        self.endpoint = f"127.0.0.1:{self.port}"
        self.configuration = self.folder / f"{self.program}.conf"
        self.log = self.folder / "error.log"
        self._child: Child | None = None
        try:
            self.prepare()
            self.configure(fullchain, key)
            self.start()
        except ComponentError:
            self.stop()
            raise

    @classmethod
    def find(cls) -> Path:
        found = find(cls.program)
        if found is None:
            raise NotInstalled(
                cls.package, f"no {cls.program} on PATH or in /usr/sbin", "install it"
            )
        return found

    def prepare(self) -> None:
        """Set the three commands, and make what the server needs besides its configuration."""
        raise NotImplementedError

    def configure(self, fullchain: Path, key: Path) -> None:
        """Write the configuration with these files; a running server has it after a reload."""
        self.configuration.write_text(self.text(fullchain, key))

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Its configuration is wrong meanwhile, as its test would say; it serves what it did."""
        whole = self.configuration.read_text()
        self.configuration.write_text("{ no such directive here\n")
        try:
            yield
        finally:
            self.configuration.write_text(whole)

    def text(self, fullchain: Path, key: Path) -> str:
        """The configuration."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, again if it was halted; returns when it completes a handshake."""
        self._child = Child(self.argv, self.folder / f"{self.program}.log")
        self._child.wait_until(lambda: bool(self.served))

    @property
    def served(self) -> str:
        """The fingerprint of what it presents now."""
        return probe(self.port, self.sni).fingerprint

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.returncode is None

    def halt(self) -> None:
        """Stop the server and keep port and folder, for a ``start()`` later."""
        if self._child is not None:
            self._child.stop()

    def stop(self) -> None:
        self.halt()
        self._ports.close()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
