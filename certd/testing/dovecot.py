"""A real Dovecot that serves IMAP over TLS, in a folder of its own and without root."""

from __future__ import annotations

from pathlib import Path

from certd.testing.server import Server, find, other_user

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/error.log
protocols = imap
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
        port = 0
    }}
    inet_listener imaps {{
        port = {port}
        ssl = yes
    }}
}}
service anvil {{
    chroot =
}}
"""


class Dovecot(Server):
    """Dovecot."""

    package = "dovecot-imapd"
    program = "dovecot"

    def prepare(self) -> None:
        (self.folder / "run").mkdir(exist_ok=True)
        self.argv = [str(self.binary), "-F", "-c", str(self.configuration)]
        self.test_argv = [str(find("doveconf")), "-n", "-c", str(self.configuration)]
        self.reload_argv = [str(find("doveadm")), "-c", str(self.configuration), "reload"]

    def text(self, fullchain: Path, key: Path) -> str:
        user = other_user()
        return _CONFIGURATION.format(
            folder=self.folder,
            port=self.port,
            user=user,
            group="nogroup" if user == "nobody" else user,
            fullchain=fullchain,
            key=key,
        )
