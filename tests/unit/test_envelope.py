"""Envelopes: what is sealed opens with its key, in its place, and in no other way."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from certd.errors import SecretError, StoreError
from certd.secrets import Secret
from certd.store.envelope import (
    Keys,
    Wrapped,
    new_data_key,
    new_sealing_key,
    of_account,
    of_order,
    of_version,
    sealing_keys,
    unwrap,
)

TEXT = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"
PLACE = of_version("www", 1)


def keys(number: int = 1) -> Keys:
    [by] = sealing_keys(new_sealing_key())
    return unwrap([new_data_key(number, by)], [by], "the test")


def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    having = keys()
    sealed = having.seal(Secret(TEXT), PLACE)
    assert sealed.startswith("sealed:1:")
    assert having.open(sealed, PLACE) == Secret(TEXT)
    assert "canary" not in sealed
    assert b"canary" not in base64.b64decode(sealed.split(":")[2])
    assert sealed != having.seal(Secret(TEXT), PLACE), "the nonce is another each time"


def test_without_keys_everything_stays_as_it_is() -> None:
    assert Keys().seal(Secret(TEXT), PLACE) == TEXT
    assert Keys().open(TEXT, PLACE) == Secret(TEXT)
    assert Keys().seal_token("token", Secret("token.print"), "www") == ("token", "token.print")


def test_what_was_not_sealed_yet_is_read_with_a_key_too() -> None:
    assert keys().open(TEXT, PLACE) == Secret(TEXT)
    assert keys().open_token("token", "token.print", "www") == ("token", Secret("token.print"))


def _changed(sealed: str) -> str:
    head, number, body = sealed.split(":")
    data = bytearray(base64.b64decode(body))
    data[20] ^= 1
    return f"{head}:{number}:{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        pytest.param(_changed, PLACE, id="one bit"),
        pytest.param(lambda sealed: sealed[:-8], PLACE, id="cut off"),
        pytest.param(lambda sealed: "sealed:1:", PLACE, id="nothing"),
        pytest.param(lambda sealed: "sealed:1:§", PLACE, id="no base64"),
        pytest.param(str, of_version("www", 2), id="another version"),
        pytest.param(str, of_version("other", 1), id="another certificate"),
        pytest.param(str, of_account("www"), id="another table"),
        pytest.param(str, of_order("www", "1"), id="an order with such a request"),
    ],
)
def test_what_was_changed_or_moved_does_not_open(
    change: Callable[[str], str], place: tuple[str, ...]
) -> None:
    having = keys()
    sealed = change(having.seal(Secret(TEXT), PLACE))
    with pytest.raises(SecretError, match=r"does not open.*db restore") as caught:
        having.open(sealed, place)
    assert "canary" not in str(caught.value)


def test_a_value_of_a_key_that_is_not_there_is_told_apart() -> None:
    with pytest.raises(StoreError, match=r"there is no key for it.*restart certd"):
        keys(2).open(keys(1).seal(Secret(TEXT), PLACE), PLACE)
    with pytest.raises(StoreError, match="there is no key for it"):
        Keys().open(keys().seal(Secret(TEXT), PLACE), PLACE)


def test_the_newest_data_key_seals_and_each_opens() -> None:
    [by] = sealing_keys(new_sealing_key())
    first, second = new_data_key(1, by), new_data_key(2, by)
    old, both = unwrap([first], [by], ""), unwrap([second, first], [by], "")
    assert both.open(old.seal(Secret(TEXT), PLACE), PLACE) == Secret(TEXT)
    assert both.seal(Secret(TEXT), PLACE).startswith("sealed:2:")
    name, kept = old.seal_token("token", Secret("token.print"), "www")
    assert both.open_token(name, kept, "www") == ("token", Secret("token.print"))
    assert name in both.names("token")


def test_a_token_is_found_by_a_name_that_does_not_tell_it() -> None:
    having = keys()
    name, kept = having.seal_token("token-7f3a", Secret("token-7f3a.print"), "www")
    assert "7f3a" not in name + kept
    assert name == having.name("token-7f3a")
    assert name != keys().name("token-7f3a")
    assert having.open_token(name, kept, "www") == ("token-7f3a", Secret("token-7f3a.print"))
    with pytest.raises(SecretError):
        having.open_token(name, kept, "other")


def test_a_data_key_opens_with_its_sealing_key_only() -> None:
    [mine], [other] = sealing_keys(new_sealing_key()), sealing_keys(new_sealing_key())
    row = new_data_key(1, mine)
    with pytest.raises(StoreError, match=f"key {mine.id}, which is not there: here has {other.id}"):
        unwrap([row], [other], "here")
    forged = Wrapped(1, other.id, row.wrapped)
    with pytest.raises(StoreError, match="data key 1 of the database does not open"):
        unwrap([forged], [other], "here")
    with pytest.raises(StoreError, match="data key 2 of the database does not open"):
        unwrap([Wrapped(2, mine.id, row.wrapped)], [mine], "here")


def test_one_key_a_line_the_first_seals() -> None:
    first, second = new_sealing_key().reveal(), new_sealing_key().reveal()
    found = sealing_keys(Secret(f"# made today\n{first}\n\n{second}  \n"))
    assert [len(key.key) for key in found] == [32, 32]
    assert found[0] == sealing_keys(Secret(first))[0]
    assert found[0].id != found[1].id
    assert first not in repr(found)
    assert base64.b64decode(first).hex() not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("correct horse battery staple", "line 1 is not 32 octets in base64"),
        (f"\ufeff{'A' * 43}=", "line 1 is not 32 octets in base64"),
        (f"{'A' * 43}=\nAAAA\n", "line 2 is not 32 octets in base64"),
        ("# nothing\n", "no line has one"),
    ],
)
def test_what_is_no_key_is_explained_and_not_repeated(text: str, said: str) -> None:
    with pytest.raises(StoreError) as caught:
        sealing_keys(Secret(text))
    assert f"[certd] seal is no sealing key: {said}; make one with `certd seal key" in str(
        caught.value
    )
    assert "horse" not in str(caught.value)
