"""What every deploy target must do: a suite for pytest that its author subclasses.

class TestMine(TargetContract):
    @pytest.fixture
    def target(self, ...): return Mine(...)

    def in_place(self, target, name): ...       # what would be served now
    def out_of_order(self, target): ...         # a context in which deployments fail
"""

# ruff: noqa: S101 - pytest's assertions, in a module that is shipped
from __future__ import annotations

import dataclasses
import logging
import threading
import time
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple

import pytest

from certd.api import Bundle, DeployTarget, TargetError
from certd.api import Pair as APIPair
from certd.testing.chains import bundle
from certd.x509 import facts, pair_matches, read_chain


class Pair(NamedTuple):
    """What a server that looks now would take up, as PEM."""

    fullchain: str
    key: str

    @property
    def fingerprint(self) -> str:
        return facts(read_chain(self.fullchain)[0]).fingerprint


class TargetContract:
    """The tests; ``target`` is a fixture of the subclass."""

    secrets: ClassVar[tuple[str, ...]] = ()  # credentials of the target, which nothing may show
    tells: ClassVar[bool] = True  # what is in place
    one_place: ClassVar[bool] = False  # it has room for one certificate, whatever its name
    # Watched, to catch an instant of a key without its certificate; more where each is quick.
    deployments: ClassVar[int] = 6

    def in_place(self, target: Any, name: str) -> Pair | None:
        """The pair that a server would take up now, read as servers read; None: there is none.

        It is also called in the middle of a deployment.
        """
        raise NotImplementedError

    def out_of_order(self, target: Any) -> AbstractContextManager[None]:
        """While it is entered, deployments fail; afterwards they work again."""
        raise NotImplementedError

    def writes(self, target: Any) -> int | None:
        """How often something was sent to the service, as that has counted; None: it cannot."""
        return None

    def assert_in_place(self, target: DeployTarget, wanted: Bundle) -> None:
        pair = self.in_place(target, wanted.name)
        assert pair is not None
        assert pair.fullchain == wanted.fullchain_pem
        assert pair_matches(pair.fullchain, wanted.key_pem)
        assert pair.key == wanted.key_pem.reveal()
        assert target.serving(wanted.name) == (
            wanted.certificate.fingerprint if self.tells else None
        )

    def test_its_settings_pass_their_own_checks(self, target: Any) -> None:
        for setting in dataclasses.fields(target):
            value = getattr(target, setting.name)
            if "check" in setting.metadata and value is not None:
                setting.metadata["check"](value)

    def test_before_the_first_deployment_nothing_is_in_place(self, target: DeployTarget) -> None:
        assert target.serving("www") == ("" if self.tells else None)
        assert self.in_place(target, "www") is None

    def test_what_is_deployed_is_in_place(self, target: DeployTarget) -> None:
        wanted = bundle("www", 1)
        target.deploy(wanted)
        self.assert_in_place(target, wanted)

    def test_the_next_version_takes_its_place(self, target: DeployTarget) -> None:
        for number in (1, 2, 3):
            wanted = bundle("www", number)
            target.deploy(wanted)
            self.assert_in_place(target, wanted)

    def test_deploying_it_again_changes_nothing(self, target: DeployTarget) -> None:
        wanted = bundle("www", 1)
        target.deploy(wanted)
        written = self.writes(target)
        for _ in range(2):
            target.deploy(wanted)
            self.assert_in_place(target, wanted)
        assert self.writes(target) == written, "nothing is sent twice"

    def test_no_key_and_no_credential_is_logged_or_shown(
        self, target: DeployTarget, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "certd")  # of the others nothing is written anywhere
        wanted = bundle("www", 1)
        target.deploy(wanted)
        lines = wanted.key_pem.reveal().splitlines()[1:-1]
        for text in (caplog.text, repr(target)):
            assert not [secret for secret in (*self.secrets, *lines) if secret in text]

    def test_an_older_version_can_be_put_back(self, target: DeployTarget) -> None:
        older, newer = bundle("www", 1), bundle("www", 2)
        for wanted in (older, newer, older, newer):
            target.deploy(wanted)
            self.assert_in_place(target, wanted)

    def test_a_number_may_come_twice_after_a_loss_of_the_database(
        self, target: DeployTarget
    ) -> None:
        for wanted in (bundle("www", 1), bundle("www", 2), bundle("www", 1), bundle("www", 2)):
            target.deploy(wanted)
            self.assert_in_place(target, wanted)

    def test_what_is_in_place_comes_back_as_it_is(self, target: Any) -> None:
        """``recover``, where a target has it: what the core falls back on without its store."""
        if not callable(getattr(target, "recover", None)):
            pytest.skip("this target cannot give back what it holds")
        assert target.recover("www") is None
        for number in (1, 2):
            wanted = bundle("www", number)
            target.deploy(wanted)
            pair = target.recover("www")
            assert isinstance(pair, APIPair)
            assert pair.fullchain_pem == wanted.fullchain_pem
            assert pair.key_pem.reveal() == wanted.key_pem.reveal()
        assert target.recover("mail") is None

    def test_a_target_that_works_is_ready(self, target: Any) -> None:
        """``ready``, where a target has it: before the first deployment, and after."""
        if not callable(getattr(target, "ready", None)):
            pytest.skip("this target cannot be asked whether it is ready")
        target.ready("www")
        target.deploy(bundle("www", 1))
        target.ready("www")

    def test_two_lineages_leave_each_other_alone(self, target: DeployTarget) -> None:
        if self.one_place:
            pytest.skip("this target has room for one certificate")
        first, second = bundle("www", 1), bundle("mail", 1)
        target.deploy(first)
        target.deploy(second)
        self.assert_in_place(target, first)
        self.assert_in_place(target, second)

    def test_a_failure_leaves_the_old_pair_and_the_next_try_works(
        self, target: DeployTarget
    ) -> None:
        older, newer = bundle("www", 1), bundle("www", 2)
        target.deploy(older)
        with self.out_of_order(target), pytest.raises(TargetError) as failed:
            target.deploy(newer)
        assert failed.value.what
        shown = f"{failed.value} {failed.value!r}"
        lines = newer.key_pem.reveal().splitlines()[1:-1]
        assert not [secret for secret in (*self.secrets, *lines) if secret in shown]
        self.assert_in_place(target, older)
        target.deploy(newer)
        self.assert_in_place(target, newer)

    def test_at_no_instant_is_there_a_key_without_its_certificate(
        self, target: DeployTarget
    ) -> None:
        bundles = [bundle("www", number) for number in range(1, self.deployments + 1)]
        keys = {wanted.certificate.fingerprint: wanted.key_pem for wanted in bundles}
        target.deploy(bundles[0])
        done, wrong, looks = threading.Event(), list[str](), 0

        def watch() -> None:
            nonlocal looks
            while not done.is_set():
                pair = self.in_place(target, "www")
                looks += 1
                if pair is None:
                    wrong.append("nothing was in place")
                elif keys[pair.fingerprint].reveal() != pair.key:
                    wrong.append(f"look {looks} saw a key of another certificate")

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for wanted in bundles[1:]:
                before = looks
                target.deploy(wanted)
                while looks == before and watcher.is_alive():  # one look at least at each
                    time.sleep(0.001)
        finally:
            done.set()
            watcher.join()
        assert wrong == []
        assert looks >= self.deployments - 1
