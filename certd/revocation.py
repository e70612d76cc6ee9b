"""Asking a CA to revoke a certificate (RFC 8555 section 7.6), and what becomes of its answer.

What is to be revoked is in the store before the CA hears of it. Whoever finds it there, the
command or after a crash the next certd, asks; that it was done already is as good as done.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime

from certd import due
from certd.ca.issuer import Issuer, NoRevocation, Refused
from certd.ca.problem import Problem
from certd.config import WELL_KNOWN, CASettings
from certd.errors import CertdError, ConfigError, bug
from certd.failpoint import failpoint
from certd.known import KEY_COMPROMISE, Failure, Revocation, Version
from certd.store import Store

log = logging.getLogger(__name__)

# RFC 5280 section 5.3.1, those that a subscriber may give as a reason.
REASONS: Mapping[str, int] = {
    "unspecified": 0,
    "keyCompromise": 1,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
}

NEVER_SEEN = "its signing request was yours (csr): certd has never seen the key"

ClientOf = Callable[[str], Issuer]


def ask(
    asked: Revocation,
    store: Store,
    client_of: ClientOf,
    cas: Mapping[str, CASettings],
    now: datetime,
) -> str:
    """Ask the CA that issued it, and keep that it is revoked; returns the published reason.

    A compromised certificate is revoked without a reason where the CA takes none.

    Raises:
        Refused: it will not; the text says why, and what to do.
        CertdError: it could not be asked; the revocation stays to be asked for.
    """
    found = store.revocations.find(asked.name, asked.number)
    if found is None:
        raise Refused(f"version {asked.number} of {asked.name} is not in the store any more")
    client = _issuer(found[0], client_of, cas)
    bundle = store.lineages.bundle(asked.name, asked.number)
    key = bundle.key_pem if asked.signer == "key" else None
    if key is not None and bundle.keyless:
        raise Refused(
            f"version {asked.number} of {asked.name} cannot be revoked with its own key",
            NEVER_SEEN,
            "leave --with-key out: the account signs",
        )
    der, reason = ssl.PEM_cert_to_DER_cert(bundle.leaf_pem), asked.reason
    try:
        try:
            client.revoke(der, REASONS[reason], key)
        except Problem as problem:
            if problem.type != "badRevocationReason" or reason != KEY_COMPROMISE:
                raise
            reason = "unspecified"
            client.revoke(der, REASONS[reason], key)
    except Problem as problem:
        if problem.type != "alreadyRevoked":
            if problem.transient or problem.untrusted or problem.type in ("", "rateLimited"):
                raise
            raise _refused(asked, client.name, problem) from problem
    failpoint("revocation: the CA has revoked")
    store.revocations.done(asked, now)
    failpoint("revocation: kept as revoked")
    log.info("version %d of %s is revoked: %s", asked.number, asked.name, reason)
    return reason


def postpone(
    asked: Revocation, error: CertdError, store: Store, draw: float, now: datetime
) -> datetime:
    """It could not be asked for: keep why; returns when it is tried again.

    Of what nobody can revoke nothing stays: its key, if that was the reason, is given up.
    """
    if isinstance(error, NoRevocation):
        store.revocations.drop(asked)
    stop = isinstance(error, Refused)
    again = due.NEVER if stop else now + due.backoff(asked.failures + 1, None, draw)
    store.revocations.failed(asked, Failure(error.what, error.why, error.next, now), again)
    return again


def resume(
    store: Store,
    client_of: ClientOf,
    cas: Mapping[str, CASettings],
    draw: Callable[[], float],
    now: datetime,
    over: Callable[[], bool],
) -> None:
    """Ask for what a crash or a CA that was away has left to be asked for; begin with none
    once it is ``over``.
    """
    for asked in store.revocations.pending(now):
        if over():
            return
        try:
            ask(asked, store, client_of, cas, now)
            continue
        except CertdError as error:
            failed = error
        except Exception as error:  # the boundary of a job: a bug stops one revocation
            log.exception("this is a bug in certd, please report it")
            failed = bug(error)
        log.error("version %d of %s is not revoked: %s", asked.number, asked.name, failed)
        postpone(asked, failed, store, draw(), now)


def _issuer(version: Version, client_of: ClientOf, cas: Mapping[str, CASettings]) -> Issuer:
    """The CA that issued it, under whatever name it has by now."""
    if version.directory is None:
        return client_of(version.ca)
    names = [ca.name for ca in cas.values() if ca.directory == version.directory]
    if not names:
        known = [name for name, ca in WELL_KNOWN.items() if ca.directory == version.directory]
        table = known[0] if known else version.ca
        raise ConfigError(
            f"the CA that issued version {version.number} is not in the configuration",
            f"its directory is {version.directory}",
            f'add [ca.{table}]{"" if known else f""" with directory = "{version.directory}" """}',
        )
    return client_of(version.ca if version.ca in names else names[0])


def _refused(asked: Revocation, ca: str, problem: Problem) -> Refused:
    next = problem.next
    match problem.type:
        case "badRevocationReason":
            next = f"leave --reason {asked.reason} out, or give another"
        case "unauthorized" if asked.signer == "account":
            next = (
                "the account here is perhaps not the one that it was issued to: --with-key "
                "signs with the certificate's own key instead"
            )
    what = f"{ca} does not revoke version {asked.number} of {asked.name}"
    return Refused(what, problem.why, next)
