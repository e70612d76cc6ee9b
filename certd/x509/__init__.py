"""Keys, signing requests, and what a CA's answer must be before it is believed. Pure: no I/O.

Sources: RFC 5280 (certificates), RFC 8555 sections 7.4 and 9.1 (CSR and chain in ACME),
RFC 9773 section 4.1 (the identifier of a certificate for renewal information).
"""

from certd.x509.alpn import challenge_leaf, objection
from certd.x509.authority import (
    INTERMEDIATE_LIFETIME,
    new_intermediate,
    new_leaf,
    new_root,
    outside,
    permits,
)
from certd.x509.chains import Roots, ends_at, fits, root_of
from certd.x509.checking import check, check_bundle, check_pin, pair_matches
from certd.x509.crl import BadCRL, Listed, crl_url, read_crl
from certd.x509.keys import csr, csr_der, csr_usages, kind_of, new_key, pin, pin_of_csr, type_of
from certd.x509.reading import facts, facts_of_der, fingerprint, read_chain, shown_name
from certd.x509.requests import read_request

__all__ = [
    "INTERMEDIATE_LIFETIME",
    "BadCRL",
    "Listed",
    "Roots",
    "challenge_leaf",
    "check",
    "check_bundle",
    "check_pin",
    "crl_url",
    "csr",
    "csr_der",
    "csr_usages",
    "ends_at",
    "facts",
    "facts_of_der",
    "fingerprint",
    "fits",
    "kind_of",
    "new_intermediate",
    "new_key",
    "new_leaf",
    "new_root",
    "objection",
    "outside",
    "pair_matches",
    "permits",
    "pin",
    "pin_of_csr",
    "read_chain",
    "read_crl",
    "read_request",
    "root_of",
    "shown_name",
    "type_of",
]
