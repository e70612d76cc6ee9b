"""Keys, signing requests, and what a CA's answer must be before it is believed. Pure: no I/O.

Sources: RFC 5280 (certificates), RFC 8555 sections 7.4 and 9.1 (CSR and chain in ACME),
RFC 9773 section 4.1 (the identifier of a certificate for renewal information).
"""

from certd.x509.chains import Roots, ends_at, fits, root_of
from certd.x509.checking import check, pair_matches
from certd.x509.crl import BadCRL, Listed, crl_url, read_crl
from certd.x509.keys import csr, csr_der, new_key, pin_of_csr, type_of
from certd.x509.reading import facts, facts_of_der, fingerprint, read_chain, shown_name

__all__ = [
    "BadCRL",
    "Listed",
    "Roots",
    "check",
    "crl_url",
    "csr",
    "csr_der",
    "ends_at",
    "facts",
    "facts_of_der",
    "fingerprint",
    "fits",
    "new_key",
    "pair_matches",
    "pin_of_csr",
    "read_chain",
    "read_crl",
    "root_of",
    "shown_name",
    "type_of",
]
