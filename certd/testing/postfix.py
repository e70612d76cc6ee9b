"""A real Postfix: SMTP over TLS from the first octet on, and by STARTTLS; in its own folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from certd.testing.processes import NotInstalled
from certd.testing.server import Server

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
local_recipient_maps =
alias_maps =
maillog_file = {folder}/error.log
maillog_file_prefixes = {folder}
# Two reloads within milliseconds may leave it waiting for a process of before, until that is idle
# for so long; by default 100 s.
max_idle = 3s
smtpd_tls_security_level = encrypt
smtpd_tls_chain_files = {chain}
"""
# Only what a connection needs that brings no mail.
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
127.0.0.1:{smtp} inet n - n - - smtpd
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(Server):
    """Postfix, whose master must be root; ``key`` and ``fullchain`` are put into one file.

    It speaks TLS at ``port``; ``starttls`` has the port of SMTP without.
    """

    package = "postfix"
    program = "postfix"
    starttls: Mapping[str, int]

    def prepare(self) -> None:
        if os.geteuid() != 0:
            raise NotInstalled("the right to run Postfix", "it needs root", "run the tests as root")
        self.starttls = {"smtp": self._ports.take()}
        self._etc = self.folder / "etc"
        self._etc.mkdir(exist_ok=True)
        self.configuration = self._etc / "main.cf"
        self.log = self.folder / "error.log"
        (self.folder / "queue").mkdir(exist_ok=True)
        (self.folder / "data").mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        common = [str(self.binary), "-c", str(self._etc)]
        self.argv = [*common, "start-fg"]
        self.test_argv = [*common, "check"]
        self.reload_argv = [*common, "reload"]

    def configure(self, fullchain: Path, key: Path) -> None:
        first = self.folder / "first.pem"
        first.touch(mode=0o600)
        first.write_text(key.read_text() + fullchain.read_text())
        self.take(first)

    def take(self, chain: Path) -> None:
        """Have it from one file: the key, then the rest."""
        self.configuration.write_text(_MAIN.format(folder=self.folder, chain=chain))
        (self._etc / "master.cf").write_text(_MASTER.format(port=self.port, **self.starttls))

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Not ``main.cf``: each new ``smtpd`` reads that, reload or not."""
        file = self._etc / "master.cf"
        away = file.rename(file.with_suffix(".away"))
        try:
            yield
        finally:
            away.rename(file)

    def start(self) -> None:
        shutil.chown(self.folder / "data", "postfix")
        subprocess.run(self.test_argv, check=True, capture_output=True)  # makes its folders
        super().start()

    def halt(self) -> None:
        """By its own command: what ``start-fg`` has started is not this process's child."""
        subprocess.run([*self.argv[:-1], "stop"], check=False, capture_output=True)
        super().halt()
