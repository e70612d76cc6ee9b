"""Asking a target's service for the certificates that it renews itself, to be shown."""

from __future__ import annotations

import logging
from datetime import datetime

from certd import due
from certd.config import TargetSettings
from certd.errors import CertdError, StoreError
from certd.store import Store

log = logging.getLogger(__name__)


def note_others(settings: TargetSettings, store: Store, now: datetime) -> None:
    """Once in a while, whichever certificate there is looked at; a failure is only logged."""
    managed = getattr(settings.plugin, "managed", None)
    if not callable(managed):  # it has none, or a setting of that name
        return
    seen = store.others.seen_at(settings.name)
    if seen is not None and now - seen < (settings.look_every or due.DAY) / 2:
        return
    try:
        store.others.keep(settings.name, managed(), now)
    except StoreError:
        raise
    except CertdError as error:
        log.warning("target %s: what is there besides is not known: %s", settings.name, error)
    except Exception:  # the boundary of a job: a plugin may raise anything
        log.exception("target %s: what is there besides is not known", settings.name)
