"""The library dns-lexicon, as far as certd lets it: its providers, with their options.

Its ``Client`` is not used: that asks the public suffix list of the Internet for the zone, which
certd knows already, and looks for configuration files and variables of the environment. Its
providers are the same; they get their options from certd alone, their requests end in time, and
neither ~/.netrc nor the network is asked for more. What they print and log, which may hold a
credential, goes nowhere.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import requests

from certd.api import ConfigError, NotHere, ProviderError
from certd_providers import lexicon_facts as facts
from certd_providers.rest import CONNECT, READ
from certd_providers.timely import make_timely

if TYPE_CHECKING:
    from lexicon.interfaces import Provider

MISSING = "the package dns-lexicon is not installed"
INSTALL = "pip install 'certd[lexicon]'"


class Options(argparse.ArgumentParser):
    """What a provider has for options: it says so to the parser of a command line."""

    def __init__(self) -> None:
        super().__init__(add_help=False)
        self.found: dict[str, argparse.Action] = {}

    def add_argument(self, *words: Any, **how: Any) -> argparse.Action:
        action = super().add_argument(*words, **how)
        self.found[action.dest] = action
        return action


def names() -> Mapping[str, bool]:
    """The providers that it knows, and whether the packages that each needs are here.

    Raises:
        NotHere: it is not installed.
    """
    try:
        from lexicon._private.discovery import find_providers
    except ImportError:
        raise NotHere(MISSING, "", INSTALL) from None
    return {name: here for name, here in find_providers().items() if name not in facts.NOT_TAKEN}


def options(name: str) -> Mapping[str, argparse.Action]:
    """The options of one provider.

    Raises:
        ProviderError: it, or a package that it needs, is not installed.
    """
    parser = Options()
    _module(name).Provider.configure_parser(parser)
    return parser.found


def provider(name: str, domain: str, ttl: int, given: Mapping[str, str]) -> Provider:
    """One that is ready for ``authenticate()``. Raises as ``options``, and whatever it likes."""
    module = _module(name)
    from lexicon.config import ConfigResolver

    values: dict[str, Any] = {"domain": domain, "provider_name": name}
    values["ttl"] = None if name in facts.TTL_OF_ZONE else ttl
    for key, action in options(name).items():
        values[key] = action.default
        if key in given:
            values[key] = given[key] == "true" if is_flag(action) else given[key]

    class Given(ConfigResolver):
        """Only what is given, wherever a provider looks for it, and none of lexicon's defaults."""

        def __init__(self) -> None:
            self._config_sources: list[Any] = []  # which Provider adds to, and nobody asks

        def resolve(self, config_key: str) -> Any:
            return values.get(config_key.rpartition(":")[2])

    made: Provider = module.Provider(Given())
    return made


def is_flag(action: argparse.Action) -> bool:
    return action.nargs == 0


def check(name: str, given: Mapping[str, object]) -> None:
    """Whether these options are what the provider needs; the values only where they are plain.

    Raises:
        ConfigError: they are not.
        ProviderError: as ``options``.
    """
    known = options(name)
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            todo = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            raise ConfigError(f"options: lexicon's {name} has no option {key}", "", todo)
        choices = ("true", "false") if is_flag(known[key]) else tuple(known[key].choices or ())
        if isinstance(value, str) and choices and value not in choices:
            what = f"options: {key} is none of what lexicon's {name} knows"
            raise ConfigError(what, "", f"write one of {', '.join(choices)}")
    needed = facts.NEEDED.get(name, ())
    for key in needed:
        if key not in given:
            why = f"lexicon's {name} needs {' and '.join(needed)}"
            raise ConfigError(f"options: {key} is missing", why, f'add {key} = {{ file = "…" }}')
    if known and not given and name not in facts.NEEDS_NONE:
        why = f"lexicon's {name} has {', '.join(known)}"
        raise ConfigError("options: there is none", why, "add those that your account has")


def _module(name: str) -> Any:
    try:
        module = importlib.import_module(f"lexicon._private.providers.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "lexicon":
            raise ProviderError(MISSING, "", INSTALL) from None
        what = f"lexicon's {name} needs a package that is not installed"
        todo = f"pip install 'dns-lexicon[{name}]'"
        raise ProviderError(what, str(error.name), todo) from None
    _tame(module)
    return module


class _Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        make_timely(self)
        self.auth = _unchanged  # or a ~/.netrc would replace the provider's own

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        how["timeout"] = how.get("timeout") or (CONNECT, READ)
        return super().send(request, **how)

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Of a redirect: the library takes Authorization out, and leaves what else is secret."""
        library: Any = super()  # which has no types
        if library.should_strip_auth(response.request.url or "", prepared_request.url or ""):
            raise requests.HTTPError("it leads to another server", response=response)
        library.rebuild_auth(prepared_request, response)


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Requests(types.ModuleType):
    """The module ``requests``, with sessions of ours."""

    Session = _Session
    session = _Session

    def __getattr__(self, name: str) -> Any:
        if name in ("get", "options", "head", "post", "put", "patch", "delete"):
            return lambda url, **how: self.request(name.upper(), url, **how)
        return getattr(requests, name)

    def request(self, method: str, url: str, **how: Any) -> requests.Response:
        with _Session() as session:
            return session.request(method=method, url=url, **how)


_REQUESTS = _Requests("requests")


def _tame(module: Any) -> None:
    """Make a provider's module behave in a daemon. A second time changes nothing."""
    logger = logging.getLogger("lexicon")
    logger.propagate = False
    logger.addHandler(_NOWHERE)
    here = vars(module)
    here["print"] = _no_print
    if here.get("requests") is requests:
        here["requests"] = _REQUESTS
    if here.get("Session") is requests.Session:
        here["Session"] = _Session
    if isinstance(here.get("xmlrpclib"), types.ModuleType):
        here["xmlrpclib"] = _xml_rpc()
    if isinstance(here.get("tldextract"), types.ModuleType):
        # With the list that the package brings, instead of the newest from the Internet.
        extract = here["tldextract"].TLDExtract(suffix_list_urls=(), cache_dir=None)
        here["tldextract"] = types.SimpleNamespace(extract=extract)


def _xml_rpc() -> types.SimpleNamespace:
    """The module ``xmlrpc.client``, with a time limit."""
    import xmlrpc.client

    class Transport(xmlrpc.client.SafeTransport):
        def make_connection(self, host: Any) -> Any:
            connection = super().make_connection(host)
            connection.timeout = READ
            return connection

    def connected(url: str, **how: Any) -> xmlrpc.client.ServerProxy:
        return xmlrpc.client.ServerProxy(url, transport=Transport(), **how)

    return types.SimpleNamespace(**{**vars(xmlrpc.client), "ServerProxy": connected})


_NOWHERE = logging.NullHandler()


def _no_print(*_: object, **__: object) -> None:
    """What a provider tells whoever sits at a terminal."""
