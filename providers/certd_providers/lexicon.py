"""Whatever dns-lexicon knows, about 90 services: through its own implementation of each.

The credential is what the service gives for its API; which options take it, ``lexicon NAME --help``
says, as does https://dns-lexicon.readthedocs.io/en/latest/configuration_reference.html. It must be
allowed to change TXT records in the zone; where the service can limit it to that, do.

Where certd has a provider of its own, take that: it asks less, and keeps to the service's limits.
How far lexicon can be relied on differs, see providers/README.md; certd sees to it that a value is
added once, and that only this value is removed, whatever lexicon would do.

Source of the behaviour: the source of dns-lexicon 3.25.2, https://github.com/dns-lexicon/dns-lexicon.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import quote, quote_plus

import requests

from certd.api import (
    ConfigError,
    NotHere,
    ProviderBusy,
    ProviderError,
    SecretReference,
    TxtRecord,
    plain,
)
from certd_providers import lexicon_facts as facts
from certd_providers import lexicon_library as library
from certd_providers.rest import API, Answer

if TYPE_CHECKING:
    from lexicon.interfaces import Provider

_PERMISSION = "give it a credential of the service that may change TXT records in the zone"
LONGEST = 255  # bytes of one character-string (RFC 1035 section 3.3)
_SHORTEST = 3  # characters of an option's value that is hidden in others' words


def _check_name(name: str) -> None:
    known = library.names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        todo = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
        raise ConfigError(f"lexicon knows no provider {json.dumps(name)}", "", todo)
    if not known[name]:
        todo = f"pip install 'dns-lexicon[{name}]'"
        raise NotHere(f"lexicon's {name} needs a package that is not installed", "", todo)


def _check_ttl(seconds: int) -> None:
    if not 0 <= seconds <= 86400:
        raise ConfigError(f"{seconds} is no TTL for a challenge", "", "write 0 to 86400 seconds")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Whatever the library dns-lexicon knows: about 90 services, through one adapter."""

    credential: ClassVar[str] = (
        "what the service gives for its API, as lexicon's documentation says; it needs to change"
        " TXT records of the zone, and nothing else where the service can limit it"
    )

    name: str = field(
        metadata={
            "description": "lexicon's name of the service",
            "check": _check_name,
            "example": "luadns",
            "missing": "it is lexicon's name of the service",
        }
    )
    options: dict[str, str | SecretReference] = field(
        default_factory=dict,
        repr=False,
        hash=False,
        metadata={
            "description": "its options, as lexicon calls them, with _ for -: each a string, or"
            ' the place of a secret as in auth_token = { file = "…" }'
        },
    )
    minimum_ttl: int = field(
        default=0,
        metadata={
            "description": "seconds of TTL that the service takes at least, where lexicon's is not"
            " known to certd",
            "check": _check_ttl,
        },
    )

    def __post_init__(self) -> None:
        # What is not installed is told by the name's own check, and where it is used.
        with contextlib.suppress(ProviderError):
            library.check(self.name, self.options)

    @property
    def most_values(self) -> int | None:
        return 1 if self.name in facts.ONE_VALUE else None

    @property
    def exclusive(self) -> Literal["name", "zone"]:
        return "zone" if self.name in facts.WHOLE_ZONE else "name"

    def add_txt(self, record: TxtRecord) -> None:
        if len(record.value.encode()) > LONGEST:
            what = f"the value for {record.name} is too long for lexicon"
            why = f"more than {LONGEST} bytes are several strings, of which it knows nothing"
            raise ProviderError(what, why, "take another provider for it")
        with self._at(record) as provider:
            # Not all of them look first, and some would publish the value twice.
            if self._found(provider, record):
                return
            if provider.create_record("TXT", self._name(record), self._content(record)) is False:
                raise ProviderError(f"lexicon's {self.name} did not add the value", "", _SEE)
            if self.name in facts.SILENT and not self._found(provider, record):
                why = f"lexicon's {self.name} takes some refusals for success"
                raise ProviderBusy(f"{self.name} does not list what was added", why, _SEE)

    def remove_txt(self, record: TxtRecord) -> None:
        with self._at(record) as provider:
            # Asked to delete what is not there, some delete all the others at that name.
            loose = self.name in facts.LOOSE
            for found in self._found(provider, record)[: None if loose else 1]:
                identifier = found["id"] if loose else None
                name, content = self._name(record), found["content"]
                if provider.delete_record(identifier, "TXT", name, content) is False:
                    raise ProviderError(f"lexicon's {self.name} did not remove it", "", _SEE)

    def _name(self, record: TxtRecord) -> str:
        return (record.label or "@") if self.name in facts.BY_LABEL else record.name

    def _content(self, record: TxtRecord) -> str:
        return f'"{record.value}"' if self.name in facts.QUOTED else record.value

    def _found(self, provider: Provider, record: TxtRecord) -> list[dict[str, Any]]:
        """What lexicon lists of this very value; none where it has no list for the name."""
        try:
            listed = provider.list_records("TXT", self._name(record))
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code != 404:
                raise
            return []
        found = [each for each in listed if _unquoted(each["content"]) == record.value]
        if self.name in facts.LOOSE:
            names = (record.name, record.label)
            found = [each for each in found if str(each["name"]).rstrip(".").lower() in names]
        return found

    @contextlib.contextmanager
    def _at(self, record: TxtRecord) -> Iterator[Provider]:
        """The provider at work in this zone; whatever it raises becomes one of certd's errors."""
        given = {
            key: value.fetch().reveal() if isinstance(value, SecretReference) else value
            for key, value in self.options.items()
        }
        ttl = max(record.ttl, self.minimum_ttl, facts.LEAST_TTL.get(self.name, 0))
        try:
            provider = library.provider(self.name, record.zone, ttl, given)
            try:
                provider.authenticate()
                yield provider
            finally:
                provider.cleanup()
        except ProviderError:
            raise
        except Exception as error:
            # None of what they raise goes on: what is in it is their own choice.
            raise self._failure(error, given, record.zone) from None

    def _failure(self, error: Exception, given: Mapping[str, str], zone: str) -> ProviderError:
        """What an exception of one of 90 authors means."""
        pairs = [f"{one}:{other}" for one in given.values() for other in given.values()]
        hidden = [form for value in (*pairs, *given.values()) for form in _forms(value)]
        chain = list(_chain(error))
        answer = next((one for one in chain if isinstance(one, requests.HTTPError)), None)
        with API(self.name, "", permission=_PERMISSION, secrets=hidden) as api:
            if answer is not None and answer.response is not None:
                response = answer.response
                got = Answer(response.status_code, response.headers, response.text[:65536])
                return api.failure(got)
            # A wrong address is a ValueError besides; it would be as wrong the next time.
            lost = (requests.RequestException, OSError)
            for one in chain:
                if isinstance(one, lost) and not isinstance(one, ValueError | FileNotFoundError):
                    return api.busy(f"no answer ({type(one).__name__})")
            why = self._words(error, hidden)
            if type(error).__name__ == "AuthenticationError":
                # Most of them say so of an unknown domain too, and then the rest is well.
                if not any(word in why.lower() for word in ("domain", "zone", zone)):
                    return api.denied(why)
                what = f"{self.name} does not let certd into the zone {zone}"
                return ProviderError(what, why, "see that the zone is of this account")
            return ProviderError(f"lexicon's {self.name} failed", why, _SEE)

    def _words(self, error: Exception, hidden: Sequence[str]) -> str:
        if isinstance(error, requests.RequestException):
            return f"an option is no address ({type(error).__name__}): it begins with https://"
        if isinstance(error, FileNotFoundError):
            return "a file that an option names is not there"
        why = str(error)
        for text in sorted(hidden, key=len, reverse=True):
            why = why.replace(text, "***")
        return plain(f"{type(error).__name__}: {why}" if why else type(error).__name__)


_SEE = "see what the service's own page shows of the zone; `lexicon` itself may tell more"


def _unquoted(content: object) -> str:
    """The value, of what lexicon lists: as it is, or as in a zone file."""
    text = str(content)
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1].replace('" "', "").replace('\\"', '"').replace("\\;", ";")
    return text


def _forms(value: str) -> Iterator[str]:
    """An option's value as it may stand in an address, a header or a body."""
    if len(value) >= _SHORTEST:
        yield from {value, quote(value), quote_plus(value), json.dumps(value)[1:-1]}
        yield base64.b64encode(value.encode()).decode()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """It, and what it came of."""
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
