"""Wrong secrets: of the same shape, and nothing else of the right ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import Broken
from certd.impostor import has_secret, impostor, other, wrong_credential

RECORD = TxtRecord("example.com", "_acme-challenge.example.com", "value", 60)


@dataclass(frozen=True, slots=True)
class Plugin:
    user: str
    password: Secret | SecretReference | None = None
    options: dict[str, str | SecretReference] = field(default_factory=dict)
    argv: tuple[str | SecretReference, ...] = ()
    made: str = field(init=False, default="")


def test_every_secret_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("T0ken-of-mine\n")
    right = Plugin(
        "me", Secret("hush"), {"key": SecretReference("file", tmp_path / "token"), "a": "b"}, ("x",)
    )
    wrong = impostor(right)
    assert (wrong.user, wrong.argv, wrong.options["a"]) == ("me", ("x",), "b")
    assert isinstance(wrong.password, Secret)
    assert re.fullmatch(r"[a-z]{4}", wrong.password.reveal())
    assert wrong.password != right.password
    token: Any = wrong.options["key"]
    assert re.fullmatch(r"[A-Z]\d[a-z]{3}-[a-z]{2}-[a-z]{4}", token.fetch().reveal())
    assert token.fetch().reveal() != "T0ken-of-mine"
    assert "hush" not in repr(wrong)


@pytest.mark.parametrize(
    ("secret", "shape"),
    [
        pytest.param("a7c4d0ad-114e-40ef", r"[a-f]\d[a-f]\d.*-\d{3}[a-f]-\d\d[a-f]{2}", id="hex"),
        pytest.param("bm90IHRoZQ==", r"[A-Za-z0-9]{10}==", id="base64"),
        pytest.param("0", r"\d|0x", id="a digit, which may be the same nine times"),
        pytest.param("----", r"----x", id="nothing that could change"),
        pytest.param("pässwörd", r"[a-z]ä[a-z]{3}ö[a-z]{2}", id="no ASCII stays"),
    ],
)
def test_the_shape_is_the_same(secret: str, shape: str) -> None:
    for _ in range(20):
        made = other(secret)
        assert made != secret
        assert re.fullmatch(shape, made)


@pytest.mark.parametrize(
    "text", ['{"password": "s3cret"}', " [1]", "-----BEGIN PRIVATE KEY-----\nMII"]
)
def test_a_document_is_not_made_up(text: str) -> None:
    with pytest.raises(ConfigError, match="it is a document") as refused:
        impostor(Plugin("me", Secret(text)))
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("plugin", "has"),
    [
        pytest.param(Plugin("me"), False, id="none"),
        pytest.param(Plugin("me", Secret("x")), True, id="a secret"),
        pytest.param(Plugin("me", None, {"a": "b"}), False, id="options that everybody may see"),
        pytest.param(Plugin("me", argv=(SecretReference("env", "X"),)), True, id="in a list"),
    ],
)
def test_whether_there_is_a_secret(plugin: Plugin, has: bool) -> None:
    assert has_secret(plugin) is has
    if not has:
        with pytest.raises(ConfigError, match="there is no secret"):
            impostor(plugin)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(None, "it was taken", id="taken"),
        pytest.param(ProviderDenied("no", "", ""), "does not say what", id="no advice"),
        pytest.param(ProviderError("no", "HTTP 400"), "HTTP 400", id="told as a mistake"),
        pytest.param(ProviderBusy("not now"), "not now", id="told as passing"),
    ],
)
def test_what_is_no_refusal_of_a_credential_is_told(error: Exception | None, said: str) -> None:
    def change(_: TxtRecord) -> None:
        if error:
            raise error

    with pytest.raises(Broken, match=said):
        wrong_credential(change, RECORD)


def test_a_refusal_with_advice_is_what_is_wanted() -> None:
    denied = ProviderDenied("no", "HTTP 403", "make another token")

    def change(_: TxtRecord) -> None:
        raise denied

    assert wrong_credential(change, RECORD) is denied
