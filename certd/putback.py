"""Keeping from a target what would do harm, and putting back what it served before."""

from __future__ import annotations

import logging
from datetime import datetime

from certd import x509
from certd.config import TargetSettings
from certd.errors import CertdError, StoreError, Untouched, bug
from certd.model import Bundle

log = logging.getLogger(__name__)


def refuse_bad(bundle: Bundle, now: datetime) -> None:
    """Before any target is touched: some servers die of a bad pair, and none is to have one."""
    try:
        x509.check_bundle(bundle, now)
    except CertdError as error:
        raise Untouched(
            f"version {bundle.version} is not fit to be deployed",
            ": ".join(filter(None, (error.what, error.why))),
            f"`certd renew {bundle.name} --force` gets another",
        ) from error


def put_back(
    before: Bundle, settings: TargetSettings, forbidden: str, now: datetime, first: CertdError
) -> tuple[bool, str]:
    """Whether what was served before is in place again, and what there is to say of it.

    ``first`` is what it is put back for; ``forbidden`` says why it must not be used any more,
    if so. What has expired is not put back either.
    """
    if before.certificate.not_after <= now:
        return False, ""
    if forbidden:
        return False, f"version {before.version} is not put back: {forbidden}"
    try:
        settings.plugin.deploy(before)
    except StoreError:
        raise
    except CertdError as error:
        return False, _also(before, first, error)
    except Exception as error:  # as in Rollout.act: a plugin may raise anything
        log.exception("%s: target %s", before.name, settings.name)
        return False, _also(before, first, bug(error))
    return True, f"version {before.version} is in place again"


def _also(before: Bundle, first: CertdError, second: CertdError) -> str:
    """That the way back failed too, and why, where that is not said already."""
    said = f"putting version {before.version} back failed too"
    if (second.what, second.why) == (first.what, first.why):
        return said
    return ": ".join(filter(None, (said, second.what, second.why)))
