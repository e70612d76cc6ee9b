"""The roots that a CA's certificates may lead to: this machine's, and those it was given."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import re
import ssl
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from certd.x509 import Roots

log = logging.getLogger(__name__)

_PEM = re.compile(b"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # the names that OpenSSL looks for


def known_roots(given: Path | None = None) -> Roots:
    """This machine's roots, as OpenSSL finds them, and those of a PEM file.

    A file that was there when the configuration was read, and is not any more, costs
    nothing but itself.
    """
    if given is None:
        return _system()
    try:
        return Roots([*_ders(_system_files()), *_certificates(given.read_bytes())])
    except OSError as error:
        log.warning("cannot read the roots in %s: %s", given, error.strerror)
        return _system()


@lru_cache(maxsize=1)
def _system() -> Roots:
    return Roots(_ders(_system_files()))


def _system_files() -> list[Path]:
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return [Path(paths.cafile)]
    try:
        names = sorted(filter(_HASHED.fullmatch, os.listdir(paths.capath or "")))
    except OSError:
        return []
    return [Path(paths.capath or "", name) for name in names]


def _ders(files: list[Path]) -> Iterator[bytes]:
    """What cannot be read is of no use to OpenSSL either."""
    for path in files:
        with contextlib.suppress(OSError):
            yield from _certificates(path.read_bytes())


def _certificates(pem: bytes) -> Iterator[bytes]:
    for body in _PEM.findall(pem):
        with contextlib.suppress(ValueError):
            yield base64.b64decode(body)
