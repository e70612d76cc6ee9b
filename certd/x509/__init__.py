"""Keys, signing requests, and what a CA's answer must be before it is believed. Pure: no I/O.

Sources: RFC 5280 (certificates), RFC 8555 sections 7.4 and 9.1 (CSR and chain in ACME),
RFC 9773 section 4.1 (the identifier of a certificate for renewal information).
"""

from certd.x509.alpn import challenge_leaf, objection
from certd.x509.checking import check, pair_matches
from certd.x509.keys import csr, csr_der, new_key, type_of
from certd.x509.reading import facts, facts_of_der, fingerprint, read_chain, shown_name

__all__ = [
    "challenge_leaf",
    "check",
    "csr",
    "csr_der",
    "facts",
    "facts_of_der",
    "fingerprint",
    "new_key",
    "objection",
    "pair_matches",
    "read_chain",
    "shown_name",
    "type_of",
]
