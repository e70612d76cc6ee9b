"""What every DNS provider must do, as checks that run against a real account or a fake one.

``certd.testing.dns`` runs them in tests, ``certd dns test`` at the operator's own provider.
All of it happens at one name that nobody uses, and is taken away again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from certd.api import (
    DNSChallenge,
    DNSProvider,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    TxtRecord,
)

PREFIX = "_acme-challenge."
MANY = 3  # values at one name, where nothing is said of a limit
_MOST = 64  # values that there are


def _value(key_authorization: str) -> str:
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


# As those of challenges are made (RFC 8555 section 8.4), of key authorizations that no CA knows.
_KEYS = tuple(f"certd-test-token-number-{number}.thumbprint" for number in range(_MOST))
VALUES = tuple(map(_value, _KEYS))
FIRST, SECOND = VALUES[:2]
LONG = "v=certd; " + "x" * 400 + "; end"  # more than one character-string holds
NOWHERE = "not-of-this-account.invalid"  # in no DNS (RFC 6761)
THREADS = 4
TTL = 60  # seconds
PAUSE = 0.5  # seconds between looks


def record(zone: str, name: str, value: str, ttl: int = TTL) -> TxtRecord:
    """With the challenge that it is made of, where a challenge can be made of it."""
    key = next((key for key, one in zip(_KEYS, VALUES, strict=True) if one == value), None)
    if key is None or not name.startswith(PREFIX):
        return TxtRecord(zone, name, value, ttl)
    made_of = DNSChallenge(name.removeprefix(PREFIX), Secret(key))
    return TxtRecord(zone, name, value, ttl, made_of)


class Broken(Exception):
    """The provider does not keep the contract; the text says how."""


@dataclass
class Trial:
    """A provider at work in one zone.

    ``published`` gives the values at a name, as its name servers have them by now; they have
    ``patience`` seconds to follow.
    """

    provider: DNSProvider
    zone: str
    name: str  # in the zone, and nobody's
    published: Callable[[str], Collection[str]]
    ttl: int = TTL
    patience: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def most_values(self) -> int | None:
        most: int | None = getattr(self.provider, "most_values", None)
        return most

    @property
    def removes(self) -> bool:
        removes: bool = getattr(self.provider, "removes", True)
        return removes

    def record(self, value: str, name: str = "") -> TxtRecord:
        return record(self.zone, name or self.name, value, self.ttl)

    def expect(self, wanted: Collection[str], after: str, name: str = "") -> None:
        told = ", ".join(map(_short, wanted)) or "nothing"
        self.await_values(lambda found: self._as_wanted(found, wanted), told, after, name)

    def await_values(
        self, good: Callable[[list[str]], bool], wanted: str, after: str, name: str = ""
    ) -> None:
        """Look until these are good, or raise Broken when patience is at its end."""
        until = time.monotonic() + self.patience
        while not good(found := sorted(self.published(name or self.name))):
            if time.monotonic() >= until:
                have = ", ".join(map(_short, found)) or "nothing"
                raise Broken(f"after {after}: {have} instead of {wanted}")
            time.sleep(PAUSE)

    def _as_wanted(self, found: list[str], wanted: Collection[str]) -> bool:
        # Where nothing can be removed, what was there before may still be.
        return found == sorted(wanted) or (not self.removes and set(wanted) <= set(found))

    @contextlib.contextmanager
    def clean(self, *values: str, names: Collection[str] = ()) -> Iterator[None]:
        """Whatever happens within, these values are gone afterwards."""
        try:
            yield
        finally:
            for name in names or (self.name,):
                for value in values:
                    self.provider.remove_txt(self.record(value, name))


def one_value(trial: Trial) -> None:
    """a value is published and removed"""
    with trial.clean(FIRST):
        trial.provider.add_txt(trial.record(FIRST))
        trial.expect([FIRST], "one was added")
        trial.provider.remove_txt(trial.record(FIRST))
        trial.expect([] if trial.removes else [FIRST], "it was removed")


def two_values(trial: Trial) -> None:
    """two values at one name, and one removed leaves the other"""
    with trial.clean(FIRST, SECOND):
        trial.provider.add_txt(trial.record(FIRST))
        trial.provider.add_txt(trial.record(SECOND))
        trial.expect([FIRST, SECOND], "two were added")
        trial.provider.remove_txt(trial.record(FIRST))
        trial.expect([SECOND], "the first was removed")


def added_twice(trial: Trial) -> None:
    """adding the same again changes nothing"""
    with trial.clean(FIRST):
        trial.provider.add_txt(trial.record(FIRST))
        trial.provider.add_txt(trial.record(FIRST))
        trial.expect([FIRST], "the same was added twice")


def removed_twice(trial: Trial) -> None:
    """removing what is not there is success"""
    trial.provider.remove_txt(trial.record(FIRST))
    with trial.clean(FIRST):
        trial.provider.add_txt(trial.record(FIRST))
        trial.provider.remove_txt(trial.record(FIRST))
        trial.provider.remove_txt(trial.record(FIRST))
        trial.expect([], "it was removed twice")


def room(trial: Trial) -> None:
    """as many values at one name as it says, and none too many"""
    most = trial.most_values or MANY
    values = VALUES[: most + 1]
    with trial.clean(*values):
        for value in values[:most]:
            trial.provider.add_txt(trial.record(value))
        trial.expect(values[:most], f"{most} were added")
        if trial.most_values is None:
            return
        try:
            trial.provider.add_txt(trial.record(values[most]))
        except ProviderError as error:
            if isinstance(error, ProviderBusy | ProviderDenied):
                raise
            trial.expect(values[:most], "one too many was refused")
            return

        def replaced(found: list[str]) -> bool:
            return values[most] in found and len(found) <= most

        trial.await_values(replaced, f"{most} with the newest", "one too many was added")


def long_value(trial: Trial) -> None:
    """a long value is published whole or refused"""
    with trial.clean(LONG):
        try:
            trial.provider.add_txt(trial.record(LONG))
        except ProviderError as error:
            if isinstance(error, ProviderBusy):
                raise  # it would be tried again for ever
            trial.expect([], "a long one was refused")
            return
        trial.expect([LONG], "a long one was added")
        trial.provider.remove_txt(trial.record(LONG))
        trial.expect([], "it was removed")


def at_once(trial: Trial) -> None:
    """several names changed at the same time"""
    below = trial.name.removeprefix(PREFIX)
    wanted = [f"{PREFIX}{index}.{below}" for index in range(THREADS)]
    names = names_of(trial.provider, wanted)
    with trial.clean(FIRST, names=names), ThreadPoolExecutor(THREADS) as pool:
        once = getattr(trial.provider, "exclusive", "name") == "zone"

        def add(name: str) -> None:
            # The core lets nobody else write to such a zone at the same time.
            with trial._lock if once else contextlib.nullcontext():
                trial.provider.add_txt(trial.record(FIRST, name))

        list(pool.map(add, names))
        for name in names:
            trial.expect([FIRST], "several names were written at once", name)


def unknown_zone(trial: Trial) -> None:
    """a zone that is not of the account is refused, and says so"""
    stranger = record(NOWHERE, f"{PREFIX}{NOWHERE}", FIRST)
    try:
        trial.provider.add_txt(stranger)
    except ProviderError:
        return
    raise Broken("it took a record for a zone that is not of the account")


def names_of(provider: Any, names: Sequence[str]) -> list[str]:
    """These names, or as many of the provider's own where it has no other."""
    own = getattr(provider, "names", None)
    return sorted(own())[: len(names)] if callable(own) else list(names)


Check = Callable[[Trial], None]
CHECKS: tuple[Check, ...] = (
    one_value,
    two_values,
    room,
    added_twice,
    removed_twice,
    long_value,
    at_once,
    unknown_zone,
)


def left_out(provider: Any, check: Check) -> str:
    """Why this cannot be asked of this one, by what it says of itself; "" where it can.

    What it says is checked in turn, by ``room`` and ``one_value``.
    """
    if check is two_values and getattr(provider, "most_values", None) == 1:
        return "most_values = 1: there is room for one value at a name"
    if check is unknown_zone and getattr(provider, "by_hand", False):
        return "by_hand: whoever publishes knows which zones are theirs"
    if check is long_value and getattr(provider, "wants_challenge", False):
        return "wants_challenge: the service makes the values, and none is long"
    return ""


def checks(provider: Any) -> list[Check]:
    """Those that can be asked of this one."""
    return [check for check in CHECKS if not left_out(provider, check)]


def _short(told: str) -> str:
    """Without most of a long value; names of servers may stand before it."""
    return re.sub(r"\S{100,}", lambda run: f"{run[0][:20]}… ({len(run[0])} characters)", told)
