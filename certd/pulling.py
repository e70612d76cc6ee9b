"""Taking in what another certd, the hub, has for this machine.

Nothing is ordered. What the hub gives becomes a version after the same checks that a CA's
answer gets; from there on it is deployed, verified and looked at like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from certd import due, x509
from certd.adoption import Targets, adopt
from certd.config import Config
from certd.distribution.hub import Hub, HubAway, HubError, Hubs
from certd.distribution.wording import Given
from certd.errors import BadCertificate, CertdError, StoreError, bug
from certd.failpoint import failpoint
from certd.known import Failure, Lineage, Version
from certd.model import Bundle, Certificate, CertificateSpec
from certd.ordering import Say
from certd.secrets import Secret
from certd.showing import Publisher, clean_up
from certd.store import Store
from certd.x509.reading import ASK_AGAIN

log = logging.getLogger(__name__)


class Pulling:
    """Shared by all threads; who calls has the certificate's lease."""

    def __init__(
        self,
        config: Config,
        store: Store,
        publisher: Publisher,
        clock: Callable[[], datetime],
        draw: Callable[[], float],
        say: Say,
    ) -> None:
        self._targets: Targets = config.targets
        self._hubs = Hubs(config.cas)
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._draw = draw
        self._say = say

    def step(self, spec: CertificateSpec) -> None:
        """Ask its hub for another version, and take in what it has; what fails is kept."""
        try:
            self._give_up_order(spec.name)
            self._pull(spec)
        except StoreError:
            raise
        except CertdError as error:
            self._failed(spec, error)
        except Exception as error:  # the boundary of a job: a bug stops one certificate only
            log.exception("%s: this is a bug in certd, please report it", spec.name)
            self._failed(spec, bug(error))

    def _give_up_order(self, name: str) -> None:
        """One from before it came from a hub."""
        if order := self._store.orders.live(name):
            self._store.orders.end(order, "abandoned", "it comes from a hub", self._clock())
            clean_up(name, self._store, self._publisher)

    def _pull(self, spec: CertificateSpec) -> None:
        store, now = self._store, self._clock()
        lineage = store.lineages.get(spec.name)
        if lineage.current is None:  # a database that is lost is no reason to wait for a hub
            adopt(spec, lineage, self._targets, store, self._say, now)
            lineage = store.lineages.get(spec.name)
        current, hub = lineage.current, self._hubs(spec.cas[0])
        good = current is not None and not due.unlike(spec, current)
        have = current.certificate.fingerprint if current and good else ""
        asked = self._clock()
        given = hub.fetch(spec.name, have)
        failpoint("pulling: the hub has answered")
        now = self._clock()
        if given is None:
            _check_end(lineage, hub, now)
        else:
            self._take_in(spec, lineage, hub, given, now)
        again = now + due.HUB_LOOK * (0.9 + self._draw() / 5)
        store.lineages.keep_asked(spec.name, asked, again)
        if lineage.failure:
            store.lineages.keep_failure(spec.name, None, 0, None)

    def _take_in(
        self, spec: CertificateSpec, lineage: Lineage, hub: Hub, given: Given, now: datetime
    ) -> None:
        bundle = _checked(spec, hub, given, now)
        facts = bundle.certificate
        if why := self._store.revocations.forbids(facts):
            raise BadCertificate(f"what {hub.name} has of {spec.name} is not taken", why)
        if lineage.current:
            _check_age(spec, lineage.current, facts, hub, now)
        kind = spec.key_type if spec.csr else x509.type_of(bundle.key_pem)
        number = self._store.versions.adopt(bundle, kind, hub.name, (), now, spec.wishes, hub.url)
        failpoint("pulling: version is current")
        self._say(
            spec.name,
            f"version {given.version} of {hub.name} taken in as version {number}, valid until "
            f"{facts.not_after:%F}",
        )

    def _failed(self, spec: CertificateSpec, error: CertdError) -> None:
        """Keep why, and when it is tried again; a hub that comes back is asked at once."""
        now, lineage = self._clock(), self._store.lineages.get(spec.name)
        failures = lineage.failures + 1
        if lineage.current and not isinstance(error, HubAway):
            failures = max(failures, due.PATIENCE)  # waiting mends nothing
        left = lineage.current.certificate.not_after - now if lineage.current else None
        again = now + due.backoff(failures, left, self._draw())
        failure = Failure(error.what, error.why, error.next, now)
        log.error("%s: %s (next attempt %s)", spec.name, failure, f"{again:%F %TZ}")
        self._store.lineages.keep_failure(spec.name, failure, failures, again)
        failpoint("pulling: failure is kept")


def _checked(spec: CertificateSpec, hub: Hub, given: Given, now: datetime) -> Bundle:
    """What the hub gave, as far as it is what is wanted: pair, names, use, chain and dates.

    Raises:
        BadCertificate: it is not; says in which way.
    """
    keyless = not given.key_pem.reveal()
    if keyless and not spec.csr:
        raise HubError(
            f"{hub.name} has no key of {spec.name}",
            "its signing request was the operator's there (csr)",
            f"write csr = in [certificate.{spec.name}] here too, the same request",
        )
    try:
        pin = spec.csr.spki_sha256 if spec.csr else x509.pin(given.key_pem)
    except StoreError as error:  # a key of ours that cannot be read would be the machine's fault
        what = f"what {hub.name} has of {spec.name} is not taken"
        raise BadCertificate(what, "its key cannot be read", "see that certd's log") from error
    try:
        found = x509.check_pin(given.fullchain_pem, pin, spec.identifiers, now, usages=spec.usages)
    except BadCertificate as error:
        if error.next != ASK_AGAIN:
            raise
        todo = (  # whoever issued it is not asked from here
            "what is in place stays there; let names and usage be here what they are for "
            f"{spec.name} at {hub.name}, or see `certd status` there"
        )
        raise BadCertificate(error.what, error.why, todo) from error
    return Bundle(spec.name, 0, found[0], found[1], _key(spec, given), found[2])


def _key(spec: CertificateSpec, given: Given) -> Secret:
    return Secret("") if spec.csr else given.key_pem


def _check_age(
    spec: CertificateSpec, current: Version, facts: Certificate, hub: Hub, now: datetime
) -> None:
    """What is current is not exchanged for something older, as long as it is good."""
    have = current.certificate
    if (
        facts.not_before < have.not_before
        and have.not_after > now
        and not due.unlike(spec, current)
    ):
        raise HubError(
            f"what {hub.name} has of {spec.name} is older than what is here",
            f"it is from {facts.not_before:%F %H:%M} UTC, version {current.number} here from "
            f"{have.not_before:%F %H:%M}",
            f"if its database was restored, `certd renew --force {spec.name}` there",
        )


def _check_end(lineage: Lineage, hub: Hub, now: datetime) -> None:
    """The hub has nothing else: that is a failure once it should have."""
    if lineage.current and due.last_resort(lineage.current.certificate) <= now:
        facts = lineage.current.certificate
        raise HubError(
            f"{hub.name} has nothing newer than version {lineage.current.number}",
            f"that ends at {facts.not_after:%F %H:%M} UTC",
            "see `certd status` there",
        )
