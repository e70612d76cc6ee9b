"""Asking another certd, the hub, for certificates: by mutual TLS, and nobody else's word.

The hub is known by its name and by the roots of ``ca_bundle``, or this machine's. No redirect is
followed, and no proxy is used but the one of the configuration.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlencode

from certd import __version__
from certd.ca.clients import route_to
from certd.ca.reading import Answer, WireError
from certd.ca.wire import Wire
from certd.config import CASettings
from certd.distribution.wording import (
    LONGEST_WAIT,
    PATH,
    Given,
    Listed,
    Malformed,
    read_certificate,
    read_list,
)
from certd.errors import CertdError, ConfigError

WAIT = 50  # seconds: what is on the way forgets a connection that is silent for a minute
TRIES, BETWEEN = 3, 0.05  # to read certificate and key; seconds
SLACK = 15.0  # seconds more, for the answer to come
_HEADERS = {"User-Agent": f"certd/{__version__} (distribution)", "Accept": "application/json"}

# OpenSSL's reasons, where the other end has refused our certificate.
_REFUSED = {
    "TLSV1_ALERT_UNKNOWN_CA": "it was issued by a CA that the hub does not know",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it is revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the hub finds it wrong",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": 'it is not for clients (usage = ["client"])',
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the hub finds it wrong",
    "TLSV1_ALERT_DECRYPT_ERROR": "its key does not belong to it",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the hub was shown none",
}


class HubError(CertdError):
    """The hub refused, or what it gave is not what is wanted; tried again after a back-off."""


class HubAway(HubError):
    """There was no answer, or none that could be understood; tried again soon."""


class Hub:
    """One of them; shared by all threads."""

    def __init__(self, settings: CASettings) -> None:
        assert settings.hub is not None  # noqa: S101 - whoever asks has looked
        self.name = settings.name
        self.url = settings.directory
        self._settings = settings
        self._own = settings.hub
        self._lock = threading.Lock()
        self._known: object = None
        self._wires: tuple[Wire, Wire] | None = None

    def fetch(self, name: str, since: str = "") -> Given | None:
        """The certificate of that name; None: it still is the one with that fingerprint.

        Raises:
            HubError: it was not given; the text says why.
        """
        query = f"?{urlencode({'since': since})}" if since else ""
        answer = self._ask(f"{PATH}/{name}{query}", patient=False)
        if answer.status == 304:
            return None
        if answer.status == 404:
            raise HubError(
                f"{self.name} does not give {name} to this machine",
                "it has none yet, or this machine's table there does not name it",
                f"add {name} to certificates in [client.…] there, then `certd pull {name}`",
            )
        try:
            return read_certificate(answer.body, name)
        except Malformed as error:
            raise self._nonsense(error) from None

    def list(self, since: str = "", wait: int = 0) -> Listed | None:
        """What it has for this machine; None: after so many seconds it still is that state.

        Raises:
            HubError: there was no answer.
        """
        query = urlencode({"since": since, "wait": min(wait, int(LONGEST_WAIT))})
        answer = self._ask(f"{PATH}?{query}", patient=True)
        if answer.status == 304:
            return None
        try:
            return read_list(answer.body)
        except Malformed as error:
            raise self._nonsense(error) from None

    def hang_up(self) -> None:
        """For all threads: what waits for an answer gets none."""
        with self._lock:
            for wire in self._wires or ():
                wire.close()

    def _ask(self, path: str, *, patient: bool) -> Answer:
        what = f"{self.name} cannot be asked"
        try:
            wire = self._tools()[patient]
            answer = wire.exchange("GET", self.url + path, None, _HEADERS)
        except WireError as error:
            raise self._failed(what, error) from error
        if answer.status == 403:
            raise HubError(
                f"{self.name} does not know this machine",
                "no table there is for the name in its client certificate, or that is revoked",
                "see the log there; add [client.NAME] there and reload it, or bring another "
                "certificate here",
            )
        if answer.status not in (200, 304, 404) or (patient and answer.status == 404):
            why = f"{self.url} answered with HTTP {answer.status}, which is no certd's word"
            raise HubAway(what, why, f"check server in [ca.{self.name}]")
        return answer

    def _tools(self) -> tuple[Wire, Wire]:
        """To ask with, and to wait with: made anew when the files of the configuration change,
        for a client certificate is renewed too.

        Raises:
            HubError: the certificate, the key or the roots cannot be used.
        """
        with self._lock:
            known = self._identity()
            if self._wires is None or known != self._known:
                context, route = self._context(), route_to(self._settings)
                self._wires = (
                    Wire(context, route=route),
                    Wire(context, WAIT + SLACK, WAIT + 2 * SLACK, route),
                )
                self._known = known
            return self._wires

    def _identity(self) -> object:
        files = [self._own.certificate, self._own.key, self._settings.ca_bundle]
        try:
            found = [os.stat(path) for path in files if path]
        except OSError as error:
            raise self._unusable(error) from error
        return [(one.st_dev, one.st_ino, one.st_mtime_ns, one.st_size) for one in found]

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._settings.ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"cannot read the roots in {self._settings.ca_bundle}",
                str(error),
                "ca_bundle must name a PEM file with the root that the hub's certificate leads to",
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        for left in reversed(range(TRIES)):
            try:
                # A password, so that nobody is asked for one.
                context.load_cert_chain(self._own.certificate, self._own.key, password="")
                break
            except (OSError, ssl.SSLError) as error:
                if not left:
                    raise self._unusable(error) from error
                time.sleep(BETWEEN)  # one of the two may just have been replaced
        return context

    def _unusable(self, error: OSError) -> HubError:
        mismatch = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
        why = "its key does not belong to it" if mismatch else error.strerror or str(error)
        return HubError(
            f"the client certificate for {self.name} cannot be used",
            why,
            f"certificate and key in [ca.{self.name}] must be a pair, in PEM form, that certd's "
            "user may read",
        )

    def _nonsense(self, error: Malformed) -> HubAway:
        what = f"{self.name} answered what cannot be understood"
        return HubAway(what, str(error), f"check server in [ca.{self.name}]")

    def _failed(self, what: str, error: WireError) -> HubError:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            next = f"check server and ca_bundle in [ca.{self.name}], and this machine's clock"
            return HubError(f"{self.name} is not the hub that is expected", str(error), next)
        if isinstance(cause, ssl.SSLError) and cause.reason in _REFUSED:
            return HubError(
                f"{self.name} does not take this machine's client certificate",
                _REFUSED[cause.reason],
                "make another there, and bring it here",
            )
        next = (
            error.next or f"check server in [ca.{self.name}], DNS and firewall, and the certd there"
        )
        return HubAway(what, f"{self.url}: {error}", next)


class Hubs:
    """``hubs(name)`` is the one of that name, shared by all threads."""

    def __init__(self, cas: Mapping[str, CASettings]) -> None:
        self._hubs = {name: Hub(ca) for name, ca in cas.items() if ca.hub is not None}

    def __call__(self, name: str) -> Hub:
        """
        Raises:
            ConfigError: it is not configured, or not any more.
        """
        found = self._hubs.get(name)
        if found is None:
            what, why = f"cannot ask the hub {name}", "it is not in the configuration"
            raise ConfigError(what, why, f"add [ca.{name}] again if it is to be asked")
        return found
