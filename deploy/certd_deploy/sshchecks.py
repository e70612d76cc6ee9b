"""What the settings of an ssh target may be."""

from __future__ import annotations

import re

from certd.api import ConfigError
from certd_deploy import settings

_HOST_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?")


def check_host(host: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", host) or host.startswith("-"):
        raise ConfigError(f"{host!r} is no host", "", "write its name or address; port is apart")


def check_host_key(key: str) -> None:
    if not _HOST_KEY.fullmatch(key):
        todo = "write the line of its /etc/ssh/ssh_host_ed25519_key.pub, as in ssh-ed25519 AAAA…"
        raise ConfigError("it is no public key of a host", "", todo)


def check_path(path: str) -> None:
    settings.check_path_elsewhere("on another machine", path)


def check_command(argv: tuple[str, ...]) -> None:
    if argv and (not argv[0].strip() or "\0" in "".join(argv)):
        todo = 'write program and arguments, as in ["systemctl", "reload", "nginx"]'
        raise ConfigError("it is no command", "each word is one argument", todo)
