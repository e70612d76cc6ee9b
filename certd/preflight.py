"""Before an order: could what it brings be kept and deployed? Else it is not made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from certd import due
from certd.config import TargetSettings
from certd.errors import CertdError, TargetError
from certd.model import CertificateSpec, Lineage
from certd.store import Store


def refuse_in_vain(
    spec: CertificateSpec,
    lineage: Lineage,
    targets: Mapping[str, TargetSettings],
    store: Store,
    now: datetime,
) -> None:
    """Asks the state folder's file system, and each target that can be asked (``ready``).

    One target that is not ready stops the order, for what is in place is still good. Only
    in the last resort the others are not left without for its sake.

    Raises:
        CertdError: there is no room for it in the state folder, or what is there about the
            certificate cannot be the truth. No StoreError: it can still be written down.
        TargetError: a target could not take it.
    """
    if not lineage.forced and not store.versions.whole(spec.name):
        raise CertdError(
            f"nothing was ordered for {spec.name}",
            "the database has lost its current version, and is damaged",
            f"`certd db restore` a backup; without one, `certd renew {spec.name} --force`",
        )
    if lack := store.lack():
        raise CertdError(
            f"nothing was ordered for {spec.name}",
            f"it could not be kept: {lack.why}",
            f"{lack.next}, then `certd renew {spec.name}`",
        )
    refused = list(_not_ready(spec, targets))
    if not refused or (len(refused) < len(spec.targets) and _pressing(lineage, now)):
        return
    error = refused[0]
    raise TargetError(
        f"nothing was ordered for {spec.name}",
        f"{error.what}: {error.why}",
        f"{error.next}, then `certd renew {spec.name}`",
    ) from error


def _not_ready(
    spec: CertificateSpec, targets: Mapping[str, TargetSettings]
) -> Iterator[CertdError]:
    for name in spec.targets:
        ready = getattr(targets[name].plugin, "ready", None) if name in targets else None
        if callable(ready):
            try:
                ready(spec.name)
            except CertdError as error:
                yield error


def _pressing(lineage: Lineage, now: datetime) -> bool:
    """Whether what is in place is about to expire."""
    if lineage.current is None:
        return False
    facts = lineage.current.certificate
    return now >= facts.not_after - (facts.not_after - facts.not_before) * due.LAST_RESORT
