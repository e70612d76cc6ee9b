"""Services that are asked as DNS providers are, by ``certd_providers.rest``: their errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from certd.api import ConfigError, NotHere, ProviderBusy, ProviderError, TargetBusy, TargetError


@contextlib.contextmanager
def as_target() -> Iterator[None]:
    """What was refused or passed by in here concerns a target."""
    try:
        yield
    except ProviderBusy as error:
        raise TargetBusy(error.what, error.why, error.next, error.retry_after) from error
    except ProviderError as error:
        raise TargetError(error.what, error.why, error.next) from error


def check_roots(path: Path | None) -> None:
    """The ``check`` of a setting with a file of roots.

    Raises:
        NotHere, ConfigError: there is none, or it has no certificate in it.
    """
    if path is None:
        return
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise NotHere(f"{path} cannot be read", error.strerror or "", "put it there") from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigError(f"{path} has no certificate", "", "write the root there, as PEM")
