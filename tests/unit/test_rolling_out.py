"""The rollout of a version to a target whose plugin may do anything."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.config import Endpoint, TargetSettings
from certd.errors import StoreError, TargetBusy, TargetError
from certd.known import TargetState
from certd.model import Bundle, CertificateSpec, TargetRule
from certd.rollout import Rollout
from certd.store import Store
from certd.testing.tls import mint
from tests.rollouts import Deploy, Plugin, complete, store_with_www


@pytest.fixture
def store() -> Iterator[Store]:
    with store_with_www() as store:
        yield store


def act(store: Store, deploys: Deploy) -> TargetState:
    rollout = rollout_to(store, Plugin(deploys))
    return rollout.act(store.lineages.get("www"), "web")


def rollout_to(store: Store, plugin: Plugin, *verify: Endpoint) -> Rollout:
    settings = TargetSettings("web", "plugin", plugin, verify, verify_timeout=0.0)
    return Rollout(
        {"web": settings}, store, lambda: datetime.now(UTC), lambda: 0.5, lambda name, text: None
    )


def failing(error: Exception) -> Deploy:
    """Refuses version 2, and raises this when version 1 is put back."""

    def deploy(bundle: Bundle) -> None:
        if bundle.version == 2:
            raise TargetError("version 2 is refused")
        raise error

    return deploy


def test_whatever_a_plugin_raises_while_it_goes_back_is_a_failure_like_any(store: Store) -> None:
    act(store, lambda bundle: None)
    complete(store)
    state = act(store, failing(ZeroDivisionError("s3cret")))
    assert (state.phase, state.version, state.serving) == ("failed", 2, 1)
    assert state.failure is not None
    assert state.failure.what == "version 2 is refused"
    assert "putting version 1 back failed too" in state.failure.why
    assert "ZeroDivisionError" in state.failure.why
    assert "s3cret" not in str(state.failure)
    assert state.retry_at is not None
    assert state.retry_at > datetime.now(UTC)
    assert store.lineages.get("www").targets["web"] == state


def test_a_way_back_that_fails_in_the_same_way_is_told_once(store: Store) -> None:
    act(store, lambda bundle: None)
    complete(store)
    missing = TargetError("there is no user www", "", "create it")

    def deploy(bundle: Bundle) -> None:
        raise missing

    state = act(store, deploy)
    said = "there is no user www: putting version 1 back failed too; create it"
    assert str(state.failure) == said


def test_a_failure_of_the_store_while_it_goes_back_is_no_failure_of_the_target(
    store: Store,
) -> None:
    act(store, lambda bundle: None)
    complete(store)
    with pytest.raises(StoreError, match="the disk is full"):
        act(store, failing(StoreError("the disk is full")))


def test_a_target_that_was_removed_is_not_known(store: Store) -> None:
    rollout = rollout_to(store, Plugin(lambda bundle: None))
    assert rollout.knows("web")
    assert not rollout.knows("mail")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    """``serve(names)``: where a certificate for these is presented once, whatever is asked for."""
    with contextlib.ExitStack() as running:

        def serve(*names: str) -> Endpoint:
            minted = mint(tmp_path, names)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(minted.fullchain, minted.key)
            listening = socket.create_server(("127.0.0.1", 0))
            listening.settimeout(10)

            def answer() -> None:
                with listening:  # who asks again is refused at once
                    connection, _ = listening.accept()
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(connection, server_side=True) as channel,
                ):
                    channel.recv(1)

            endpoint = Endpoint("127.0.0.1", listening.getsockname()[1])
            thread = threading.Thread(target=answer)
            thread.start()
            running.callback(thread.join)
            return endpoint

        yield serve


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["www.example.com"], ""),
        (["intranet.example", "127.0.0.1"], ", for intranet.example, 127.0.0.1"),
        (
            [f"{letter}.example" for letter in "abcdefg"],
            ", for a.example, b.example, c.example, d.example, e.example and 2 more",
        ),
        (["evil\x1b[31m.example"], ", for evil [31m.example"),
    ],
)
def test_what_is_served_instead_is_told_with_the_name_that_was_asked_for(
    store: Store, serve: Callable[..., Endpoint], names: list[str], said: str
) -> None:
    endpoint = serve(*names)
    rollout = rollout_to(store, Plugin(lambda bundle: None), endpoint)
    state = rollout.act(store.lineages.get("www"), "web")
    assert state.failure is not None
    assert state.failure.what == f"{endpoint} does not serve version 1"
    assert re.fullmatch(
        r"it still serves serial [0-9a-f]+, valid until [0-9-]{10}"
        rf"{re.escape(said)}, when asked for www\.example\.com",
        state.failure.why,
    )


def test_a_version_that_was_revoked_is_not_put_back(store: Store) -> None:
    first = store.lineages.get("www").current
    assert act(store, lambda bundle: None).phase == "verified"
    assert first is not None
    now = datetime.now(UTC)
    (asked,) = store.revocations.intend("www", first, "superseded", "account", now)
    store.revocations.done(asked, now)
    complete(store)
    deployed: list[int] = []

    def refuses(bundle: Bundle) -> None:
        deployed.append(bundle.version)
        raise TargetError(f"version {bundle.version} is refused")

    state = act(store, refuses)
    assert deployed == [2]
    assert state.phase == "failed"
    said = "version 1 is not put back: it was revoked on your word (superseded)"
    assert str(state.failure) == f"version 2 is refused: {said}"


@dataclass(frozen=True)
class Unreadable(Plugin):
    """It takes what it is given, and does not tell what it has."""

    def serving(self, name: str) -> str | None:
        raise TargetError("the store refuses to say what it has", "403", "grant getVersion")


def test_what_cannot_be_read_is_no_reason_to_put_back_what_was_served_before(store: Store) -> None:
    assert act(store, lambda bundle: None).phase == "verified"
    complete(store)
    deployed: list[int] = []
    plugin = Unreadable(lambda bundle: deployed.append(bundle.version))
    state = rollout_to(store, plugin).act(store.lineages.get("www"), "web")
    assert deployed == [2]
    assert (state.phase, state.version, state.serving) == ("applied", 2, 1)
    assert "403" in str(state.failure)
    assert state.retry_at is not None
    assert state.retry_at > datetime.now(UTC)


def test_what_cannot_be_read_does_not_hide_that_another_is_served(
    store: Store, serve: Callable[..., Endpoint]
) -> None:
    """Its reload did nothing: the version before belongs back there."""
    assert act(store, lambda bundle: None).phase == "verified"
    complete(store)
    deployed: list[int] = []
    plugin = Unreadable(lambda bundle: deployed.append(bundle.version))
    endpoint = serve("www.example.com")
    state = rollout_to(store, plugin, endpoint).act(store.lineages.get("www"), "web")
    assert deployed == [2, 1]
    assert state.phase == "rolled-back"
    assert f"{endpoint} does not serve version 2" in str(state.failure)
    assert "403" in str(state.failure)


@pytest.mark.fault(row=49)
def test_of_a_service_that_is_busy_nothing_is_put_back(store: Store) -> None:
    """Fault row 49: it is asked again when it wants to be, and not for the version before."""
    asked: list[int] = []
    assert act(store, lambda bundle: None).phase == "verified"
    complete(store)

    def throttled(bundle: Bundle) -> None:
        asked.append(bundle.version)
        raise TargetBusy("the load balancer is not changed", "Throttling", "", retry_after=300)

    before = datetime.now(UTC)
    state = act(store, throttled)
    assert asked == [2]
    assert state.phase == "failed"
    assert state.serving == 1
    assert state.retry_at is not None
    assert state.retry_at - before >= timedelta(seconds=300)


@pytest.mark.parametrize(("days", "overruled"), [(30, False), (3, True)])
def test_a_window_that_is_overruled_is_said(
    days: int, overruled: bool, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """So long before what is served ends. Else who has promised that nothing changes before the
    weekend would learn it from others.
    """
    act(store, lambda bundle: None)
    complete(store)
    lineage = store.lineages.get("www")
    until = lineage.targets["web"].until
    assert until is not None
    now = until - timedelta(days=days)
    rule = TargetRule("web", window=(f"{now + timedelta(days=2):%a} 02:00-03:00",))
    spec = CertificateSpec("www", (), ("test",), targets=("web",), rules=(rule,))
    target = TargetSettings("web", "plugin", Plugin(lambda bundle: None))
    Rollout({"web": target}, store, lambda: now, lambda: 0.5, lambda *_: None).step(spec, lineage)
    assert (store.lineages.get("www").targets["web"].serving == 2) == overruled
    told = f"outside its window, for what it serves ends {until:%F}, before that opens"
    assert (told in caplog.text) == overruled
