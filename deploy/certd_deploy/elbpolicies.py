"""Mozilla's guidelines as security policies of classic load balancers, which know no TLS 1.3.

The guidelines: https://wiki.mozilla.org/Security/Server_Side_TLS
What such a load balancer knows: https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/elb-ssl-security-policy.html
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from certd.api import ConfigError

KIND = "SSLNegotiationPolicyType"
PREDEFINED = "ELBSecurityPolicy-"

# Of the ciphers of TLS 1.2 those that give forward secrecy; CHACHA20 is not among them.
KNOWN = frozenset(
    f"{exchange}-{cipher}"
    for exchange, ciphers in {
        "ECDHE-ECDSA": (
            *("AES128-GCM-SHA256", "AES256-GCM-SHA384"),
            *("AES128-SHA256", "AES256-SHA384", "AES128-SHA", "AES256-SHA"),
        ),
        "ECDHE-RSA": (
            *("AES128-GCM-SHA256", "AES256-GCM-SHA384"),
            *("AES128-SHA256", "AES256-SHA384", "AES128-SHA", "AES256-SHA"),
        ),
        "DHE-RSA": (
            *("AES128-GCM-SHA256", "AES256-GCM-SHA384"),
            *("AES128-SHA256", "AES256-SHA256", "AES128-SHA", "AES256-SHA"),
        ),
    }.items()
    for cipher in ciphers
)


@dataclass(frozen=True, slots=True)
class Guideline:
    version: str
    ciphers: tuple[str, ...]  # all of them, by OpenSSL's names
    server_order: bool  # the server's preference decides, not the client's


# Modern is TLS 1.3 alone since version 5.0; 4.0 is the last that can be spoken without.
GUIDELINES = {
    "mozilla-modern": Guideline(
        "4.0",
        (
            *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
            *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
            *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
            *("ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA384"),
            *("ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256"),
        ),
        server_order=True,
    ),
    "mozilla-intermediate": Guideline(
        "5.7",
        (
            *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
            *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
            *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
            *("DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384"),
            "DHE-RSA-CHACHA20-POLY1305",
        ),
        server_order=False,
    ),
}


def check_policy(policy: str) -> None:
    if policy not in GUIDELINES and not policy.startswith(PREDEFINED):
        raise ConfigError(
            f'there is no policy "{policy}"',
            f"certd makes {' and '.join(GUIDELINES)}, AWS has {PREDEFINED}TLS-1-2-2017-01 and more",
            "write one of these, or leave it out: the listener then keeps what it has",
        )


def policy(setting: str) -> tuple[str, dict[str, str]]:
    """Its name at the load balancer, and its attributes.

    A policy cannot be changed, and a guideline may be: so the name says what is in it.
    """
    if setting not in GUIDELINES:
        return f"certd-{setting}", {"Reference-Security-Policy": setting}
    guideline = GUIDELINES[setting]
    on = ["Protocol-TLSv1.2", *(one for one in guideline.ciphers if one in KNOWN)]
    if guideline.server_order:
        on.append("Server-Defined-Cipher-Order")
    attributes = dict.fromkeys(on, "true")
    digest = hashlib.sha256(json.dumps(sorted(attributes)).encode()).hexdigest()
    return f"{setting}-{guideline.version.replace('.', '-')}-{digest[:8]}", attributes
