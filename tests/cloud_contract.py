"""What each target at a cloud service must do besides the contract: when the way to it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

import pytest

from certd.api import TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import TargetContract
from tests.fake_api import FakeAPI
from tests.http_contract import PASSING
from tests.http_server import Request, Response


class Killed(BaseException):
    """In place of the end of the process."""


class CloudTargetContract(TargetContract):
    """A subclass has the fixtures ``fake`` and ``target``, and says which module has the target."""

    module: ClassVar[ModuleType]
    refused: ClassVar[str]  # what a credential lacks that may write nothing
    fake: FakeAPI

    @pytest.fixture(autouse=True)
    def _fake(self, fake: FakeAPI) -> None:
        self.fake = fake

    def writes(self, target: Any) -> int:
        return self.sent

    @property
    def sent(self) -> int:
        """What is left over is removed whenever that is possible."""
        return sum(not self.tidies(request) for request in self.fake.writes)

    def tidies(self, request: Request) -> bool:
        return request.method == "DELETE"

    @contextlib.contextmanager
    def out_of_order(self, target: Any) -> Iterator[None]:
        def answer(request: Request) -> Response:
            if self.fake.is_write(request):
                return Response(503, b"<html>")
            return self.fake.answer(request)

        self.fake.before = answer
        yield
        self.fake.before = None

    def undisturbed(self, target: Any) -> tuple[int, int]:
        """Requests of a deployment that another one was before, and those that write."""
        target.deploy(bundle("www", 1))
        requests, writes = len(self.fake.requests), self.sent
        target.deploy(bundle("www", 2))
        return len(self.fake.requests) - requests, self.sent - writes

    @pytest.mark.parametrize(("reply", "wait"), PASSING)
    def test_what_passes_is_told_as_passing(
        self, target: Any, reply: Response | None, wait: float | None
    ) -> None:
        older, newer = bundle("www", 1), bundle("www", 2)
        target.deploy(older)
        for writing in (False, True):
            self.fake.fault(reply, writing=writing)
            with pytest.raises(TargetBusy) as busy:
                target.deploy(newer)
            assert busy.value.retry_after == wait
            self.assert_in_place(target, older)
        target.deploy(newer)
        self.assert_in_place(target, newer)

    def test_what_is_lost_after_it_was_done_is_done_once(self, target: Any) -> None:
        """Each answer in turn: the same call again finds what the one before has done."""
        requests, writes = self.undisturbed(target)
        for number in range(requests):
            wanted, before = bundle("www", 3 + number), self.sent
            self.fake.fault(None, after=True, skip=number)
            with contextlib.suppress(TargetBusy):
                target.deploy(wanted)
            self.fake.faults.clear()
            target.deploy(wanted)
            self.assert_in_place(target, wanted)
            assert self.sent - before <= writes

    def test_killed_at_any_step_the_next_run_goes_on(
        self, target: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, writes = self.undisturbed(target)
        steps = list[str]()
        monkeypatch.setattr(self.module, "failpoint", steps.append)
        target.deploy(bundle("www", 3))
        assert steps
        for number, step in enumerate(steps):
            wanted, before = bundle("www", 4 + number), self.sent

            def die(reached: str, step: str = step) -> None:
                if reached == step:
                    raise Killed

            monkeypatch.setattr(self.module, "failpoint", die)
            with pytest.raises(Killed):
                target.deploy(wanted)
            monkeypatch.setattr(self.module, "failpoint", lambda _: None)
            assert self.in_place(target, "www") is not None
            target.deploy(wanted)
            self.assert_in_place(target, wanted)
            assert self.sent - before <= writes

    def test_a_credential_that_may_not_write_is_told_what_it_lacks(self, target: Any) -> None:
        self.forbid()
        with pytest.raises(TargetError) as denied:
            target.deploy(bundle())
        assert not isinstance(denied.value, TargetBusy)
        assert self.refused in denied.value.next
        assert self.in_place(target, "www") is None

    def forbid(self) -> None:
        """The credential may read, and no more."""
        raise NotImplementedError

    @pytest.mark.parametrize("body", ["", "<html>sign in</html>", "[]", "{", "{}", "7", "null"])
    def test_an_answer_that_is_not_its_own_is_no_mistake_of_ours(
        self, target: Any, body: str
    ) -> None:
        """A proxy's page, say: it says 200, and nothing was done."""
        page = Response(200, body.encode(), {"Content-Type": "text/html"})
        for writing in (False, True):
            for _ in range(9):
                self.fake.fault(page, writing=writing)
            with contextlib.suppress(TargetError):
                target.deploy(bundle())
            with contextlib.suppress(TargetError):
                target.serving("www")
            self.fake.faults.clear()
            assert self.in_place(target, "www") is None

    def test_no_key_is_in_an_error_that_repeats_it(self, target: Any) -> None:
        wanted = bundle()
        lines = wanted.key_pem.reveal().splitlines()[1:-1]

        def echo(request: Request) -> Response:
            if not self.fake.is_write(request):
                return self.fake.answer(request)
            told = " ".join((*lines, request.body.decode()))
            return Response(400, {"error": {"code": "x", "message": told}})

        self.fake.before = echo
        with pytest.raises(TargetError) as failed:
            target.deploy(wanted)
        assert not [line for line in lines if line in f"{failed.value!r} {failed.value}"]
