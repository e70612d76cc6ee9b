"""What was seen served stays: a hook, a policy or a silent moment is no reason to go back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from certd import looking, verify
from certd.config import Endpoint, Hooks, TargetSettings
from certd.config.hsts import parse
from certd.errors import TargetBusy, TargetError, Unseen
from certd.known import Failure, TargetState
from certd.looking import Sight
from certd.model import Bundle, CertificateSpec
from certd.store import Store
from tests.rollouts import complete, step, store_with_www

FAILS, WORKS = Hooks(after=("false",)), Hooks(after=("true",))


@dataclass
class Place:
    """A target that notes down what it is given, and says what a test wants."""

    versions: list[int] = field(default_factory=list)
    refusal: TargetError | None = None
    trouble: TargetError | None = None
    shows: str | None = None  # the fingerprint

    def deploy(self, bundle: Bundle) -> None:
        if self.refusal and bundle.version == 2:
            raise self.refusal
        self.versions.append(bundle.version)

    def serving(self, name: str) -> str | None:
        if self.trouble:
            raise self.trouble
        return self.shows


@pytest.fixture
def store() -> Iterator[Store]:
    with store_with_www() as store:
        yield store


@pytest.fixture
def place() -> Place:
    return Place()


def settings(place: Place, hooks: Hooks = WORKS) -> TargetSettings:
    return TargetSettings("web", "place", place, verify_timeout=0.0, hooks=hooks)


def again(store: Store, target: TargetSettings) -> TargetState:
    """As if its time had come."""
    store.lineages.retry_now("www", datetime.now(UTC), force=False)
    return step(store, target)["web"]


def test_what_only_lacks_its_hook_is_known_to_be_served(store: Store, place: Place) -> None:
    step(store, settings(place))
    complete(store)
    state = step(store, settings(place, FAILS))["web"]
    assert (state.phase, state.serving) == ("applied", 2)
    assert state.until == store.lineages.bundle("www", 2).certificate.not_after


def test_a_silent_moment_before_the_hook_is_run_again_takes_nothing_back(
    store: Store, place: Place
) -> None:
    step(store, settings(place))
    complete(store)
    step(store, settings(place, FAILS))
    place.trouble = Unseen("web cannot be reached")
    state = again(store, settings(place))
    assert state.phase == "applied"
    assert state.failure is not None
    assert state.failure.what == "web cannot be reached"
    assert place.versions == [1, 2]
    place.trouble = None
    assert again(store, settings(place)).phase == "verified"
    assert place.versions == [1, 2]


@pytest.mark.parametrize("policy", ["tls", "hsts"])
@pytest.mark.parametrize("kind", [Unseen, TargetError])
def test_a_policy_that_cannot_be_judged_takes_nothing_back(
    store: Store,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    kind: type[TargetError],
) -> None:
    """sslyze was removed, say, or nobody speaks HTTP there: the certificate is served all the
    same, and would not be judged any better if it were the one before.
    """

    def served(bundle: Bundle, endpoint: Endpoint, address: str, deadline: float) -> Sight:
        sight = verify.Served(bundle.certificate.fingerprint, bundle.certificate, "", address)
        return Sight(endpoint, address, sight.fingerprint, sight)

    def unjudged(*_: object) -> None:
        raise kind("it could not be judged")

    step(store, settings(place))
    complete(store)
    endpoint = Endpoint("127.0.0.1", 443)
    if policy == "tls":
        monkeypatch.setattr(looking, "_probe", served)
        monkeypatch.setattr(verify, "violations", unjudged)
        endpoint = replace(endpoint, tls="modern")
    else:
        certificate = store.lineages.bundle("www", 2).certificate
        seen = verify.Served(certificate.fingerprint, certificate, "", "127.0.0.1")
        monkeypatch.setattr(verify, "probe", lambda way: seen)
        monkeypatch.setattr(looking, "_chain", lambda *_: ("", ""))
        monkeypatch.setattr(verify, "header", unjudged)
        endpoint = replace(endpoint, hsts=parse("max-age=100"))
    state = step(store, replace(settings(place), verify=(endpoint,)))["web"]
    assert place.versions == [1, 2], "version 1 was put back"
    assert (state.phase, state.serving) == ("applied", 2)
    assert state.failure is not None
    assert state.failure.what == "it could not be judged"


def test_what_a_service_takes_long_with_is_looked_at_until_it_is_there(
    store: Store, place: Place
) -> None:
    """A content delivery network takes minutes to change: neither deployed again nor put back."""
    target = replace(settings(place), verify_timeout=30.0)
    place.trouble = TargetBusy("it is on its way", retry_after=10)
    state = step(store, target)["web"]
    assert (state.phase, state.failure) == ("applied", None)
    assert state.retry_at is not None
    assert timedelta(seconds=8) < state.retry_at - datetime.now(UTC) < timedelta(seconds=11)

    late = replace(target, verify_timeout=0.0)
    for _ in range(5):
        state = again(store, late)
        assert state.phase == "applied"
        assert state.failure is not None
        assert state.failure.what == "it is on its way"
        assert state.retry_at is not None
        assert state.retry_at - datetime.now(UTC) < timedelta(minutes=2)
    place.trouble = None
    state = again(store, late)
    assert (state.phase, state.failure, place.versions) == ("verified", None, [1])


@pytest.mark.parametrize(
    "verify",
    [pytest.param((), id="no endpoint"), pytest.param((Endpoint("127.0.0.1", 1),), id="closed")],
)
def test_the_time_of_what_was_on_its_way_begins_once(
    store: Store, place: Place, verify: tuple[Endpoint, ...]
) -> None:
    step(store, settings(place))
    complete(store)
    place.trouble = TargetBusy("it is on its way")
    slow = replace(settings(place), verify=verify)
    assert step(store, slow)["web"].failure is not None
    place.trouble, place.shows = None, "another"
    patient = replace(slow, verify_timeout=60.0)
    first = again(store, patient)
    assert (first.phase, first.failure) == ("applied", None)
    assert again(store, patient).since == first.since
    while again(store, slow).phase == "applied":
        pass
    assert place.versions == [1, 2, 1]


def test_the_time_of_what_was_on_its_way_begins_when_it_is_there(
    store: Store, place: Place
) -> None:
    step(store, settings(place))
    complete(store)
    place.trouble = TargetBusy("it is on its way")
    state = step(store, settings(place))["web"]
    assert (state.phase, place.versions) == ("applied", [1, 2])
    assert state.since is not None  # the deployment, which was long ago by now
    state = replace(state, since=state.since - timedelta(hours=1))
    store.lineages.keep_target("www", state)
    patient = replace(settings(place), verify_timeout=60.0)
    place.shows = "another"
    for trouble in (None, Unseen("nobody answers")):
        place.trouble = trouble
        state = again(store, patient)
        assert (state.phase, state.failure) == ("applied", None)
    assert again(store, settings(place)).phase == "rolled-back"
    assert place.versions == [1, 2, 1], "put back, for it was never seen served"


def test_without_endpoints_too_a_look_is_followed_by_a_look(store: Store, place: Place) -> None:
    """And not by a deployment, with a time that begins anew each time: for ever."""
    place.shows = "another"
    target = replace(settings(place), verify_timeout=0.1)
    while (state := step(store, target)["web"]).phase == "applied":
        pass
    assert (state.phase, place.versions) == ("failed", [1])


def test_a_new_version_begins_its_tries_anew(store: Store, place: Place) -> None:
    """What the version before had to wait for is no reason that this one waits for a day."""
    state = step(store, settings(place))["web"]
    store.lineages.keep_target("www", replace(state, failures=7))
    complete(store)
    place.refusal = TargetError("no")
    state = step(store, settings(place))["web"]
    assert state.failures == 1
    assert state.retry_at is not None
    assert state.retry_at - datetime.now(UTC) < timedelta(minutes=2)


def test_who_must_go_back_does_not_wait_for_who_is_slow(store: Store, place: Place) -> None:
    """A hook of another target may take an hour."""
    is_back, waited = threading.Event(), []

    class Slow(Place):
        def deploy(self, bundle: Bundle) -> None:
            if bundle.version == 2:
                waited.append(is_back.wait(10))

    class Back(Place):
        def deploy(self, bundle: Bundle) -> None:
            if bundle.version == 1 and 2 in self.versions:
                is_back.set()
            super().deploy(bundle)

    slow, bad = settings(Slow()), Back()
    targets = replace(slow, name="slow"), replace(settings(bad), verify_timeout=0.3)
    step(store, *targets)
    complete(store)
    bad.trouble = Unseen("web cannot be reached")
    states = step(store, *targets)
    assert waited == [True]
    assert states["web"].phase == "rolled-back"
    assert states["slow"].phase == "verified"


def test_what_only_lacks_its_hook_is_deployed_again_where_the_target_has_changed(
    store: Store, place: Place
) -> None:
    """A daemon that has not read yet what `certd renew` has must not hide the change."""
    spec = CertificateSpec("www", (), ("test",), targets=("web",))
    store.lineages.take_over({"www": spec}, "newer", {"target web": "new"})
    state = TargetState("web", "applied", 1, failure=Failure("hook", "", "", datetime.now(UTC)))
    store.lineages.keep_target("www", state, "old")
    assert store.lineages.get("www").targets["web"].phase == "pending"
    store.lineages.keep_target("www", replace(state, phase="rolled-back"), "old")
    assert store.lineages.get("www").targets["web"].phase == "rolled-back"
