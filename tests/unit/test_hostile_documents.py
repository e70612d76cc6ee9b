"""What a CA's JSON may be: after a whole conversation, a result or a CAError that may be shown."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certd.ca import ari
from certd.ca.net import Network
from certd.errors import CAError
from tests.fuzz import strangers
from tests.fuzz.conversation import DOCUMENTS, ORIGIN, answer, converse, encoded, root, telling
from tests.fuzz.strangers import KINDS, said

Path_ = tuple[str | int, ...]
HERE = "@HERE@"
ORDERS = "\x1b[2J\x1b]0;owned\x07\x9b1m\u202e\r\n"
SLOW = 2.0  # seconds for a conversation, which takes some 5 ms


def _places(document: object, above: Path_ = ()) -> Iterator[Path_]:
    """The path of each value in a document, its own included."""
    yield above
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield from _places(document[key], (*above, key))


PLACES = [(kind, place) for kind, whole in DOCUMENTS.items() for place in _places(whole)]


def _with(kind: str, place: Path_, value: object) -> Any:
    """The right document of that kind, but for the value at that place."""
    if not place:
        return value
    document = copy.deepcopy(DOCUMENTS[kind])
    around: Any = document
    for key in place[:-1]:
        around = around[key]
    around[place[-1]] = value
    return document


def test_a_conversation_in_which_all_is_right_goes_to_its_end() -> None:
    shown = converse(strangers.FOLDER, {})
    for words in ("http-01", "192.0.2.1", f"{ORIGIN}/explanation", "CN=Intermediate 1"):
        assert words in shown


WRONG: list[object] = [
    *(None, True, -1, 1e308, 10**4000, "", "x", [], {}, [[]], [None], {"a": 1}, float("nan")),
    *("\ud800", ORDERS, "x" * 20_000, f"{ORIGIN}/{ORDERS}", f"{ORIGIN}/\ud800", f"{ORIGIN}/a b"),
    *("0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "https://[::1", "//ca.example/x"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_value_at_any_place(kind: str) -> None:
    """Each wrong value is somewhere, and each place has some of them; the fuzzer has more."""
    for number, place in enumerate(_places(DOCUMENTS[kind])):
        for wrong in WRONG[number % 8 :: 8]:
            said(kind, encoded(_with(kind, place, wrong)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_is_missing(kind: str) -> None:
    for place in _places(DOCUMENTS[kind]):
        if place and isinstance(place[-1], str):
            document = _with(kind, place, None)
            around: Any = document
            for key in place[:-1]:
                around = around[key]
            del around[place[-1]]
            said(kind, encoded(document))


@pytest.mark.parametrize(("kind", "place"), PLACES, ids=str)
def test_depth_at_any_place(kind: str, place: Path_) -> None:
    """Deep enough for whoever prints it, though not for the parser; then for that one too."""
    text = json.dumps(_with(kind, place, HERE))
    for depth in (920, 100_000):
        said(kind, text.replace(f'"{HERE}"', "[" * depth + "]" * depth).encode())


# As a test suite for parsers of JSON has them.
ODD = [
    pytest.param(b"", id="nothing"),
    pytest.param(b" ", id="a space"),
    pytest.param(b"\0", id="NUL"),
    pytest.param(b"{", id="half"),
    pytest.param(b'{"a"', id="a key"),
    pytest.param(b'{"a":', id="no value"),
    pytest.param(b'{"a":1,}', id="a comma too many"),
    pytest.param(b'{"a":1}}', id="a brace too many"),
    pytest.param(b'{"a":1} x', id="words after it"),
    pytest.param(b"{'a':1}", id="single quotes"),
    pytest.param(b"{a:1}", id="no quotes"),
    pytest.param(b'{"a":01}', id="a leading zero"),
    pytest.param(b'{"a":+1}', id="plus"),
    pytest.param(b'{"a":.5}', id="no digit before the point"),
    pytest.param(b'{"a":0x10}', id="hexadecimal"),
    pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="5000 digits"),
    pytest.param(b'{"a":1e999999999}', id="an exponent"),
    pytest.param(b'{"a":NaN,"b":-Infinity}', id="no numbers"),
    pytest.param(b'{"a":"\x1b[2J"}', id="a control character"),
    pytest.param(b'{"a":"\\x41"}', id="an escape of Python's"),
    pytest.param(b'{"a":"\\u12"}', id="half an escape"),
    pytest.param(b'{"a":"\\ud800"}', id="half a pair"),
    pytest.param(b'{"a":"\xff"}', id="no UTF-8"),
    pytest.param(b'{"a":"\xe2\x82', id="cut in a character"),
    pytest.param(b'{"a":"\xed\xa0\x80"}', id="a surrogate in UTF-8"),
    pytest.param(b'{"a":"\xc0\xaf"}', id="an overlong slash"),
    pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
    pytest.param("{}".encode("utf-16"), id="UTF-16"),
    pytest.param("{}".encode("utf-32"), id="UTF-32"),
    pytest.param(b'{"a":1,"a":2}', id="a key twice"),
    pytest.param(b'{"":0,"\\u0000":1}', id="odd keys"),
    pytest.param(b'{"a":{"b":' * 100_000, id="deep, and not closed"),
    pytest.param(b'{"a":"' + b"x" * (10 << 20) + b'"}', id="a string of 10 MiB"),
    pytest.param(b'{"a":"' + b"\\u0041" * (1 << 17) + b'"}', id="nothing but escapes"),
    pytest.param(b"[" + b"1," * (1 << 18) + b"1]", id="a long list"),
    pytest.param(b"{" + b",".join(b'"%d":1' % n for n in range(50_000)) + b"}", id="many keys"),
    pytest.param(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xab\xae\x05\x00", id="gzip"),
]


@pytest.mark.parametrize("body", ODD)
def test_an_odd_document_of_each_kind(body: bytes) -> None:
    begun = time.process_time()
    for kind in KINDS:
        error = said(kind, body)
        # Whoever makes an account needs only to know where it is.
        assert error is not None or kind == "account"
    assert time.process_time() - begun < SLOW


def test_the_last_of_several_keys_counts_and_is_checked() -> None:
    twice = encoded(DOCUMENTS["new-order"])[:-1] + b',"finalize":"https://evil.example/"}'
    error = said("new-order", twice)
    assert "refused to ask 'https://evil.example/'" in str(error)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), _VALUES | st.text().map(f"{ORIGIN}/{{}}".format))
def test_no_value_at_any_place_is_anything_else(where: tuple[str, Path_], value: object) -> None:
    kind, place = where
    said(kind, encoded(_with(kind, place, value)))


# What is said of it


@pytest.mark.parametrize(
    ("kind", "place", "value", "words"),
    [
        ("new-order", ("error", "type"), 7, "order answered with something that RFC 8555"),
        ("new-order", ("status",), "dancing", "status: "),
        ("new-order", ("expires",), "tomorrow", "expires: "),
        ("new-order", ("finalize",), {"a": 1}, "finalize: no URL"),
        ("new-order", ("certificate",), 7, "certificate: no URL"),
        ("new-order", ("authorizations",), True, "'bool' object is not iterable"),
        ("new-order", ("authorizations", 0), f"{ORIGIN}/\x1b[2J", "authorizations: no URL"),
        ("new-order", ("identifiers", 0, "value"), "\x1b[2J", "neither a name nor an address"),
        ("new-order", ("identifiers", 0, "type"), "tn", "identifiers: typ: "),
        ("authorization", ("identifier", "value"), "a" * 254, "neither a name nor an address"),
        ("authorization", ("challenges", 0, "type"), None, "authorization answered with"),
        ("authorization", ("challenges", 0, "url"), {}, "url: no URL"),
        ("authorization", ("challenges", 0, "token"), "A" * 29, "challenges: token: "),
        ("authorization", ("challenges", 0, "token"), "A" * 20, "challenges: token: "),
        ("authorization", ("challenges", 0, "token"), "A" * 172, "not base64url of 128 bits"),
        ("directory", ("newOrder",), 7, "it lacks newOrder"),
        ("renewal-info", ("suggestedWindow", "start"), "x" * 9000, "not what RFC 9773 says"),
    ],
)
def test_the_error_names_document_and_member(
    kind: str, place: Path_, value: object, words: str
) -> None:
    error = said(kind, encoded(_with(kind, place, value)))
    assert words in str(error)
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    "status", ["pending", "valid", "invalid", "deactivated", "expired", "revoked"]
)
def test_every_status_of_an_authorization_is_read(status: str) -> None:
    document = encoded(_with("authorization", ("status",), status))
    assert f" {status} http-01 " in converse(strangers.FOLDER, answer("authorization", document))


def test_a_challenge_of_a_type_that_is_new_is_read_with_its_type() -> None:
    new = DOCUMENTS["authorization"]["challenges"][1:]
    answers = answer("authorization", encoded(_with("authorization", ("challenges",), new)))
    assert "later-01" in converse(strangers.FOLDER, answers)


@pytest.mark.parametrize("url", [f"{ORIGIN}/\x9b2J", f"{ORIGIN}/a b", "", "\x80" * 3000])
@pytest.mark.parametrize("kind", ["new-order", "account"])
def test_a_location_that_is_no_url_is_not_kept(kind: str, url: str) -> None:
    assert said(kind, encoded(DOCUMENTS[kind]), {"location": url}) is not None


@pytest.mark.parametrize(
    "url",
    [f"{ORIGIN}/\x1b[2J", f"{ORIGIN}/\ud800", "http://ca.example/", f"{ORIGIN}/{'x' * 9000}", 7],
)
def test_an_explanation_that_is_no_url_is_left_out(url: object) -> None:
    body = encoded({**DOCUMENTS["renewal-info"], "explanationURL": url})
    assert ari.ask(telling(body), "a.b").explanation_url is None


@pytest.mark.parametrize(
    "url",
    [f"{ORIGIN}/\x1b", f"{ORIGIN}/\x9b", f"{ORIGIN}/ü", f"{ORIGIN}/a b", f"{ORIGIN}/\n", [[]]],
)
def test_what_is_no_url_is_not_asked_for(url: object) -> None:
    network = Network(root(strangers.FOLDER))
    network.trust(ORIGIN)
    with pytest.raises(CAError, match="refused to ask") as refused:
        network.check(url)
    assert str(refused.value).isprintable()
