"""Keys, signing requests, and what a CA's answer must be before it is believed. Pure: no I/O.

Sources: RFC 5280 (certificates), RFC 8555 sections 7.4 and 9.1 (CSR and chain in ACME),
RFC 9773 section 4.1 (the identifier of a certificate for renewal information).
"""

from certd.x509.checking import check, check_pin, pair_matches
from certd.x509.keys import csr, csr_der, kind_of, new_key, pin, type_of
from certd.x509.reading import facts, facts_of_der, fingerprint, read_chain, shown_name
from certd.x509.requests import read_request

__all__ = [
    "check",
    "check_pin",
    "csr",
    "csr_der",
    "facts",
    "facts_of_der",
    "fingerprint",
    "kind_of",
    "new_key",
    "pair_matches",
    "pin",
    "read_chain",
    "read_request",
    "shown_name",
    "type_of",
]
