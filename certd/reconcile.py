"""THE use case: one certificate, from what is wanted to what is served.

``Reconciler.step`` does what is due now for one leased certificate (``certd.due`` decides
what that is) and says when to look again. The daemon, ``certd renew`` and the recovery
after a crash all call nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from certd import due, ordering, renewal, setback
from certd.adoption import adopt
from certd.authorize import Authorizations
from certd.ca.issuer import Issuer
from certd.config import Config
from certd.consulting import consult
from certd.errors import CertdError, SecretError, StoreError, bug
from certd.issue import Issuance
from certd.known import Lineage, Order
from certd.looks import Look
from certd.model import CertificateSpec
from certd.ordering import Say
from certd.preflight import refuse
from certd.pulling import Pulling
from certd.quota import Quota
from certd.rollout import Rollout
from certd.setback import Attempt
from certd.showing import Publisher, clean_up
from certd.silence import Silences
from certd.store import LeaseLost, Store
from certd.twins import Twins, in_the_way

log = logging.getLogger(__name__)

# Seconds for which an order, or a wait, keeps the certificate from the others. `certd renew`
# does not wait longer either.
KEEP_LEASE = 300.0
NOT_OURS = 61.0  # seconds until another look at what another certd knows better
QUIET = 20.0  # seconds in the life of an order in which only the order is looked at
STORE_PAUSE = 30.0  # seconds before another try when the store itself fails
SAME_NAMES = 2.0  # seconds between looks while another certificate's order is in the way


class Reconciler:
    """Shared by all threads of an engine; one thread at a time steps one certificate."""

    def __init__(
        self,
        config: Config,
        store: Store,
        client: Callable[[str], Issuer],
        publisher: Publisher,
        clock: Callable[[], datetime],
        draw: Callable[[], float],
        say: Say,
        *,
        attended: bool = False,
    ) -> None:
        """``client`` gives the CA of that name; ``draw`` a random number in [0, 1).

        ``attended``: somebody is there, who does by hand what is to be done so.
        """
        self._store = store
        self._clock = clock
        self._draw = draw
        self._say = say
        self._attended = attended
        self._under_way: dict[str, Issuance] = {}
        self._twins = Twins()
        self._quota = Quota(store)
        self._silences = Silences()  # of resolvers
        self.adopted: dict[str, int] = {}  # versions taken back in from targets
        # By the tokens that a CA is about to fetch, for as long as the order is under way here.
        self._awaited: WeakValueDictionary[str, Authorizations] = WeakValueDictionary()
        self.follow(config, client, publisher)

    def follow(self, config: Config, client: Callable[[str], Issuer], publisher: Publisher) -> None:
        """From now on, this is what is wanted, and with whom."""
        self._client = client
        self._publisher = publisher
        self._config = config
        tools = self._clock, self._draw, self._say
        self._rollout = Rollout(config.targets, self._store, *tools)
        self._pulling = Pulling(config, self._store, publisher, *tools)

    def step(self, name: str) -> Look | None:
        """Do what is due now. None: the certificate is settled, and given back to the store."""
        try:
            try:
                return self._step(name)
            finally:
                self._store.settle()
        except LeaseLost:
            log.warning("%s: another certd has taken it over", name)
            self._forget(name)
            return None
        except StoreError as error:
            log.error("%s: %s", name, error)
            return Look(STORE_PAUSE)
        except SecretError as error:  # one sealed value does not open: the others' do
            return self._stumbled(name, error)
        except Exception as error:  # the boundary of a job: a bug stops one certificate
            log.exception("%s: this is a bug in certd, please report it", name)
            return self._stumbled(name, bug(error))

    def _stumbled(self, name: str, error: CertdError) -> Look | None:
        """Remember it, and leave the certificate alone for as long as after a failure."""
        self._forget(name)
        try:
            spec = self._config.certificates.get(name)
            later = self._clock() + timedelta(seconds=NOT_OURS)
            again = self._failed(spec, error, spec.cas[0]) if spec else later
            self._store.leases.release(name, again)
        except LeaseLost:
            pass
        except Exception as second:
            log.error("%s: %s", name, second)
            return Look(STORE_PAUSE)
        return None

    def served(self, token: str) -> str | None:
        """The CA has fetched this token; the certificate to look at soon, if that was all."""
        awaiting = self._awaited.pop(token, None)
        if awaiting is None:
            return None
        awaiting.unseen.discard(token)
        return None if awaiting.unseen else awaiting.name

    def _step(self, name: str) -> Look | None:
        spec = self._config.certificates.get(name)
        if spec is None:
            # Another certd may have read a newer configuration, and this one not yet.
            self._forget(name)
            self._store.leases.release(name, self._clock() + timedelta(seconds=NOT_OURS))
            return None
        look, issuance = None, self._under_way.get(name)
        lineage = self._lineage(spec) if issuance is None else None
        if lineage is None or due.issuance(spec, lineage, self._clock()).due(self._clock()):
            look = self._advance(spec, issuance, lineage)
            issuance = self._under_way.get(name)
            # Nothing else is due so soon: spare the store.
            if issuance and look and look.seconds < QUIET and issuance.age() < QUIET:
                return look
            lineage = self._lineage(spec)
        lineage, ours = self._rollout.step(spec, lineage)
        client, store, draw = self._client, self._store, self._draw
        lineage = renewal.ask(spec, lineage, client, store, draw, self._clock())
        now = self._clock()
        if look is None and due.over(spec, lineage, now):
            self._store.lineages.keep_failure(name, None, 0, None)
            lineage = replace(lineage, failure=None, failures=0, retry_at=None)
        return self._rest(due.plan(spec, lineage, now), look, now, ours=ours)

    def _lineage(self, spec: CertificateSpec) -> Lineage:
        """As it is, with the key of the next issuance made if that is wanted."""
        lineage = self._store.lineages.get(spec.name)
        return ordering.make_next_key(spec, lineage, self._store, self._say, self._clock())

    def _rest(self, plan: due.Plan, look: Look | None, now: datetime, *, ours: bool) -> Look | None:
        """When to look again; None: the certificate is given back to the store until then.

        ``look`` is what its order waits for, if there is one under way.
        """
        name = plan.name
        others = plan.next_look() if look is None else plan.next_look_beside_order()
        seconds = max((others - now).total_seconds(), 0.0)
        # A CA or a server is waited for. The next attempt, and all that is due by the
        # calendar, is for whoever is there then: `certd renew` does not wait for it.
        busy = (
            look is not None or seconds == 0 or any(item.act == "verify" for item in plan.targets)
        )
        if not ours and name not in self._under_way:
            look, seconds, busy = None, max(seconds, NOT_OURS), False
        if look is None or seconds < look.seconds:
            look = Look(seconds, look.hurry if look else False)
        issuance = self._under_way.get(name)
        age = issuance.age() if issuance else 0.0
        keep = KEEP_LEASE + (issuance.patience() if issuance else 0.0)
        if busy and age + look.seconds <= keep:
            return look
        self._forget(name)
        self._store.leases.release(name, now + timedelta(seconds=look.seconds))
        return None

    # -- issuing ---------------------------------------------------------------------------

    def _advance(
        self, spec: CertificateSpec, issuance: Issuance | None, lineage: Lineage | None
    ) -> Look | None:
        """One step of the order; None when it is over, well or not."""
        if spec.pulled:
            self._forget(spec.name)
            self._pulling.step(spec)
            return None
        if issuance is None and lineage is not None:
            ca = ordering.whom(spec, lineage, self._store, self._clock())
            if in_the_way(self._twins, self._store, spec, lineage, ca):
                return Look(SAME_NAMES)
        else:
            ca = issuance.order.ca if issuance else spec.cas[0]
        try:
            if issuance is None and lineage is not None:
                issuance = self._resume(spec, lineage, ca)
            look = issuance.advance() if issuance else None
        except StoreError:
            raise
        except CertdError as error:
            self._failed(spec, error, ca)
            return None
        except Exception as error:  # the boundary of a job: a bug stops one certificate only
            log.exception("%s: this is a bug in certd, please report it", spec.name)
            self._failed(spec, bug(error), ca)
            return None
        if look is None:
            self._forget(spec.name)
        return look

    def _forget(self, name: str) -> Issuance | None:
        """The order is over here, or is given back to the store."""
        self._twins.leave(name)
        if issuance := self._under_way.pop(name, None):
            issuance.authorizations.cancel()
        return issuance

    def _resume(self, spec: CertificateSpec, lineage: Lineage, ca: str) -> Issuance | None:
        """Go on with the order under way at this CA, or begin one to replace what is current.

        None: there was only an order that is not wanted any more.
        """
        now = self._clock()
        order = self._store.orders.live(spec.name) if lineage.ordering else None
        client = self._client(ca)
        if order and not ordering.still_wanted(order, spec, lineage, client):
            self._store.orders.end(order, "abandoned", "not wanted any more", now)
            order = None
            lineage = self._store.lineages.get(spec.name)
            if not due.issuance(spec, lineage, now).due(now):
                clean_up(spec.name, self._store, self._publisher)
                return None
        if order and order.url:
            self._say(spec.name, f"going on with its order at {ca}")
        else:
            if self._spared(spec, lineage, order, client, now):
                return None
            # Before the limits are: an order that the CA would refuse costs none of them.
            profile = order.profile if order else ordering.profile(spec, client, self._say)
            # One that was begun may have been made all the same: it counts twice then.
            if self._quota.held(spec, lineage, client, self._config.limits(ca), now):
                return None
            order = order or ordering.begin(spec, client, self._store, lineage, profile, now)
            lineage = self._store.lineages.get(spec.name)  # CAA may permit another challenge only
        challenge, store, publisher = due.challenge(spec, lineage), self._store, self._publisher
        issuance = Issuance(
            order, spec, challenge, client, store, publisher, self._awaited, self._clock, self._say
        )
        self._under_way[spec.name] = issuance
        return issuance

    def _spared(
        self,
        spec: CertificateSpec,
        lineage: Lineage,
        order: Order | None,
        client: Issuer,
        now: datetime,
    ) -> bool:
        """Whether a target has what newOrder is about to be sent for; it is current then.

        Raises:
            CertdError: the order would be in vain.
        """
        targets, store = self._config.targets, self._store
        if order is None and not lineage.forced:
            number = adopt(spec, lineage, targets, store, self._say, now)
            if number is not None:
                self.adopted[spec.name] = number
                return True
        new, attended = order is None, self._attended
        asked = (spec, lineage, client, self._config, store, now, self._silences)
        refuse(*asked, new=new, attended=attended)
        return False

    def _failed(self, spec: CertificateSpec, error: CertdError, ca: str) -> datetime:
        """Remember what went wrong at this CA, and clean up; returns when it is tried again."""
        issuance = self._forget(spec.name)
        method = due.challenge(spec, self._store.lineages.get(spec.name))
        server, uri = self._config.name_server, self._store.accounts.uri
        caa = consult(
            spec, ca, error, server, self._client, lambda one: uri(one.directory_url), method
        )
        attempt = Attempt(spec, ca, self._config.limits(ca), issuance, caa)
        again = setback.keep(attempt, error, self._store, self._draw(), self._clock())
        clean_up(spec.name, self._store, self._publisher)
        return again
