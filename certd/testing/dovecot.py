"""A real Dovecot: IMAP over TLS, IMAP and POP3 by STARTTLS; in its own folder, without root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from certd.testing.processes import NotInstalled
from certd.testing.server import Server, find, other_group, other_user

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/error.log
protocols = imap pop3
listen = 127.0.0.1
default_internal_user = {user}
default_login_user = {user}
default_internal_group = {group}
ssl = required
ssl_cert = <{fullchain}
ssl_key = <{key}
passdb {{
    driver = static
    args = nopassword=y
}}
userdb {{
    driver = static
    args = uid={user} gid={group} home={folder}
}}
service imap-login {{
    chroot =
    inet_listener imap {{
        port = {imap}
    }}
    inet_listener imaps {{
        port = {port}
        ssl = yes
    }}
}}
service pop3-login {{
    chroot =
    inet_listener pop3 {{
        port = {pop3}
    }}
    inet_listener pop3s {{
        port = 0
    }}
}}
service anvil {{
    chroot =
}}
"""


class Dovecot(Server):
    """Dovecot: IMAP over TLS at ``port``; ``starttls`` has the ports of protocols without."""

    package = "dovecot-imapd"
    program = "dovecot"
    starttls: Mapping[str, int]

    def prepare(self) -> None:
        if not Path("/usr/lib/dovecot/pop3").exists():
            raise NotInstalled("dovecot-pop3d", "no /usr/lib/dovecot/pop3", "install it")
        self.starttls = {protocol: self._ports.take() for protocol in ("imap", "pop3")}
        (self.folder / "run").mkdir(exist_ok=True)
        self.argv = [str(self.binary), "-F", "-c", str(self.configuration)]
        self.test_argv = [str(find("doveconf")), "-n", "-c", str(self.configuration)]
        self.reload_argv = [str(find("doveadm")), "-c", str(self.configuration), "reload"]

    def text(self, fullchain: Path, key: Path) -> str:
        return _CONFIGURATION.format(
            folder=self.folder,
            port=self.port,
            **self.starttls,
            user=other_user(),
            group=other_group(),
            fullchain=fullchain,
            key=key,
        )
