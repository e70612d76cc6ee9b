"""Real servers that go on in TLS when they are asked to: slapd and PostgreSQL.

Each serves one pair on loopback, from a folder of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from certd.testing.nameserver import program
from certd.testing.processes import Child, NotInstalled, Ports, Stopped

_NOBODY = 65534
_PATIENCE = 60.0  # seconds for one command


class Speaker(Stopped):
    """A server at ``port`` that speaks ``protocol``; its log is ``log``.

    Raises:
        NotInstalled: there is no such program, or this user may not run it.
        ComponentError: it did not start.
    """

    protocol: ClassVar[str]

    def __init__(self, fullchain: Path, key: Path) -> None:
        # Never below a test's own folder: the path of a Unix socket has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix=f"certd-{self.protocol}-"))
        self.folder.chmod(0o755)
        self._ports = Ports()
        self.port = self._ports.take()
        self.log = self.folder / "output.log"
        self.fullchain, self.key = self.folder / "fullchain.pem", self.folder / "key.pem"
        self._child: Child | None = None
        try:
            shutil.copyfile(fullchain, self.fullchain)
            self.key.touch(mode=0o600)
            self.key.write_bytes(key.read_bytes())
            self._child = Child(self.prepared(), self.log)
            self._child.wait_until(self.answers)
        except BaseException:
            self.stop()
            raise

    @property
    def starttls(self) -> Mapping[str, int]:
        """The port of each protocol."""
        return {self.protocol: self.port}

    def prepared(self) -> list[str | Path]:
        """Its configuration written; the command that starts it in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
        self._ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Slapd(Speaker):
    """Without a database: its root entry is all that there is."""

    protocol = "ldap"

    def prepared(self) -> list[str | Path]:
        configuration = self.folder / "slapd.conf"
        configuration.write_text(
            f"pidfile {self.folder}/slapd.pid\nargsfile {self.folder}/slapd.args\n"
            f"TLSCertificateFile {self.fullchain}\nTLSCertificateKeyFile {self.key}\n"
        )
        url = f"ldap://127.0.0.1:{self.port}"
        return [program("slapd", "slapd"), "-h", url, "-f", configuration, "-d", "0"]


class PostgreSQL(Speaker):
    protocol = "postgres"

    def prepared(self) -> list[str | Path]:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            raise NotInstalled("postgresql", "no /usr/lib/postgresql/*/bin", "install it")
        data = self.folder / "data"
        as_nobody: list[str | Path] = []
        if not os.geteuid():  # it will not run as root
            as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            for path in (self.folder, self.key, self.fullchain):
                os.chown(path, _NOBODY, _NOBODY)
        make: list[str | Path] = [
            "-D",
            data,
            "-U",
            "certd",
            "-A",
            "trust",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        subprocess.run(
            [*as_nobody, found[-1] / "initdb", *make],
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
        settings: dict[str, object] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": self.fullchain,
            "ssl_key_file": self.key,
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [*as_nobody, found[-1] / "postgres", "-D", data, *options]
