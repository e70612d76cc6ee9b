"""TLS contexts of a server that follow renewals: new handshakes get the new certificate.

The context that a server holds never changes. In each handshake its SNI callback points
the connection to another context, which was made for one version of one certificate, and
is never touched again. Loading the new pair into the server's own context would be less
code, but is no single step: a handshake on another thread that begins between leaf and key
fails (a third of them did, measured), and a key of another type would leave the leaf of
before in place beside it.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from certd.errors import CertdError
from certd.model import Bundle
from certd.secrets import Secret, in_memory

log = logging.getLogger(__name__)

_Step = Callable[[ssl.SSLContext], object]


class LiveContext(ssl.SSLContext):
    """For servers; shows the certificate that covers the name the client asks for (SNI).

    Where none does, or the client names none, it is the first one. While there is no
    certificate at all, a handshake ends with the alert internal_error.

    What is set here (ALPN, ciphers, roots for clients' certificates, versions, options)
    holds for all of them, also for those to come.
    """

    def __new__(
        cls, names: Sequence[str], minimum: ssl.TLSVersion, pairs: Mapping[str, str] | None = None
    ) -> LiveContext:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(
        self, names: Sequence[str], minimum: ssl.TLSVersion, pairs: Mapping[str, str] | None = None
    ) -> None:
        """``names`` are those of certificates in the configuration, the first one first.

        ``pairs``: which of them is of another kind of key, and the one that it goes with; a
        client is shown whichever of the two it takes.
        """
        self.names = tuple(names)
        self._pairs = dict(pairs or {})
        self._steps: list[_Step] = []
        self._bundles: dict[str, Bundle] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}  # one for both of a pair
        self._by_host: dict[str, ssl.SSLContext] = {}  # replaced, never changed
        self._first: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()  # of the process whose certd shows versions here
        self.minimum_version = minimum
        super().__setattr__("sni_callback", self._point)

    def show(self, bundle: Bundle) -> None:
        """From now on, this version; connections that are there keep theirs.

        Raises:
            ssl.SSLError, OSError, ValueError: it cannot be used; the one before stays.
        """
        if bundle.keyless:
            raise ValueError("its signing request is the operator's (csr), and its key not here")
        self._pid = os.getpid()
        if self._bundles.get(bundle.name) == bundle:
            return
        first = self._first_of(bundle.name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with self._lock:
            bundles = {**self._bundles, bundle.name: bundle}
            for one in bundles.values():
                if self._first_of(one.name) == first:
                    with in_memory(Secret(one.fullchain_pem + one.key_pem.reveal())) as path:
                        context.load_cert_chain(path)  # beside one of another kind of key
            for step in self._steps:
                step(context)
            self._bundles, self._contexts[first] = bundles, context
            by_host: dict[str, ssl.SSLContext] = {}
            shown = [bundles[name] for name in self.names if name in bundles]
            for one in shown:
                for identifier in one.certificate.identifiers:
                    by_host.setdefault(identifier.value, self._contexts[self._first_of(one.name)])
            self._by_host = by_host
            self._first = self._contexts[self._first_of(shown[0].name)]

    def _first_of(self, name: str) -> str:
        return self._pairs.get(name, name)

    def _point(
        self, connection: ssl.SSLObject | ssl.SSLSocket, host: str | None, _: ssl.SSLContext
    ) -> int | None:
        """Called in each handshake, on the thread of whoever shakes hands."""
        if self._pid != os.getpid():
            self._say_that_it_was_forked()
        found = None
        if host:
            host = host.lower().removesuffix(".")
            wildcard = "*." + host.partition(".")[2]
            found = self._by_host.get(host) or self._by_host.get(wildcard)
        context = found or self._first
        if context is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = context
        return None

    def _say_that_it_was_forked(self) -> None:
        """Once: nothing calls ``show`` in this process, and no handshake would ever fail."""
        log.error(
            "the context of %s was made in process %d, before a fork: here it shows what it had "
            "then, and follows no renewal; make a Certd, start it and ask it for a context after "
            "the fork",
            ", ".join(self.names),
            self._pid,
        )
        self._pid = os.getpid()

    # Some of it OpenSSL and Python take from the context that a connection points to, some
    # from the one that it began with: all are alike.

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        protocols = list(alpn_protocols)
        self._everywhere(lambda context: ssl.SSLContext.set_alpn_protocols(context, protocols))

    def set_ciphers(self, cipherlist: str, /) -> None:
        self._everywhere(lambda context: ssl.SSLContext.set_ciphers(context, cipherlist))

    def load_verify_locations(self, *where: Any, **named: Any) -> None:
        self._everywhere(
            lambda context: ssl.SSLContext.load_verify_locations(context, *where, **named)
        )

    def set_default_verify_paths(self) -> None:  # of load_default_certs too
        self._everywhere(ssl.SSLContext.set_default_verify_paths)

    def load_cert_chain(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the certificate of this context comes from certd")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "sni_callback":
            raise TypeError("certd chooses by SNI: name several certificates in ssl_context()")
        if hasattr(ssl.SSLContext, name):
            self._everywhere(lambda context: ssl.SSLContext.__setattr__(context, name, value))
        else:
            super().__setattr__(name, value)

    def _everywhere(self, step: _Step) -> None:
        with self._lock:
            step(self)
            for context in self._contexts.values():
                step(context)
            self._steps.append(step)


def show(bundle: Bundle, contexts: Iterable[LiveContext]) -> None:
    """Show it in all of them.

    Raises:
        CertdError: one of them cannot; the others do.
    """
    if bundle.keyless:  # nothing to try again: these names were configured otherwise before
        words = "%s: version %d cannot be served from here: its key is the operator's (csr)"
        log.error(words, bundle.name, bundle.version)
        return
    failed = None
    for context in contexts:
        try:
            context.show(bundle)
        except (OSError, ValueError) as error:
            failed = error
    if failed is not None:
        what = f"{bundle.name}: version {bundle.version} cannot be served by a context of it"
        todo = "it is tried again: what was loaded into the context must still be there"
        raise CertdError(what, str(failed), todo) from failed
