"""Bring targets to serve the current version: deploy, verify, roll back.

Each target of each certificate has its own state, which is kept after every transition:
pending -> applied -> verified, or failed / rolled-back with reason and next attempt. A
deployment is repeated without issuing again, and goes on after a crash where it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from certd import due
from certd import hooks as hook
from certd.config import TargetSettings
from certd.deploying import OUTSIDE, TargetDecision
from certd.errors import (
    CertdError,
    StoreError,
    TargetBusy,
    TargetError,
    Unfit,
    Unread,
    Unseen,
    Untouched,
    bug,
)
from certd.failpoint import failpoint
from certd.hooks import HookFailed
from certd.known import Failure, Lineage, TargetState
from certd.looking import look
from certd.model import Bundle, CertificateSpec
from certd.ordering import Say
from certd.others import note_others
from certd.putback import put_back, refuse_bad
from certd.store import Store
from certd.together import together

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
        """Take each target that is due one step on, all at once.

        False where one is not ours to touch.
        """
        now = self._clock()
        plan = due.plan(spec, lineage, now).targets
        ready = [item for item in plan if item.decision.due(now)]
        ours = [item for item in ready if self.knows(item.target)]

        busy: set[str] = set()

        def act(item: TargetDecision) -> TargetState:
            busy.add(item.target)
            try:
                state = self.act(lineage, item.target, item.decision.reason)
            finally:
                busy.discard(item.target)
            # Another may be busy for an hour: what is not served is not to stay for so long.
            while busy and state.phase == "applied" and state.retry_at and not state.failure:
                time.sleep(max((state.retry_at - self._clock()).total_seconds(), 0.0))
                seen = replace(lineage, targets={item.target: state})
                state = self.act(seen, item.target)
            return state

        states = {state.target: state for state in together(act, ours)}
        return replace(lineage, targets={**lineage.targets, **states}), len(ours) == len(ready)

    def knows(self, target: str) -> bool:
        """Whether it is configured, and here as the store has it.

        Work under way may want one that was just removed, and a daemon may not yet have
        read what `certd renew` has.
        """
        settings = self._targets.get(target)
        if settings is None:
            return False
        return self._store.lineages.target_digest(target) in (None, settings.digest)

    def act(self, lineage: Lineage, name: str, why: str = "") -> TargetState:
        """Take one target one step on; returns its state, which is in the store by then.

        ``why`` it is due.
        """
        if lineage.current is None:
            raise StoreError(f"{lineage.name} has no version to deploy")
        number = lineage.current.number
        state = lineage.targets.get(name, TargetState(name))
        settings = self._targets[name]
        bundle = self._store.lineages.bundle(lineage.name, number)
        if state.version != number:  # what failed before was another's
            state = replace(state, version=number, phase="pending", failures=0, failure=None)
        if state.phase == "verified":
            return self._look_again(bundle, settings, state)
        try:
            if state.phase != "applied":
                if OUTSIDE in why:
                    log.warning("%s: target %s: %s", lineage.name, name, why)
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
        refuse_bad(bundle, self._clock())
        state = replace(state, phase="pending", retry_at=None)
        self._keep(bundle.name, state)
        hooks = settings.hooks
        hook.run("pre_hook", hooks.before, bundle, settings.name, hooks.timeout)
        failpoint("rollout: about to deploy")
        self._say(bundle.name, f"deploying version {bundle.version} to {settings.name}")
        settings.plugin.deploy(bundle)
        failpoint("rollout: deployed")
        state = replace(state, phase="applied", since=self._clock(), failure=None)
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
        except Unfit as error:  # neither time nor the version before would help
            return self._again(bundle, settings, _served(bundle, state), error)
        except TargetError as error:
            return self._not_yet(bundle, settings, state, error)
        hooks, state = settings.hooks, _served(bundle, state)
        try:
            hook.run("post_hook", hooks.after, bundle, settings.name, hooks.timeout, "verified")
        except HookFailed as error:
            return self._again(bundle, settings, state, error)
        failpoint("rollout: post_hook has run")
        note_others(settings, self._store, self._clock())
        now = self._clock()
        state = replace(
            state,
            phase="verified",
            failures=0,
            failure=None,
            retry_at=self._next_look(settings, now),
            since=now,
        )
        self._keep(bundle.name, state)
        failpoint("rollout: verified is kept")
        how = "served by" if settings.verify else "in place at"
        self._say(bundle.name, f"version {bundle.version} {how} {settings.name}")
        return state

    def _not_yet(
        self, bundle: Bundle, settings: TargetSettings, state: TargetState, error: TargetError
    ) -> TargetState:
        """When it is looked at again; raises the error where the time for that is over."""
        now, busy = self._clock(), isinstance(error, TargetBusy)
        untold = busy or isinstance(error, Unread)
        begins = bool(state.failure) and not untold and state.serving != bundle.version
        if begins:
            # Until now it did not tell, or was busy with what it was given: its time begins here.
            state = replace(state, since=now, failure=None)
        over = state.since is None or (now - state.since).total_seconds() >= settings.verify_timeout
        if (untold and over) or (state.failure and isinstance(error, Unseen | TargetBusy)):
            # It has been seen served, and is only not yet all that it is to be; or nobody can
            # tell. A service that takes long is no failure that the next look must wait for.
            state = replace(state, failures=0 if busy else state.failures)
            return self._again(bundle, settings, state, error)
        if over:
            raise error
        # Servers take milliseconds or seconds to reload: look as often as it has lasted.
        pause = min(max(now - (state.since or now), PROBE_PAUSE_MIN), PROBE_PAUSE_MAX)
        if isinstance(error, TargetBusy):
            pause = max(pause, due.as_asked(error.retry_after))
        state = replace(state, retry_at=now + pause)
        if begins or not settings.verify:  # without: the next look would begin with a deployment
            self._keep(bundle.name, state)
        return state

    def _look_again(
        self, bundle: Bundle, settings: TargetSettings, state: TargetState
    ) -> TargetState:
        """Whether it still serves the version; what it serves instead is put right next."""
        now = self._clock()
        try:
            look(bundle, settings)
        except StoreError:
            raise
        except (Unseen, TargetBusy, Unfit) as error:
            return self._again(bundle, settings, state, error)
        except TargetError as error:
            found = Failure(error.what, error.why, error.next, now)
            state = replace(state, phase="pending", failure=found, failures=0, retry_at=None)
            log.warning("%s: target %s: %s: deploying again", bundle.name, settings.name, found)
        except Exception as error:  # as in act: a plugin may raise anything
            log.exception("%s: target %s", bundle.name, settings.name)
            return self._again(bundle, settings, state, bug(error))
        else:
            note_others(settings, self._store, self._clock())
            at = self._next_look(settings, now)
            state = replace(state, failures=0, failure=None, retry_at=at)
        self._keep(bundle.name, state)
        failpoint("rollout: look is kept")
        return state

    def _next_look(self, settings: TargetSettings, now: datetime) -> datetime | None:
        """Spread by a tenth either way: what was deployed at once is not looked at at once."""
        every = settings.look_every
        return None if every is None else now + every * (0.9 + self._draw() / 5)

    def _again(
        self,
        bundle: Bundle,
        settings: TargetSettings,
        state: TargetState,
        error: CertdError,
        what: str = "",
        why: str = "",
    ) -> TargetState:
        """Remember what failed, perhaps in words of our own, and when it is tried again."""
        now, failures = self._clock(), state.failures + 1
        wait = due.backoff(failures, bundle.certificate.not_after - now, self._draw())
        if isinstance(error, TargetBusy) and error.retry_after is not None:
            wait = min(max(wait, due.as_asked(error.retry_after)), due.DAY)
        failure = Failure(what or error.what, why or error.why, error.next, now)
        state = replace(state, failures=failures, failure=failure, retry_at=now + wait)
        if state.phase in ("failed", "rolled-back"):  # the way back may have taken its time
            state = replace(state, since=now)
        self._keep(bundle.name, state)
        failpoint("rollout: next attempt is kept")
        log.error("%s: target %s: %s", bundle.name, settings.name, failure)
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
        touched = not isinstance(error, Untouched)
        if state.serving is not None and state.serving != bundle.version and touched:
            before = self._store.lineages.bundle(bundle.name, state.serving)
            forbidden = self._store.revocations.forbids(before.certificate)
            back, said = put_back(before, settings, forbidden, now, error)
            if back:
                state = replace(state, phase="rolled-back")
                what += f" ({said})"
            else:
                why = "; ".join(filter(None, (why, said)))
        failpoint("rollout: rolled back")
        hooks = settings.hooks
        try:
            hook.run("post_hook", hooks.after, bundle, settings.name, hooks.timeout, state.phase)
        except HookFailed as second:
            why = "; ".join(filter(None, (why, f"{second.what}: {second.why}")))
        return self._again(bundle, settings, state, error, what, why)

    def _keep(self, name: str, state: TargetState) -> None:
        self._store.lineages.keep_target(name, state, self._targets[state.target].digest)


def _served(bundle: Bundle, state: TargetState) -> TargetState:
    """With the bundle for what comes back if the next one fails."""
    return replace(state, serving=bundle.version, until=bundle.certificate.not_after)
