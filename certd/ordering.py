"""What an order asks for, decided and written down before a CA hears of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from certd import x509
from certd.authorize import OrderFailed
from certd.ca.client import Client
from certd.failpoint import failpoint
from certd.model import CertificateSpec, Order, Version
from certd.react import Refusal
from certd.store import Store

log = logging.getLogger(__name__)

Say = Callable[[str, str], None]  # certificate name, what has just happened


def replaced(
    spec: CertificateSpec, client: Client, current: Version | None, now: datetime
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


def profile(spec: CertificateSpec, client: Client, say: Say) -> str | None:
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


def begin(
    spec: CertificateSpec,
    client: Client,
    store: Store,
    current: Version | None,
    say: Say,
    now: datetime,
) -> Order:
    """Make key and CSR for a new order, and write them down.

    ``current`` is the version to be replaced: only the CA that issued it, and only one
    that offers renewal information, is told so (RFC 9773 section 5).

    Raises:
        OrderFailed: this CA has no such profile.
    """
    asked = profile(spec, client, say)
    key = x509.new_key(spec.key_type)
    csr = x509.csr(key, spec.identifiers)
    order = store.orders.begin(
        spec.name,
        client.name,
        client.directory_url,
        spec.identifiers,
        spec.key_type,
        key,
        csr,
        replaced(spec, client, current, now),
        now,
        profile=asked,
        lifetime=spec.lifetime,
        wishes=spec.wishes,
    )
    failpoint("issue: key and CSR are kept")
    return order
