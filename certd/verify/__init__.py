"""What do endpoints really serve? Looked at from outside, as a client does; nothing is changed."""

from certd.verify.addresses import addresses_of
from certd.verify.chain import lacking, unpinned, untrusted
from certd.verify.header import header
from certd.verify.policy import violations
from certd.verify.probing import NoRoute, Served, Way, probe, sni_for

__all__ = [
    "NoRoute",
    "Served",
    "Way",
    "addresses_of",
    "header",
    "lacking",
    "probe",
    "sni_for",
    "unpinned",
    "untrusted",
    "violations",
]
