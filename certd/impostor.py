"""A plugin with wrong secrets in place of its own, to see how a service refuses it.

They have the shape of the right ones and nothing else of them: services keep logs of failed logins.
"""

from __future__ import annotations

import dataclasses
import secrets
import string
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from certd.api import (
    ConfigError,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import Broken

T = TypeVar("T")

HEX = "abcdef"


def has_secret(settings: object) -> bool:
    """Whether a plugin, or a part of its settings, has a secret or the place of one."""
    return any(True for _ in _secrets(settings))


def impostor(plugin: T) -> T:
    """The same plugin with other secrets. Those of the plugin are fetched.

    Raises:
        ConfigError: it has no secret, or one of which no wrong one can be made.
        SecretError: one cannot be fetched.
    """
    if not has_secret(plugin):
        what = "there is no secret to be wrong"
        raise ConfigError(what, "its table has none", "leave out --wrong-credential")
    made: T = _replaced(plugin)
    return made


def wrong_credential(change: Callable[[TxtRecord], None], record: TxtRecord) -> ProviderDenied:
    """a wrong credential is refused, and told as such"""
    try:
        change(record)
    except ProviderDenied as error:
        if not error.next:
            raise Broken("it does not say what the credential must be allowed") from error
        return error
    except ProviderError as error:
        raise Broken(f"told as something else: {error}") from error
    raise Broken("it was taken")


def other(secret: str) -> str:
    """Another text, with a digit for each digit and a letter for each letter.

    Raises:
        ConfigError: it is a document, which would not be read with other letters in it.
    """
    if secret.lstrip()[:1] in ("{", "[") or "-----BEGIN" in secret:
        what = "no wrong secret can be made of it"
        why = "it is a document (JSON or PEM), where a part of it is the secret"
        raise ConfigError(what, why, "leave out --wrong-credential")
    letters = {letter.lower() for letter in secret if letter.isascii() and letter.isalpha()}
    low = HEX if letters <= set(HEX) else string.ascii_lowercase
    made = secret
    for _ in range(9):
        made = "".join(_like(letter, low) for letter in secret)
        if made != secret:
            return made
    return f"{secret}x"


def _like(letter: str, low: str) -> str:
    if letter in string.digits:
        return secrets.choice(string.digits)
    if letter in string.ascii_lowercase:
        return secrets.choice(low)
    return secrets.choice(low.upper()) if letter in string.ascii_uppercase else letter


def _secrets(settings: object) -> Iterator[Secret | SecretReference]:
    match settings:
        case Secret() | SecretReference():
            yield settings
        case dict():
            yield from _secrets(tuple(settings.values()))
        case tuple() | list():
            for part in settings:
                yield from _secrets(part)
        case _ if dataclasses.is_dataclass(settings):
            yield from _secrets([getattr(settings, name) for name in _names(settings)])


def _replaced(settings: Any) -> Any:
    match settings:
        case SecretReference():
            return SecretReference("plain", Secret(other(settings.fetch().reveal())))
        case Secret():
            return Secret(other(settings.reveal()))
        case dict():
            return {key: _replaced(value) for key, value in settings.items()}
        case tuple() | list():
            return type(settings)(map(_replaced, settings))
        case _ if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
            made = {name: _replaced(getattr(settings, name)) for name in _names(settings)}
            return dataclasses.replace(settings, **made)
    return settings


def _names(settings: Any) -> list[str]:
    return [each.name for each in dataclasses.fields(settings) if each.init]
