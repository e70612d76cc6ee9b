"""pebble-challtestsrv: the DNS that Pebble resolves names with, set up record by record."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import requests

from certd.testing.processes import Child, ComponentError, Ports, Stopped


class ChallTestSrv(Stopped):
    """A running pebble-challtestsrv; every name is ``ipv4`` unless told otherwise.

    ``dns`` is ``host:port`` for Pebble's ``-dnsserver``. It answers DNS only: challenges
    over HTTP and TLS are for certd itself to answer.
    """

    def __init__(self, binary: Path, folder: Path, *, ipv4: str = "127.0.0.1") -> None:
        self._ports = Ports()
        dns, management = self._ports.take(), self._ports.take()
        self.dns = f"127.0.0.1:{dns}"
        self.management = f"http://127.0.0.1:{management}"
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is not for loopback
        self._child = Child(
            [
                *(binary, "-dnsserver", self.dns, "-management", f"127.0.0.1:{management}"),
                *("-defaultIPv4", ipv4, "-defaultIPv6", ""),
                *("-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", ""),
            ],
            folder / "challtestsrv.log",
        )
        try:
            self._child.wait_until(lambda: _listens(management) and _listens(dns))
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._session.close()
        self._ports.close()

    def set_txt(self, host: str, value: str) -> None:
        """Add a value to the TXT record set of ``host``."""
        self._post("set-txt", host=_fqdn(host), value=value)

    def clear_txt(self, host: str) -> None:
        """Remove all TXT values of ``host``."""
        self._post("clear-txt", host=_fqdn(host))

    def add_a(self, host: str, *addresses: str) -> None:
        self._post("add-a", host=_fqdn(host), addresses=list(addresses))

    def clear_a(self, host: str) -> None:
        self._post("clear-a", host=_fqdn(host))

    def add_aaaa(self, host: str, *addresses: str) -> None:
        self._post("add-aaaa", host=_fqdn(host), addresses=list(addresses))

    def clear_aaaa(self, host: str) -> None:
        self._post("clear-aaaa", host=_fqdn(host))

    def set_cname(self, host: str, target: str) -> None:
        self._post("set-cname", host=_fqdn(host), target=_fqdn(target))

    def clear_cname(self, host: str) -> None:
        self._post("clear-cname", host=_fqdn(host))

    def set_servfail(self, host: str) -> None:
        """Answer SERVFAIL for ``host``, whatever else is set."""
        self._post("set-servfail", host=_fqdn(host))

    def clear_servfail(self, host: str) -> None:
        self._post("clear-servfail", host=_fqdn(host))

    def add_caa(self, host: str, tag: str, value: str) -> None:
        """Serve a CAA record; Pebble itself checks none."""
        self._post("add-caa", host=_fqdn(host), policies=[{"tag": tag, "value": value}])

    def clear_caa(self, host: str) -> None:
        self._post("clear-caa", host=_fqdn(host))

    def set_default_ipv4(self, address: str) -> None:
        """The A record of every name without one of its own; empty: none."""
        self._post("set-default-ipv4", ip=address)

    def dns_history(self, host: str) -> list[dict[str, Any]]:
        """The DNS queries for ``host`` so far, in challtestsrv's own form."""
        # Kept without the final dot, unlike the records.
        return list(self._post("dns-request-history", host=_fqdn(host)[:-1]).json())

    def clear_dns_history(self, host: str) -> None:
        self._post("clear-request-history", host=_fqdn(host)[:-1], type="dns")

    def _post(self, path: str, **body: object) -> requests.Response:
        answer = self._session.post(f"{self.management}/{path}", json=body, timeout=10)
        if not answer.ok:
            raise ComponentError(f"challtestsrv refused {path} ({answer.status_code})", answer.text)
        return answer


def _fqdn(host: str) -> str:
    return host.rstrip(".").lower() + "."


def _listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True
