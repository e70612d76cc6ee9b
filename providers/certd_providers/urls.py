"""Addresses of APIs, as settings: what they may be."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from certd.api import ConfigError


def check_url(url: str) -> None:
    """Of a setting with the address of an API: the ``check`` of its metadata.

    Raises:
        ConfigError: it is none, or the credential would travel in clear text.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "") if parts.port != 0 else ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ConfigError("it is no address of an API", "", "write https://…, without ? and #")
    if parts.username is not None:
        raise ConfigError("it has a credential in it", "", "there is a setting for that")
    if parts.scheme == "http" and not _here(host):
        raise ConfigError("the credential would travel in clear text", "", "write https://…")


# The metadata of a setting with the address of an API.
ADDRESS: Mapping[str, Any] = {"description": "address of the API", "check": check_url}


def _here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
