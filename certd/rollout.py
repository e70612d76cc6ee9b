"""Bring targets to serve the current version: deploy, verify, roll back.

Each target of each certificate has its own state, which is kept after every transition:
pending -> applied -> verified, or failed / rolled-back with reason and next attempt. A
deployment is repeated without issuing again, and goes on after a crash where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from certd import due, x509
from certd.config import TargetSettings
from certd.errors import CertdError, StoreError, TargetBusy, TargetError, bug
from certd.failpoint import failpoint
from certd.known import Failure, Lineage, TargetState
from certd.looking import look
from certd.model import Bundle, CertificateSpec
from certd.ordering import Say
from certd.store import Store

log = logging.getLogger(__name__)

PROBE_PAUSE_MIN = timedelta(seconds=0.1)
PROBE_PAUSE_MAX = timedelta(seconds=2)


class Rollout:
    def __init__(
        self,
        targets: Mapping[str, TargetSettings],
        store: Store,
        clock: Callable[[], datetime],
        draw: Callable[[], float],
        say: Say,
    ) -> None:
        self._targets = targets
        self._store = store
        self._clock = clock
        self._draw = draw
        self._say = say

    def step(self, spec: CertificateSpec, lineage: Lineage) -> tuple[Lineage, bool]:
        """Take each target that is due one step on; False where one is not ours to touch."""
        now, ours = self._clock(), True
        states: dict[str, TargetState] = dict(lineage.targets)
        for item in due.plan(spec, lineage, now).targets:
            if item.decision.due(now) and self.knows(item.target):
                states[item.target] = self.act(lineage, item.target)
            elif item.decision.due(now):
                ours = False
        return replace(lineage, targets=states), ours

    def knows(self, target: str) -> bool:
        """Whether it is configured, and here as the store has it.

        Work under way may want one that was just removed, and a daemon may not yet have
        read what `certd renew` has.
        """
        settings = self._targets.get(target)
        if settings is None:
            return False
        return self._store.lineages.target_digest(target) in (None, settings.digest)

    def act(self, lineage: Lineage, name: str) -> TargetState:
        """Take one target one step on; returns its state, which is in the store by then."""
        if lineage.current is None:
            raise StoreError(f"{lineage.name} has no version to deploy")
        number = lineage.current.number
        state = lineage.targets.get(name, TargetState(name))
        settings = self._targets[name]
        bundle = self._store.lineages.bundle(lineage.name, number)
        try:
            if state.version != number or state.phase != "applied":
                state = self._deploy(bundle, settings, state)
            return self._verify(bundle, settings, state)
        except StoreError:
            raise
        except CertdError as error:
            return self._roll_back(bundle, settings, state, error)
        except Exception as error:  # the boundary of a job: a plugin may raise anything
            log.exception("%s: target %s", lineage.name, name)
            return self._roll_back(bundle, settings, state, bug(error))

    def _deploy(self, bundle: Bundle, settings: TargetSettings, state: TargetState) -> TargetState:
        if state.version != bundle.version:
            state = replace(state, version=bundle.version, failures=0, failure=None)
        # Checked here, before any target is touched: some servers die of a bad pair.
        if not bundle.keyless and not x509.pair_matches(bundle.leaf_pem, bundle.key_pem):
            raise TargetError(
                f"version {bundle.version} is not a pair",
                "the private key in the store does not belong to the certificate",
                f"`certd renew {bundle.name} --force` gets another",
            )
        state = replace(state, phase="pending", retry_at=None)
        self._keep(bundle.name, state)
        failpoint("rollout: about to deploy")
        self._say(bundle.name, f"deploying version {bundle.version} to {settings.name}")
        settings.plugin.deploy(bundle)
        failpoint("rollout: deployed")
        state = replace(state, phase="applied", since=self._clock())
        if settings.verify:  # else the next state follows at once
            self._keep(bundle.name, state)
            failpoint("rollout: applied is kept")
        return state

    def _verify(self, bundle: Bundle, settings: TargetSettings, state: TargetState) -> TargetState:
        """One look at everything that must serve the bundle.

        Raises:
            TargetError: it does not, and its time is over.
        """
        try:
            look(bundle, settings)
        except TargetError:
            now = self._clock()
            patience = timedelta(seconds=settings.verify_timeout)
            if state.since is None or now - state.since >= patience:
                raise
            # Servers take milliseconds or seconds to reload: look as often as it has lasted.
            pause = min(max(now - state.since, PROBE_PAUSE_MIN), PROBE_PAUSE_MAX)
            return replace(state, retry_at=now + pause)
        state = replace(
            state,
            phase="verified",
            serving=bundle.version,
            failures=0,
            failure=None,
            retry_at=None,
            since=self._clock(),
        )
        self._keep(bundle.name, state)
        failpoint("rollout: verified is kept")
        how = "served by" if settings.verify else "in place at"
        self._say(bundle.name, f"version {bundle.version} {how} {settings.name}")
        return state

    def _roll_back(
        self, bundle: Bundle, settings: TargetSettings, state: TargetState, error: CertdError
    ) -> TargetState:
        """Put back what was served before, and remember why and when to try again."""
        now = self._clock()
        what, why = error.what, error.why
        failure = Failure(what, why, error.next, now)
        state = replace(
            state, version=bundle.version, phase="failed", failure=failure, retry_at=now
        )
        # Killed before all is put back, it is tried anew: half of a way back is not the
        # work of somebody else.
        self._keep(bundle.name, state)
        failpoint("rollout: failure is kept")
        passing = isinstance(error, TargetBusy)
        if state.serving is not None and state.serving != bundle.version and not passing:
            before = self._store.lineages.bundle(bundle.name, state.serving)
            if before.certificate.not_after > now:
                second = _put_back(before, settings)
                if second is None:
                    state = replace(state, phase="rolled-back")
                    what += f" (version {state.serving} is in place again)"
                else:
                    why = "; ".join(filter(None, (why, _also(before, error, second))))
        failpoint("rollout: rolled back")
        now = self._clock()  # the way back may have taken its time
        failures = state.failures + 1
        left = bundle.certificate.not_after - now
        wait = due.backoff(failures, left, self._draw())
        if isinstance(error, TargetBusy) and error.retry_after is not None:
            wait = min(max(wait, timedelta(seconds=error.retry_after)), due.DAY)
        state = replace(
            state,
            failures=failures,
            failure=Failure(what, why, error.next, now),
            retry_at=now + wait,
            since=now,
        )
        self._keep(bundle.name, state)
        failpoint("rollout: next attempt is kept")
        log.error("%s: target %s: %s", bundle.name, settings.name, state.failure)
        return state

    def _keep(self, name: str, state: TargetState) -> None:
        self._store.lineages.keep_target(name, state, self._targets[state.target].digest)


def _put_back(before: Bundle, settings: TargetSettings) -> CertdError | None:
    """Deploy what was served before; what went wrong with that, if anything did."""
    try:
        settings.plugin.deploy(before)
    except StoreError:
        raise
    except CertdError as error:
        return error
    except Exception as error:  # as in act: a plugin may raise anything
        log.exception("%s: target %s", before.name, settings.name)
        return bug(error)
    return None


def _also(before: Bundle, first: CertdError, second: CertdError) -> str:
    """That the way back failed too, and why, where that is not said already."""
    said = f"putting version {before.version} back failed too"
    if (second.what, second.why) == (first.what, first.why):
        return said
    return ": ".join(filter(None, (said, second.what, second.why)))
