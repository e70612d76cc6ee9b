"""What an order asks for, decided and written down before a CA hears of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from certd import due, x509
from certd.authorize import OrderFailed
from certd.ca.issuer import Issuer
from certd.errors import SecretError
from certd.failpoint import failpoint
from certd.known import Lineage, NextKey, Order, Version
from certd.model import CertificateSpec, keyless
from certd.react import TRIES, Refusal
from certd.secrets import Secret
from certd.store import Store

log = logging.getLogger(__name__)

Say = Callable[[str, str], None]  # certificate name, what has just happened


def whom(spec: CertificateSpec, lineage: Lineage, store: Store, now: datetime) -> str:
    """The CA to ask now; with an order under way, whoever has it, as long as it may be asked."""
    if lineage.ordering and (order := store.orders.live(spec.name)):
        parked = lineage.parks.get(order.ca)
        issued = order.finalizing is not None and order.finalizing <= TRIES  # perhaps
        if order.ca in spec.cas and (issued or not (parked and parked.holds(now))):
            return order.ca
    return (due.askable(spec, lineage, now) or spec.cas)[0]


def replaced(
    spec: CertificateSpec, client: Issuer, current: Version | None, now: datetime
) -> str | None:
    """What an order says that it replaces (RFC 9773 section 5); None: nothing."""
    if (
        not current
        or not current.issued_at(client.name, client.directory_url)
        or not client.offers_renewal_info
    ):
        return None
    # An expired certificate needs no replacing, and one for quite other names is not
    # replaced by this one: CAs refuse such orders.
    shared = set(spec.identifiers).intersection(current.certificate.identifiers)
    good = shared and current.certificate.not_after > now
    return current.certificate.ari_id if good else None


def profile(spec: CertificateSpec, client: Issuer, say: Say) -> str | None:
    """The profile to ask this CA for (draft-ietf-acme-profiles); None: for none.

    A CA that has none at all is asked for none: `profile` speaks of those that have.

    Raises:
        OrderFailed: it has others only, so that it would refuse.
    """
    if spec.profile is None:
        return None
    offered = client.profiles()
    if offered and spec.profile not in offered:
        client.ask_directory_again()  # that list may be an hour old
        offered = client.profiles()
    if not offered:
        say(spec.name, f"{client.name} has no profiles: ordering without {spec.profile}")
        return None
    if spec.profile in offered:
        return spec.profile
    if spec.fallback_profile in offered:
        say(
            spec.name,
            f"{client.name} has no profile {spec.profile}: ordering {spec.fallback_profile}",
        )
        return spec.fallback_profile
    wanted = " and no ".join(filter(None, (spec.profile, spec.fallback_profile)))
    raise OrderFailed(
        f"{client.name} has no profile {wanted}",
        f"it has {', '.join(offered)}",
        f"correct profile in [certificate.{spec.name}], or name a fallback_profile",
        Refusal("invalidProfile", 400),
        "new order",
    )


def still_wanted(order: Order, spec: CertificateSpec, lineage: Lineage, client: Issuer) -> bool:
    """Whether an order under way is what would be ordered now."""
    # A request of the operator's may ask for more than is wanted of it: CAs give what they like.
    usages = spec.usages if spec.csr else x509.csr_usages(order.csr_pem)
    if not order.serves(spec, client.name, client.directory_url, usages):
        return False
    if keyless(order.wishes):
        return True
    current = lineage.current.certificate if lineage.current else None
    # Another key was asked for after it was begun with the one of before.
    return not (lineage.new_key and current and x509.pin(order.key_pem) == current.spki_sha256)


def make_next_key(
    spec: CertificateSpec, lineage: Lineage, store: Store, say: Say, now: datetime
) -> Lineage:
    """Make the key of the next issuance in advance, if that is wanted and there is none."""
    decision = due.next_key(spec, lineage, now)
    if decision is None:
        return lineage
    key = x509.new_key(spec.key_type)
    about = NextKey(spec.key_type, x509.pin(key))
    store.next_keys.keep(spec.name, key, about, now)
    failpoint("ordering: next key is kept")
    say(spec.name, f'the next key is made: pin-sha256="{about.spki_sha256}"')
    return replace(lineage, next_key=about)


def _key(spec: CertificateSpec, lineage: Lineage, store: Store) -> Secret:
    """That of the current version, the one made in advance, or a new one."""
    current = lineage.current
    if current and keyless(current.wishes):
        current = None  # its key was never ours
    if spec.reuse_key and current and not lineage.new_key and current.key_type == spec.key_type:
        try:
            bundle = store.lineages.bundle(spec.name, current.number)
            if x509.pair_matches(bundle.leaf_pem, bundle.key_pem):
                return bundle.key_pem
            log.warning("%s: its key in the store is not the leaf's: making another", spec.name)
        except SecretError as error:
            log.warning("%s: its key is lost, making another: %s", spec.name, error)
    try:
        made = store.next_keys.get(spec.name) if spec.backup_key else None
    except SecretError as error:
        made = None
        log.warning("%s: the next key is lost, and its pin with it: %s", spec.name, error)
    if made and x509.type_of(made) == spec.key_type:
        return made
    return x509.new_key(spec.key_type)


def another_key(order: Order) -> tuple[Secret, str]:
    """And the signing request for it: the CA has refused those of the order."""
    key = x509.new_key(order.key_type)
    return key, x509.csr(key, order.identifiers, x509.csr_usages(order.csr_pem))


def advise(name: str, client: Issuer) -> str:
    """What to do where this CA has refused a profile that it lists."""
    offered = ", ".join(client.profiles()) or "none"
    return f"its directory lists {offered}: name another profile in [certificate.{name}]"


def begin(
    spec: CertificateSpec,
    client: Issuer,
    store: Store,
    lineage: Lineage,
    profile: str | None,
    now: datetime,
) -> Order:
    """Choose or make the key, make the CSR for a new order, and write them down.

    The current version is replaced: only the CA that issued it, and only one that offers
    renewal information, is told so (RFC 9773 section 5).
    """
    if spec.csr:
        key, csr = Secret(""), spec.csr.pem
    else:
        key = _key(spec, lineage, store)
        csr = x509.csr(key, spec.identifiers, spec.usages)
    order = store.orders.begin(
        spec.name,
        client.name,
        client.directory_url,
        spec.identifiers,
        spec.key_type,
        key,
        csr,
        replaced(spec, client, lineage.current, now),
        now,
        profile=profile,
        lifetime=spec.lifetime,
        wishes=spec.wishes,
    )
    failpoint("issue: key and CSR are kept")
    return order
