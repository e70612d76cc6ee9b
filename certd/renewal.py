"""Asking a CA for its renewal window (RFC 9773), and what is remembered of the answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from certd import due, windows
from certd.ca import ari
from certd.ca.issuer import Issuer
from certd.errors import CertdError
from certd.known import Lineage, RenewalInfo
from certd.model import CertificateSpec
from certd.store import Store

log = logging.getLogger(__name__)


def ask(
    spec: CertificateSpec,
    lineage: Lineage,
    client_of: Callable[[str], Issuer],
    store: Store,
    draw: Callable[[], float],
    now: datetime,
) -> Lineage:
    """Ask the CA that issued what is current, where that is due; keep what it says.

    ``client_of`` gives the CA of that name; ``draw`` a random number in [0, 1).
    """
    plan = due.plan(spec, lineage, now)
    if plan.ask is None or not plan.ask.due(now) or lineage.current is None:
        return lineage
    current, info, failures = lineage.current, lineage.renewal, 0
    retry_after = None
    try:
        client = client_of(current.ca)
        ari_id = current.certificate.ari_id
        issuer = current.issued_at(client.name, client.directory_url)
        if ari_id and issuer and client.offers_renewal_info:
            window = ari.ask(client, ari_id)
            retry_after = window.retry_after
            info = windows.renewal_info(
                window.start,
                window.end,
                window.explanation_url,
                info,
                draw(),
                _hold(spec.name, info, window, store, now),
            )
    except ari.NoAnswer as error:
        log.warning("%s: %s", spec.name, error)
        # Silence leaves the last window standing; nonsense does not.
        info, failures = (info, lineage.ask_failures + 1) if error.silent else (None, 0)
    except CertdError as error:
        log.warning("%s: no renewal information: %s", spec.name, error)
        failures = lineage.ask_failures + 1
    again = windows.ask_again(now, retry_after, failures)
    store.lineages.keep_renewal(spec.name, info, again, failures)
    return replace(lineage, renewal=info, ask_again=again, ask_failures=failures)


def _hold(
    name: str, kept: RenewalInfo | None, window: ari.Window, store: Store, now: datetime
) -> datetime | None:
    """Until when such a window is not obeyed: over, like any before it."""
    if window.end > now or (kept is not None and kept.end > now):
        return None
    if kept is not None and kept.selected > now:
        return kept.selected
    if store.lineages.versions_since(name, now - due.DAY) < due.MOST_A_DAY:
        return None
    log.warning(
        "%s: the CA wants a certificate renewed that it has just issued, and not for the "
        "first time: that is put off to %s",
        name,
        f"{now + due.HOLD:%F %TZ}",
    )
    return now + due.HOLD
