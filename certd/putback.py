"""Putting back at a target what it served before."""

from __future__ import annotations

import logging

from certd.config import TargetSettings
from certd.errors import CertdError, StoreError, bug
from certd.model import Bundle

log = logging.getLogger(__name__)


def put_back(before: Bundle, settings: TargetSettings) -> CertdError | None:
    """Deploy what was served before; what went wrong with that, if anything did."""
    try:
        settings.plugin.deploy(before)
    except StoreError:
        raise
    except CertdError as error:
        return error
    except Exception as error:  # as in act: a plugin may raise anything
        log.exception("%s: target %s", before.name, settings.name)
        return bug(error)
    return None


def also(before: Bundle, first: CertdError, second: CertdError) -> str:
    """That the way back failed too, and why, where that is not said already."""
    said = f"putting version {before.version} back failed too"
    if (second.what, second.why) == (first.what, first.why):
        return said
    return ": ".join(filter(None, (said, second.what, second.why)))
