"""PURE: the public CAs that need no table: where their directories are, and what they insist on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from certd.budget import LETS_ENCRYPT, NO_LIMITS, Limits
from certd.config.policy import ANY_PUBLIC, LETS_ENCRYPT_NAMES, NamePolicy


@dataclass(frozen=True, slots=True)
class WellKnownCA:
    """A public CA that needs no ``directory`` of the operator's."""

    directory: str
    staging: str | None = None
    mailto_only: bool = False  # it refuses an account with another kind of contact
    customers_only: bool = False  # it makes accounts bound to a customer's only (EAB)
    limits: Limits = NO_LIMITS
    names: NamePolicy = ANY_PUBLIC


# From each CA's own documentation of its ACME service. SSL.com signs ECDSA and RSA keys at
# two directories; ours is the one for ECDSA because that is certd's default key.
WELL_KNOWN: Mapping[str, WellKnownCA] = {
    "letsencrypt": WellKnownCA(
        "https://acme-v02.api.letsencrypt.org/directory",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
        mailto_only=True,
        limits=LETS_ENCRYPT,
        names=LETS_ENCRYPT_NAMES,
    ),
    "letsencrypt-staging": WellKnownCA(
        "https://acme-staging-v02.api.letsencrypt.org/directory",
        mailto_only=True,
        names=LETS_ENCRYPT_NAMES,
    ),
    "google": WellKnownCA(
        "https://dv.acme-v02.api.pki.goog/directory",
        "https://dv.acme-v02.test-api.pki.goog/directory",
        customers_only=True,
    ),
    "zerossl": WellKnownCA("https://acme.zerossl.com/v2/DV90", customers_only=True),
    "sslcom": WellKnownCA("https://acme.ssl.com/sslcom-dv-ecc", customers_only=True),
    "actalis": WellKnownCA("https://acme-api.actalis.com/acme/directory", customers_only=True),
}
