"""A Secret shows itself nowhere."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from certd.known import Account, Order
from certd.secrets import Secret

TEXT = "canary-7f3a"


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(lambda secret: f"{secret}", id="f-string"),
        pytest.param(lambda secret: f"{secret!r:>40}", id="f-string of the repr"),
        pytest.param(lambda secret: f"{secret:>40}", id="f-string with a width"),
        pytest.param(lambda secret: "%s and %r" % (secret, secret), id="percent"),  # noqa: UP031
        pytest.param(lambda secret: str([secret, {"key": secret}]), id="in containers"),
        pytest.param(lambda secret: json.dumps({"key": secret}, default=str), id="JSON"),
    ],
)
def test_it_shows_stars(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(TEXT))
    assert TEXT not in shown
    assert "***" in shown


def test_reveal_is_the_way_to_it() -> None:
    assert Secret(TEXT).reveal() == TEXT


def test_equal_texts_are_equal_values() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT)}) == 1


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_not_copied_out_of_the_process(take: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        take(Secret(TEXT))


def test_values_that_hold_one_show_stars() -> None:
    account = Account("https://ca.example/dir", Secret(TEXT))
    order = Order(
        1, "www", "test", (), "ec-p256", Secret(TEXT), "csr", None, None, datetime.now(UTC)
    )
    assert TEXT not in repr(account) + repr(order) + repr(replace(order, url="https://x"))


def test_no_log_and_no_traceback_has_it(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(TEXT)
    with caplog.at_level(logging.DEBUG):
        try:
            raise RuntimeError("it failed", secret)
        except RuntimeError as error:
            logging.getLogger("certd.test").exception("with %s in %r", secret, [secret])
            shown = "".join(
                traceback.TracebackException.from_exception(error, capture_locals=True).format()
            )
    assert TEXT not in caplog.text
    assert "secret = ***" in shown
    assert TEXT not in shown
