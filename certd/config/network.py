"""How others are reached, as the configuration writes it: hosts, proxies, addresses of ours."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from certd.config.findings import shown
from certd.config.identifiers import host_port, identifier
from certd.errors import ConfigError, NotHere

_ORIGIN = re.compile(r"https://[!-~]{1,280}")


def proxy(text: str) -> tuple[str, int, str | None]:
    """An HTTP proxy as ``http://proxy:3128`` or ``http://user@proxy:3128``: host, port, user.

    What may hold a password is not repeated.
    """
    try:
        url = urlsplit(text)
        user, password = url.username, url.password
        right = url.scheme == "http" and url.path in ("", "/") and not url.query + url.fragment
    except ValueError:
        right, user, password = False, None, "perhaps"
    if password is not None:
        raise ConfigError(
            "there is a password in the URL",
            "whoever reads the file has it",
            'write proxy = "http://user@proxy:3128", and the password\'s place in proxy_password',
        )
    where = url.netloc.rpartition("@")[2] if right else ""
    if not where or user == "" or text.split() != [text] or not text.isprintable():
        why = "certd speaks HTTP with a proxy, and CONNECT" if "://" in text else "it has no scheme"
        what = f"{shown(text)} is no proxy" if "@" not in text else "it is no proxy"
        raise ConfigError(what, why, 'write it as "http://proxy:3128"')
    if where.endswith("]") or ":" not in where:
        raise ConfigError("the proxy has no port", "", f'write it as "http://{where}:3128"')
    user = unquote(user) if user is not None else None
    if user is not None and (":" in user or not user.isprintable()):
        what, why = "the proxy's user cannot be sent", "it has a colon in it (RFC 7617 section 2)"
        raise ConfigError(what, why, "correct it")
    return *host_port(where), user


def address(text: str) -> str:
    """An IP address in its shortest form."""
    try:
        return str(ip_address(text))
    except ValueError:
        what, todo = f"{shown(text)} is no IP address", 'write it as "192.0.2.7"'
        raise ConfigError(what, "", todo) from None


def check_address(address: str) -> None:
    """Whether this machine has it.

    Raises:
        NotHere: it has not.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
    except OSError as error:
        what = f"{address} is no address of this machine"
        todo = "correct it, or give this machine the address"
        raise NotHere(what, error.strerror or str(error), todo) from None


def https_origin(text: str) -> str:
    """Where another certd is: an ``https`` URL of a host and a port, and nothing behind them."""
    try:
        url = urlsplit(text)
        right = url.scheme == "https" and bool(url.hostname) and url.port != 0
        right = right and url.path in ("", "/") and "@" not in url.netloc
    except ValueError:
        right = False
    if not right or not _ORIGIN.fullmatch(text):
        raise ConfigError(
            f"{shown(text)} is not the https URL of a host and a port",
            "",
            'write it as "https://hub.example.com:8443"',
        )
    return text.rstrip("/")


def host_name(text: str) -> str:
    """A DNS name, and no wildcard.

    Raises:
        ConfigError: it is another thing.
    """
    found = identifier(text)
    if found.type != "dns" or found.value.startswith("*."):
        raise ConfigError(f"{shown(text)} is not a DNS name of one machine", "", "name one")
    return found.value
