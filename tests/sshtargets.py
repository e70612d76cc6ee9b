"""Targets on a real OpenSSH server, each in a folder that no other test has."""

from __future__ import annotations

import itertools
from pathlib import Path

from certd_deploy.ssh import SSH

from certd.api import SecretReference
from certd.testing.openssh import OpenSSH

_FOLDERS = itertools.count(1)


def unused(what: str) -> str:
    """A name that no other test has."""
    return f"{what}-{next(_FOLDERS)}"


def to(server: OpenSSH) -> SSH:
    return SSH(
        host="127.0.0.1",
        port=server.port,
        user=server.user,
        path=f"{server.files}/{unused('test')}/{{name}}",
        host_key=server.host_key,
        key=SecretReference("file", server.key),
    )


def folder(target: SSH, name: str = "www") -> Path:
    return Path(target.path.replace("{name}", name))
