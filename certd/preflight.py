"""Before an order: could what it brings be kept and deployed? Else it is not made."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from certd import due
from certd.ca.issuer import Issuer
from certd.challenges.view import Vantage, vantage
from certd.config import Config, TargetSettings
from certd.doctor import Asked, Findings, examine, lines
from certd.errors import CAError, CertdError, ChallengeError, ProviderError, TargetError
from certd.known import Lineage
from certd.model import WRITTEN, CertificateSpec
from certd.silence import Silences
from certd.store import Store

log = logging.getLogger(__name__)

# Certificates for the same names within a week, or within one's lifetime where that is less:
# Let's Encrypt's limit, and far above what is ever needed.
MOST = 5
WEEK = timedelta(days=7)
WRONG_BY = timedelta(hours=1)  # this machine's clock, before it is not trusted with a renewal


def refuse(
    spec: CertificateSpec,
    lineage: Lineage,
    client: Issuer,
    config: Config,
    store: Store,
    now: datetime,
    silences: Silences,
    *,
    new: bool,
    attended: bool,
) -> None:
    """All that may be against an order. ``new``: it is not begun; ``attended``: somebody is there;
    ``silences``: of resolvers.

    Raises:
        CertdError: it would be in vain, or is not needed.
    """
    if new:
        refuse_another(spec, lineage, client, store, now)
    refuse_in_vain(spec, lineage, config.targets, store, now)
    if new:
        if not attended:
            refuse_unattended(spec, lineage, client, config)
        refuse_unprovable(spec, lineage, client, config, store, silences)


def refuse_in_vain(
    spec: CertificateSpec,
    lineage: Lineage,
    targets: Mapping[str, TargetSettings],
    store: Store,
    now: datetime,
) -> None:
    """Asks the state folder's file system, and each target that can be asked (``ready``).

    One target that is not ready stops the order, for what is in place is still good. Only
    in the last resort the others are not left without for its sake.

    Raises:
        CertdError: there is no room for it in the state folder, or what is there about the
            certificate cannot be the truth. No StoreError: it can still be written down.
        TargetError: a target could not take it.
    """
    if not lineage.forced and not store.versions.whole(spec.name):
        raise CertdError(
            f"nothing was ordered for {spec.name}",
            "the database has lost its current version, and is damaged",
            f"`certd db restore` a backup; without one, `certd renew {spec.name} --force`",
        )
    if lack := store.lack():
        raise CertdError(
            f"nothing was ordered for {spec.name}",
            f"it could not be kept: {lack.why}",
            f"{lack.next}, then `certd renew {spec.name}`",
        )
    refused = list(_not_ready(spec, targets))
    if not refused or (len(refused) < len(spec.targets) and _pressing(lineage, now)):
        return
    error = refused[0]
    raise TargetError(
        f"nothing was ordered for {spec.name}",
        f"{error.what}: {error.why}",
        f"{error.next}, then `certd renew {spec.name}`",
    ) from error


def refuse_another(
    spec: CertificateSpec, lineage: Lineage, client: Issuer, store: Store, now: datetime
) -> None:
    """Of a renewal that only time asks for: is the time right, and was it not just done?

    Raises:
        CertdError: this machine's clock is wrong, or there were too many lately.
        CAError: the CA, whose clock is asked, is not there.
    """
    if lineage.current is None or lineage.forced:
        return
    facts = lineage.current.certificate
    if set(facts.identifiers) != set(spec.identifiers):
        return
    ahead = client.clock_ahead()
    wish = due.renewal(facts, lineage.renewal, spec.renew_after)
    if abs(ahead) > WRONG_BY and not wish.due(now - ahead):
        raise CertdError(
            f"{spec.name} was not renewed",
            f"this machine's clock is {ahead.total_seconds() / 3600:.0f} hours ahead of "
            f"{client.name}'s, by which it is not due before {wish.at:%F %H:%MZ}",
            "set this machine's clock, as by NTP",
        )
    since = now - min(WEEK, facts.not_after - facts.not_before)
    if store.lineages.versions_since(spec.name, since) >= MOST:
        raise CertdError(
            f"{spec.name} was not renewed",
            f"it was issued {MOST} times since {since:%F %H:%MZ}: more would spend the CA's limits",
            f"find out why: the versions are in the log; `certd renew {spec.name} --force` goes on",
        )


def refuse_unprovable(
    spec: CertificateSpec,
    lineage: Lineage,
    client: Issuer,
    config: Config,
    store: Store,
    silences: Silences,
) -> None:
    """Asks DNS whether the CA can prove the names, where it is one that DNS matters to.

    This takes a thread, so that a resolver that is away is asked by one at a time only.

    Raises:
        CertdError: it cannot, as far as can be seen from here.
    """
    challenge = due.challenge(spec, lineage)
    if not config.is_examined(spec.name, client.name, challenge):
        return
    place = str(sorted({one.resolvers for one in vantages(spec, config).values()}))
    begun, left = silences.begin(place)
    if left:
        refuse_unasked(spec, challenge)
        return
    try:
        findings = _findings(spec, lineage, client, config, store)
    except CAError as error:  # the order will say so, and has its ways with it
        log.info("%s: DNS was not looked at: %s", spec.name, error)
        return
    if findings.heard:
        silences.answered(place)
    else:
        silences.silent(place, spec.name, begun)
    # Where nothing is published in DNS, a doubt is mostly none of the CA's.
    level = logging.WARNING if challenge in WRITTEN else logging.INFO
    for doubt in dict.fromkeys(findings.doubts):
        log.log(level, "%s: %s", spec.name, doubt)
    if findings.instead:
        log.warning("%s: %s", spec.name, findings.state[0])
        store.lineages.keep_challenge(spec.name, findings.instead)
    if findings.error:
        raise findings.error


def refuse_unasked(spec: CertificateSpec, challenge: str) -> None:
    """Where the resolver has just kept silent to other certificates.

    Raises:
        ChallengeError: the challenge needs to know where a record belongs.
    """
    why = "the DNS server kept silent to other certificates a moment ago"
    if challenge in WRITTEN:
        raise ChallengeError(
            f"DNS was not asked where the records of {spec.name} belong",
            why,
            "see whether it works: it is resolver in [certd], or resolvers in the [dns] table",
        )
    log.info("%s: DNS was not looked at: %s", spec.name, why)


def refuse_unattended(
    spec: CertificateSpec, lineage: Lineage, client: Issuer, config: Config
) -> None:
    """Where somebody would have to be there, who publishes the records by hand.

    Raises:
        ProviderError: that is so.
    """
    settings = config.cas.get(client.name)
    if due.challenge(spec, lineage) not in WRITTEN or (settings and settings.local):
        return
    for name in spec.identifiers:
        account = config.dns.get(spec.dns_for(name.value) or "")
        if account and account.by_hand:
            raise unattended(spec.name, account.name)


def unattended(name: str, account: str) -> ProviderError:
    """For this certificate, the records of this [dns] table."""
    return ProviderError(
        f"[dns.{account}] is for somebody who is there",
        "its records are published by hand",
        f"run `certd renew {name}` at a terminal",
    )


def examined(
    spec: CertificateSpec, lineage: Lineage, client: Issuer, config: Config, store: Store
) -> list[str]:
    """The same for people, also what is well. Raises CAError if the CA cannot be asked."""
    return list(lines(_findings(spec, lineage, client, config, store)))


def _findings(
    spec: CertificateSpec, lineage: Lineage, client: Issuer, config: Config, store: Store
) -> Findings:
    uri = store.accounts.uri(client.directory_url)
    challenge, *others = due.challenges(spec, lineage)
    before = spec.challenges[: spec.challenges.index(challenge)]
    failed = f"{lineage.failure.what}: {lineage.failure.why}" if lineage.failure else ""
    asked = Asked(
        client.name, client.caa_identities(), uri, challenge, tuple(others), before, failed
    )
    return examine(spec, asked, vantages(spec, config))


def vantages(spec: CertificateSpec, config: Config) -> dict[str, Vantage]:
    """From where the zone of each name is looked at."""
    accounts = {name.value: spec.dns_for(name.value) for name in spec.identifiers}
    return {name: vantage(config, config.dns.get(one or "")) for name, one in accounts.items()}


def _not_ready(
    spec: CertificateSpec, targets: Mapping[str, TargetSettings]
) -> Iterator[CertdError]:
    for name in spec.targets:
        ready = getattr(targets[name].plugin, "ready", None) if name in targets else None
        if callable(ready):
            try:
                ready(spec.name)
            except CertdError as error:
                yield error


def _pressing(lineage: Lineage, now: datetime) -> bool:
    """Whether what is in place is about to expire."""
    if lineage.current is None:
        return False
    facts = lineage.current.certificate
    return now >= facts.not_after - (facts.not_after - facts.not_before) * due.LAST_RESORT
