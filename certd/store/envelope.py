"""PURE: envelopes. The operator's sealing key seals a data key, the data key seals the secrets.

A sealed value is ``sealed:N:…``: N is the number of the data key, the rest nonce, ciphertext
and tag of AES-256-GCM in base64. Its place in the database is authenticated with it, so that
a value that was moved to another row does not open.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certd.errors import SecretError, StoreError
from certd.secrets import Secret

PREFIX = "sealed:"
_OCTETS = 32  # of a key
_NONCE = 12  # octets; random: one key may seal 2**32 values (NIST SP 800-38D section 8.3)

Place = tuple[str, ...]


def of_account(directory: str) -> Place:
    return ("account", directory)


def of_next_account_key(directory: str) -> Place:
    return ("account", directory, "next")


def of_authority(ca: str, certificate_pem: str) -> Place:
    return ("authority", ca, certificate_pem)


def of_next_key(lineage: str, pin: str) -> Place:
    return ("next_key", lineage, pin)


def of_version(lineage: str, number: int) -> Place:
    return ("version", lineage, str(number))


def of_order(lineage: str, csr_pem: str) -> Place:
    """By its signing request, for its number is not known before it is written."""
    return ("certificate_order", lineage, csr_pem)


def of_token(lineage: str, name: str) -> Place:
    return ("token", lineage, name)


def of_dns_record(lineage: str, account: str, name: str, value: str) -> Place:
    return ("dns_record", lineage, account, name, value)


@dataclass(frozen=True, slots=True, repr=False)
class SealingKey:
    """A key of the operator's. ``id`` may be shown: nothing of the key can be told from it."""

    id: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A data key as the database has it: ``wrapped`` is in base64."""

    number: int
    sealed_by: str  # the id of the sealing key
    wrapped: str


class DataKey:
    """What seals the secrets of one database."""

    def __init__(self, number: int, key: bytes) -> None:
        self.prefix = f"{PREFIX}{number}:"
        self._cipher = AESGCM(_derived(key, b"values"))
        self._names = _derived(key, b"names")

    def seal(self, text: str, place: Place) -> str:
        return self.prefix + _sealed(self._cipher, text.encode(), place)

    def open(self, text: str, place: Place) -> str:
        """Raises InvalidTag or ValueError: it was not sealed with this key for this place."""
        return _opened(self._cipher, text.removeprefix(self.prefix), place).decode()

    def name(self, token: str) -> str:
        """What stands for the token where it is looked up: always the same."""
        return f"{self.prefix}{hmac.digest(self._names, token.encode(), 'sha256').hex()}"


class Keys:
    """What opens and seals the secrets of one database; without any, they stay as they are."""

    def __init__(self, newest_first: Sequence[DataKey] = ()) -> None:
        self._keys = tuple(newest_first)

    @property
    def prefix(self) -> str:
        """What everything begins with that is sealed with the newest key; "": nothing is."""
        return self._keys[0].prefix if self._keys else ""

    def seal(self, secret: Secret, place: Place) -> str:
        return self._keys[0].seal(secret.reveal(), place) if self._keys else secret.reveal()

    def open(self, text: str, place: Place) -> Secret:
        """The secret.

        Raises:
            SecretError: it was changed, or moved; this one value fails, and nothing else.
            StoreError: there is no key for it.
        """
        if not str.startswith(text, PREFIX):  # which raises TypeError for what is no text
            return Secret(text)
        for key in self._keys:
            if text.startswith(key.prefix):
                try:
                    return Secret(key.open(text, place))
                except (InvalidTag, ValueError):
                    raise SecretError(
                        f"a sealed value does not open: {_words(place)}",
                        "it was changed, or belongs to another row",
                        "restore a backup with `certd db restore FILE`",
                    ) from None
        raise StoreError(
            f"a value is sealed, and there is no key for it: {_words(place)}",
            "the database was sealed, or its key changed, after this certd has opened it",
            "restart certd; if that does not help, see `certd seal status`",
        )

    def name(self, token: str) -> str:
        """The token, or what stands for it."""
        return self._keys[0].name(token) if self._keys else token

    def names(self, token: str) -> list[str]:
        """All that the token may be found under."""
        return [token, *(key.name(token) for key in self._keys)]

    # A token and its answer are sealed as one value: its name cannot be read back.

    def seal_token(self, token: str, answer: Secret, lineage: str) -> tuple[str, str]:
        """The token's name, and the answer as it is kept beside it."""
        if not self._keys:
            return token, answer.reveal()
        name = self.name(token)
        return name, self.seal(Secret(f"{token}\n{answer.reveal()}"), of_token(lineage, name))

    def open_token(self, name: str, kept: str, lineage: str) -> tuple[str, Secret]:
        """The token and its answer; raises as :meth:`open`."""
        if not kept.startswith(PREFIX):
            return name, Secret(kept)
        token, _, answer = self.open(kept, of_token(lineage, name)).reveal().partition("\n")
        return token, Secret(answer)


def new_sealing_key() -> Secret:
    """A random one, as it stands on a line of the operator's file."""
    return Secret(base64.b64encode(os.urandom(_OCTETS)).decode())


def sealing_keys(secret: Secret) -> tuple[SealingKey, ...]:
    """The operator's keys: one a line, in base64. The first seals, all of them open.

    Raises:
        StoreError: there is none, or a line is none.
    """
    keys = []
    for number, line in enumerate(secret.reveal().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = base64.b64decode(line.strip(), validate=True)
        except ValueError:  # binascii's, or of what is not ASCII
            key = b""
        if len(key) != _OCTETS:
            why = f"line {number} is not {_OCTETS} octets in base64"
            raise StoreError("[certd] seal is no sealing key", why, _MAKE)
        keys.append(SealingKey(hashlib.sha256(b"certd sealing key\0" + key).hexdigest()[:8], key))
    if not keys:
        raise StoreError("[certd] seal is no sealing key", "no line has one", _MAKE)
    return tuple(keys)


def wrap(number: int, data_key: bytes, by: SealingKey) -> Wrapped:
    place = ("seal_key", str(number), by.id)
    return Wrapped(number, by.id, _sealed(AESGCM(by.key), data_key, place))


def new_data_key(number: int, by: SealingKey) -> Wrapped:
    """A random one, sealed already."""
    return wrap(number, os.urandom(_OCTETS), by)


def unwrap(rows: Iterable[Wrapped], having: Sequence[SealingKey], whence: str) -> Keys:
    """The keys of a database, from its rows ``newest first``; ``whence`` has the sealing keys.

    Raises:
        StoreError: a sealing key is not there, or a row was changed.
    """
    known = {key.id: key for key in having}
    keys = []
    for row in rows:
        by = known.get(row.sealed_by)
        if by is None:
            ids = ", ".join(known) or "none"
            raise StoreError(
                f"the database is sealed with the key {row.sealed_by}, which is not there",
                f"{whence} has {ids}",
                f"put the key {row.sealed_by} back, on a line of its own; if it is lost for good, "
                "move certd.db aside: what the targets hold is taken back in",
            )
        try:
            place = ("seal_key", str(row.number), by.id)
            data = _opened(AESGCM(by.key), row.wrapped, place)
        except (InvalidTag, ValueError):
            raise StoreError(
                f"data key {row.number} of the database does not open",
                f"it was changed since the key {by.id} has sealed it",
                "restore a backup with `certd db restore FILE`",
            ) from None
        keys.append(DataKey(row.number, data))
    return Keys(keys)


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, b"certd " + purpose, "sha256")


def _sealed(cipher: AESGCM, data: bytes, place: Place) -> str:
    nonce = os.urandom(_NONCE)
    return base64.b64encode(nonce + cipher.encrypt(nonce, data, _bound(place))).decode()


def _opened(cipher: AESGCM, text: str, place: Place) -> bytes:
    data = base64.b64decode(text, validate=True)
    return cipher.decrypt(data[:_NONCE], data[_NONCE:], _bound(place))


def _bound(place: Place) -> bytes:
    return "\0".join(("certd", *place)).encode()


def _words(place: Place) -> str:
    return f"{place[0]} {place[1]}"


_MAKE = "make one with `certd seal key FILE`, and name FILE"
