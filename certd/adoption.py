"""Taking back in what the targets hold, so that it need not be issued again.

After the loss of the database, or with an older copy of it put back, the targets know
more than the store. Whatever is in place there, a pair of key and leaf for the names that
are wanted, newer than what is current, becomes the current version. Nothing is asked of
any CA and nothing is written to any target.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime

from certd import x509
from certd.config import TargetSettings
from certd.errors import BadCertificate, CertdError
from certd.failpoint import failpoint
from certd.known import Lineage
from certd.model import Bundle, Certificate, CertificateSpec, Pair
from certd.ordering import Say
from certd.secrets import Secret
from certd.store import Store

log = logging.getLogger(__name__)

Targets = Mapping[str, TargetSettings]


def adopt(
    spec: CertificateSpec, lineage: Lineage, targets: Targets, store: Store, say: Say, now: datetime
) -> int | None:
    """Make the newest that its targets hold the current version; None if that is no newer.

    This process has the certificate's lease. ``say`` hears what was taken, and why what is
    there was not.
    """
    current = lineage.current.certificate if lineage.current else None
    found = list(_candidates(spec, current, targets, store, say, now))
    if not found:
        return None
    newest = max((bundle for _, bundle in found), key=_age)
    facts, key_type = (
        newest.certificate,
        spec.key_type if spec.csr else x509.type_of(newest.key_pem),
    )
    if current is not None and (
        facts.not_before <= current.not_before
        # Of another kind, it would be renewed at once, and what is current perhaps not.
        or key_type != spec.key_type
    ):
        return None
    where = [name for name, bundle in found if bundle.certificate == facts]
    number = store.versions.adopt(newest, key_type, spec.cas[0], where, now, spec.wishes)
    failpoint("adoption: version is current")
    say(
        spec.name,
        f"taken back in from {', '.join(where)} as version {number}, valid until "
        f"{facts.not_after:%F}, issued by {facts.issuer}",
    )
    return number


def adopt_all(
    specs: Mapping[str, CertificateSpec], targets: Targets, store: Store, say: Say, now: datetime
) -> Mapping[str, int | None]:
    """The same for each of these that no other certd works on just now: its number, or None."""
    taken: dict[str, int | None] = {}
    for name in store.leases.claim(specs):
        lineage = store.lineages.get(name)
        taken[name] = adopt(specs[name], lineage, targets, store, say, now)
        store.leases.release(name, now)
    return taken


def _candidates(
    spec: CertificateSpec,
    current: Certificate | None,
    targets: Targets,
    store: Store,
    say: Say,
    now: datetime,
) -> Iterator[tuple[str, Bundle]]:
    """What each target holds, if it is wanted and not current. The number says nothing."""
    for name in spec.targets:
        settings = targets.get(name)
        try:
            pair = _held(spec.name, settings) if settings else None
            if pair is None or (
                # As nearly always: spare the rest.
                current and current.fingerprint == x509.fingerprint(pair.fullchain_pem)
            ):
                continue
            pin = spec.csr.spki_sha256 if spec.csr else x509.pin(pair.key_pem)
            leaf, chain, facts = x509.check_pin(
                pair.fullchain_pem, pin, spec.identifiers, now, usages=spec.usages
            )
            if why := store.revocations.forbids(facts):
                raise BadCertificate(f"the certificate at {name} is not taken", why)
        except CertdError as error:
            why = error.why or error.what
            say(spec.name, f"what {name} holds is not taken back in: {why}")
            continue
        yield (
            name,
            Bundle(spec.name, 0, leaf, chain, Secret("") if spec.csr else pair.key_pem, facts),
        )


def _held(name: str, settings: TargetSettings) -> Pair | None:
    recover = getattr(settings.plugin, "recover", None)
    if not callable(recover):  # it is none, or a setting of that name
        return None
    try:
        pair = recover(name)
    except CertdError:
        raise
    except Exception:  # the boundary of a job: a plugin may raise anything
        log.exception("%s: target %s cannot be asked what it holds", name, settings.name)
        return None
    return pair if isinstance(pair, Pair) else None


def _age(bundle: Bundle) -> tuple[datetime, datetime]:
    return bundle.certificate.not_before, bundle.certificate.not_after
