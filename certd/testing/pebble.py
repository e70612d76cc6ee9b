"""Pebble, the test CA: started with settings of its own, or one that already runs.

``python -m certd.testing.pebble`` makes sure that there is one and prints where.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from certd.testing import pebble_binary, tls
from certd.testing.challtestsrv import ChallTestSrv
from certd.testing.processes import Child, ComponentError, NotInstalled, Ports, Stopped

NINETY_DAYS = 7_776_000  # seconds


@dataclass(frozen=True, slots=True)
class Settings:
    """How a Pebble behaves; the defaults are Pebble's own, but strict and without its sleeps."""

    strict: bool = True
    nonce_reject: int = 5  # percent of good nonces refused
    authz_reuse: int = 50  # percent
    va_nosleep: bool = True  # else up to 15 s before each validation
    retry_after: tuple[int, int] = (3, 5)  # seconds, for authorizations and orders
    alternate_roots: int = 0
    chain_length: int = 1  # intermediates
    http_port: int | None = None  # where HTTP-01 is validated; None: one is taken
    tls_port: int | None = None  # the same for TLS-ALPN-01
    dns_server: str | None = None  # host:port; None: a ChallTestSrv of its own
    eab_keys: Mapping[str, str] | None = None  # key id to base64url MAC key; None: no EAB
    # Validity in seconds by name. One only by default: an order that asks for none gets any.
    profiles: Mapping[str, int] = field(default_factory=lambda: {"default": NINETY_DAYS})
    blocklist: tuple[str, ...] = ()  # domains that it refuses
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that Pebble signed: serial in lower-case hexadecimal, and its order's id."""

    serial: str
    order: str


class RunningPebble:
    """What tests ask of a Pebble, wherever it runs.

    ``directory`` is its ACME directory, ``ca_bundle`` the root of its *HTTPS* certificate
    (not of what it issues: that is ``root_pem``), ``http_port`` and ``tls_port`` where it validates
    HTTP-01 and TLS-ALPN-01, ``resolver`` the ``host:port`` of its DNS, if that is known.
    """

    resolver: str | None = None

    def __init__(
        self, directory: str, ca_bundle: Path, management: str, http_port: int, tls_port: int
    ) -> None:
        self.directory = directory
        self.ca_bundle = ca_bundle
        self.management = management
        self.http_port = http_port
        self.tls_port = tls_port

    @classmethod
    def from_environment(cls) -> RunningPebble | None:
        """The one that CERTD_TEST_PEBBLE_DIRECTORY names; None: it is not set.

        CERTD_TEST_PEBBLE_CA is needed with it; CERTD_TEST_PEBBLE_MANAGEMENT and
        CERTD_TEST_PEBBLE_HTTP_PORT, CERTD_TEST_PEBBLE_TLS_PORT default to Pebble's own 15000,
        5002 and 5001. Without
        CERTD_TEST_PEBBLE_DNS, certd cannot look at its own challenges.
        """
        directory = os.environ.get("CERTD_TEST_PEBBLE_DIRECTORY")
        if not directory:
            return None
        bundle = os.environ.get("CERTD_TEST_PEBBLE_CA")
        if not bundle or not Path(bundle).is_file():
            raise ComponentError(
                "CERTD_TEST_PEBBLE_DIRECTORY is set without the root of its HTTPS certificate",
                f"CERTD_TEST_PEBBLE_CA is {bundle!r}",
                "name a PEM file by CERTD_TEST_PEBBLE_CA (see compose.yaml)",
            )
        management = os.environ.get("CERTD_TEST_PEBBLE_MANAGEMENT")
        port = int(os.environ.get("CERTD_TEST_PEBBLE_HTTP_PORT", "5002"))
        default = f"https://{urlsplit(directory).hostname}:15000"
        by_tls = int(os.environ.get("CERTD_TEST_PEBBLE_TLS_PORT", "5001"))
        running = cls(directory, Path(bundle).resolve(), management or default, port, by_tls)
        running.resolver = os.environ.get("CERTD_TEST_PEBBLE_DNS") or None
        return running

    def root_pem(self, number: int = 0) -> str:
        """The root of what it issues; numbers above 0 are the alternate ones."""
        return self._call("GET", f"roots/{number}").text

    def intermediate_pem(self, number: int = 0) -> str:
        return self._call("GET", f"intermediates/{number}").text

    def cert_status(self, serial: str) -> dict[str, Any]:
        """``Status`` (Valid, Revoked), ``Certificate`` (PEM) and more, by hexadecimal serial."""
        return dict(self._call("GET", f"cert-status-by-serial/{serial}").json())

    def set_renewal_info(
        self,
        certificate_pem: str,
        start: datetime,
        end: datetime,
        explanation_url: str | None = None,
    ) -> None:
        """Set the window that ARI suggests for this certificate (RFC 9773 section 4.2)."""
        window = {"start": start.isoformat(), "end": end.isoformat()}
        explained = {"explanationURL": explanation_url} if explanation_url else {}
        self.set_renewal_info_raw(
            certificate_pem, json.dumps({"suggestedWindow": window, **explained})
        )

    def set_renewal_info_raw(self, certificate_pem: str, answer: str) -> None:
        """Set the very body of the ARI answer, which may be malformed."""
        self._call(
            "POST", "set-renewal-info/", {"certificate": certificate_pem, "ariResponse": answer}
        )

    def _call(self, method: str, path: str, body: object = None) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment is not for loopback
            answer = session.request(
                method,
                f"{self.management}/{path}",
                json=body,
                verify=str(self.ca_bundle),
                timeout=10,
            )
        if not answer.ok:
            raise ComponentError(f"pebble refused {path} ({answer.status_code})", answer.text)
        return answer

    def ledger(self) -> list[Issued]:
        """Every certificate issued so far, in order.

        Raises:
            NotInstalled: this Pebble was not started here, and its log is not to be had.
        """
        raise NotInstalled(
            "pebble of our own", "the one named by CERTD_TEST_PEBBLE_DIRECTORY keeps its log", ""
        )


class Pebble(RunningPebble, Stopped):
    """A Pebble of our own on free loopback ports: started at once, stopped by ``stop()``.

    ``log`` is its output, ``dns`` its ChallTestSrv (None with ``dns_server`` set), ``folder``
    a private temporary one unless given.

    Raises:
        NotInstalled: there is no Pebble, and none could be fetched.
        ComponentError: it did not start.
    """

    def __init__(self, settings: Settings | None = None, folder: Path | None = None) -> None:
        self.settings = settings or Settings()
        self._binaries = pebble_binary.locate()
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="certd-pebble-"))
        self.log = self.folder / "pebble.log"
        self._ports = Ports()
        self._acme, self._management = self._ports.take(), self._ports.take()
        super().__init__(
            f"https://127.0.0.1:{self._acme}/dir",
            tls.mint(self.folder).root,
            f"https://127.0.0.1:{self._management}",
            self.settings.http_port or self._ports.take(),
            self.settings.tls_port or self._ports.take(),
        )
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": self._config()}, indent=2))
        self._child: Child | None = None
        self.dns: ChallTestSrv | None = None
        try:
            if self.settings.dns_server is None:
                self.dns = ChallTestSrv(self._binaries.challtestsrv, self.folder)
            self.resolver = self.dns.dns if self.dns else self.settings.dns_server
            self._start()
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Start anew on the same ports: Pebble then knows no account, order or root of before."""
        if self._child is not None:
            self._child.stop()
        self._start()

    def stop(self) -> None:
        for part in (self._child, self.dns):
            if part is not None:
                part.stop()
        self._ports.close()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def ledger(self) -> list[Issued]:
        """Every certificate issued so far (restarts included), in order, from Pebble's log."""
        issued = re.findall(
            r"Issued certificate serial (\S+) for order (\S+)", self.log.read_text()
        )
        # As a number and back, for Pebble writes leading zeros of its own.
        return [Issued(tls.hexadecimal(int(serial, 16)), order) for serial, order in issued]

    def orders_made(self) -> int:
        """How many orders it has made so far (restarts included)."""
        return self.log.read_text().count(" Added order ")

    def _start(self) -> None:
        settings = self.settings
        dns = settings.dns_server or (self.dns.dns if self.dns else "")
        argv: list[str | Path] = [self._binaries.pebble, "-config", self.folder / "pebble.json"]
        argv += ["-dnsserver", dns, f"-strict={str(settings.strict).lower()}"]
        environment = {
            "PEBBLE_WFE_NONCEREJECT": str(settings.nonce_reject),
            "PEBBLE_AUTHZREUSE": str(settings.authz_reuse),
            "PEBBLE_VA_NOSLEEP": str(int(settings.va_nosleep)),
            "PEBBLE_ALTERNATE_ROOTS": str(settings.alternate_roots),
            "PEBBLE_CHAIN_LENGTH": str(settings.chain_length),
            **settings.environment,
        }
        self._child = Child(argv, self.log, environment=environment)
        self._child.wait_until(self._healthy)

    def _healthy(self) -> bool:
        # By its own root: nobody else's server can answer for it.
        with requests.Session() as session:
            session.trust_env = False
            ready = session.get(self.directory, verify=str(self.ca_bundle), timeout=2).ok
        return ready and bool(self.root_pem())

    def _config(self) -> dict[str, object]:
        settings = self.settings
        return {
            "listenAddress": f"127.0.0.1:{self._acme}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(self.folder / "fullchain.pem"),
            "privateKey": str(self.folder / "key.pem"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": settings.eab_keys is not None,
            "externalAccountMACKeys": dict(settings.eab_keys or {}),
            "domainBlocklist": list(settings.blocklist),
            "retryAfter": {"authz": settings.retry_after[0], "order": settings.retry_after[1]},
            "keyAlgorithm": "ecdsa",
            "profiles": {
                name: {"description": name, "validityPeriod": seconds}
                for name, seconds in settings.profiles.items()
            },
        }


def start(folder: Path | None = None, **settings: Any) -> Pebble:
    """A Pebble with these ``Settings`` by name."""
    return Pebble(dataclasses.replace(Settings(), **settings), folder)


def main() -> int:
    try:
        binaries = pebble_binary.locate()
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 1
    print(binaries.pebble)
    return 0


if __name__ == "__main__":
    sys.exit(main())
