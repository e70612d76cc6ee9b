"""Real servers that go on in TLS when they are asked to: Postfix, Dovecot, slapd, PostgreSQL.

Each serves one pair on loopback, from a folder of its own. Postfix's master wants to be root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from certd.testing.nameserver import program
from certd.testing.processes import Child, NotInstalled, Ports

_NOBODY = 65534
_PATIENCE = 60.0  # seconds for one command


class Speaker:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Postfix(Speaker):
    protocol = "smtp"

    def prepared(self) -> list[str | Path]:
        # Not by its script, which takes seconds to look at every file of the installation.
        binary = Path("/usr/lib/postfix/sbin/master")
        if not binary.exists():
            raise NotInstalled("postfix", f"no {binary}", "install it")
        if os.geteuid():
            raise NotInstalled("postfix", "its master process must be root's", "run as root")
        for name in ("data", "queue", *(f"queue/{part}" for part in ("pid", "private", "public"))):
            (self.folder / name).mkdir()
        for name in ("data", "queue/private", "queue/public"):
            shutil.chown(self.folder / name, "postfix")
        both = self.folder / "both.pem"  # the key first
        both.touch(mode=0o600)
        both.write_bytes(self.key.read_bytes() + self.fullchain.read_bytes())
        (self.folder / "main.cf").write_text(
            f"compatibility_level = 3.6\nqueue_directory = {self.folder}/queue\n"
            f"data_directory = {self.folder}/data\nmaillog_file = {self.folder}/mail.log\n"
            f"maillog_file_prefixes = {self.folder}\nmyhostname = mail.example.com\n"
            "inet_interfaces = 127.0.0.1\nmydestination =\nalias_maps =\n"
            "local_recipient_maps =\n"
            f"smtpd_tls_chain_files = {both}\nsmtpd_tls_security_level = may\n"
        )
        (self.folder / "master.cf").write_text(
            f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
            "tlsmgr unix - - n 1000? 1 tlsmgr\nanvil unix - - n - 1 anvil\n"
            "rewrite unix - - n - - trivial-rewrite\ncleanup unix n - n - 0 cleanup\n"
            "postlog unix-dgram n - n - 1 postlogd\n"
        )
        return [binary, "-c", self.folder, "-d"]


class Dovecot(Speaker):
    """``protocol`` imap at ``port``; POP3 at ``pop3_port``."""

    protocol = "imap"

    def prepared(self) -> list[str | Path]:
        binary = program("dovecot", "dovecot-imapd")
        if not Path("/usr/lib/dovecot/pop3").exists():
            raise NotInstalled("dovecot-pop3d", "no /usr/lib/dovecot/pop3", "install it")
        self.pop3_port = self._ports.take()
        user = pwd.getpwuid(os.geteuid() or _NOBODY)
        configuration = self.folder / "dovecot.conf"
        configuration.write_text(
            f"base_dir = {self.folder}/run\nlog_path = {self.folder}/dovecot.log\n"
            "protocols = imap pop3\nlisten = 127.0.0.1\nssl = required\n"
            f"ssl_cert = <{self.fullchain}\nssl_key = <{self.key}\n"
            f"default_internal_user = {user.pw_name}\ndefault_login_user = {user.pw_name}\n"
            f"default_internal_group = {'nogroup' if user.pw_uid == _NOBODY else user.pw_name}\n"
            "service anvil {\n chroot =\n}\n"
            # Nobody logs in, but it says nothing before it could let somebody.
            "passdb {\n driver = static\n args = nologin=yes\n}\n"
            + "".join(
                f"service {name}-login {{\n chroot =\n"
                f" inet_listener {name} {{\n port = {port}\n }}\n"
                f" inet_listener {name}s {{\n port = 0\n }}\n}}\n"
                for name, port in (("imap", self.port), ("pop3", self.pop3_port))
            )
        )
        return [binary, "-F", "-c", configuration]


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
