"""What it means that there was no answer, and what to do then."""

from __future__ import annotations

import os
import socket
import ssl

from certd.ca.problem import Problem
from certd.ca.reading import WireError
from certd.ca.route import Route
from certd.ca.wire import TOO_OLD
from certd.silence import AGAIN

# OpenSSL's numbers (X509_V_ERR_…) for a chain that leads to none of our roots.
_NO_ROOT = {2, 18, 19, 20, 21}
# certd does not go by them: see docs/decisions.md.
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def unanswered(url: str, error: WireError, name: str, route: Route) -> Problem:
    """``name`` is the CA's, ``route`` the way on which it was asked."""
    cause, why, table = error.__cause__, str(error), f"[ca.{name}]"
    if isinstance(cause, TimeoutError):
        next = error.next or _passed_over(table, route)
        return Problem(url, None, "", why, retry_after=AGAIN, next=next)
    if error.next:
        return Problem(url, None, "", why, next=error.next)
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in _NO_ROOT:
            next = f"set ca_bundle in {table} to the root that its HTTPS certificate leads to"
        else:
            next = f"check directory in {table} and this machine's clock, then tell the CA"
        return Problem(url, None, "", why, next=next, untrusted=True)
    if isinstance(cause, ssl.SSLError) and cause.reason in TOO_OLD:
        next = f"lower min_tls in {table} if it is 1.3; less than 1.2 is not spoken: tell the CA"
        return Problem(url, None, "", why, next=next)
    if isinstance(cause, ConnectionRefusedError | socket.gaierror | UnicodeError):
        next = _passed_over(table, route) or f"check directory in {table}, DNS and firewall"
        return Problem(url, None, "", why, next=next)
    return Problem(url, None, "", why)


def _passed_over(table: str, route: Route) -> str:
    """What to do where only the environment names a proxy."""
    named = next((name for name in _PROXIES if os.environ.get(name)), None)
    if named is None or route.proxy is not None:
        return ""
    return f"if the proxy of {named} is needed to get there, write it as proxy in {table}"
