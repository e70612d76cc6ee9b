"""What of a CA is mute, and who may ask it when."""

from __future__ import annotations

import pytest

from certd.silence import LEFT_ALONE, Silences

NEW_ORDER = "https://ca.example/new-order"
RENEWAL = "https://ca.example/renewal-info"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def silences(clock: Clock) -> Silences:
    return Silences(clock)


# Each is a letter and a URL: a request begins, is answered, or is not, a second apart.
@pytest.mark.parametrize(
    ("place", "happened", "mute"),
    [
        pytest.param(NEW_ORDER, [("b", NEW_ORDER), ("s", NEW_ORDER)], True, id="nobody answered"),
        pytest.param(
            NEW_ORDER,
            [("a", NEW_ORDER), ("b", NEW_ORDER), ("s", NEW_ORDER)],
            True,
            id="the answer was before",
        ),
        pytest.param(
            NEW_ORDER,
            [("b", NEW_ORDER), ("a", NEW_ORDER), ("s", NEW_ORDER)],
            False,
            id="silent to one, not to another",
        ),
        pytest.param(
            NEW_ORDER,
            [("b", NEW_ORDER), ("s", NEW_ORDER), ("a", NEW_ORDER)],
            False,
            id="it speaks again",
        ),
        pytest.param("", [("b", "/1"), ("s", "/1"), ("b", "/1"), ("s", "/1")], False, id="one URL"),
        pytest.param("", [("b", "/1"), ("s", "/1"), ("b", "/2"), ("s", "/2")], True, id="two URLs"),
        pytest.param(
            "",
            [("b", "/1"), ("s", "/1"), ("a", "/3"), ("b", "/2"), ("s", "/2")],
            False,
            id="two URLs, and one that answers in between",
        ),
        pytest.param(
            RENEWAL,
            [("b", f"{RENEWAL}/1"), ("s", f"{RENEWAL}/1"), ("s", f"{RENEWAL}/2")],
            True,
            id="two below a resource",
        ),
    ],
)
def test_who_is_mute(
    place: str, happened: list[tuple[str, str]], mute: bool, silences: Silences, clock: Clock
) -> None:
    begun = 0.0
    for what, url in happened:
        clock.now += 1
        if what == "b":
            begun, left = silences.begin(place)
            assert not left
        elif what == "a":
            silences.answered(place)
        else:
            silences.silent(place, url, begun)
    assert silences.left(place) == (LEFT_ALONE if mute else 0.0)
    assert not silences.left("another place")


def test_one_at_a_time_asks_again_what_was_mute(silences: Silences, clock: Clock) -> None:
    begun, _ = silences.begin(NEW_ORDER)
    silences.silent(NEW_ORDER, NEW_ORDER, begun)
    clock.now += LEFT_ALONE - 1
    assert silences.begin(NEW_ORDER) == (clock.now, 1.0)
    clock.now += 1
    assert silences.begin(NEW_ORDER) == (clock.now, 0.0), "the one"
    assert silences.begin(NEW_ORDER) == (clock.now, LEFT_ALONE), "the next"
    silences.answered(NEW_ORDER)
    assert silences.begin(NEW_ORDER) == (clock.now, 0.0)
    assert silences.begin(NEW_ORDER) == (clock.now, 0.0)
