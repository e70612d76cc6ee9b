"""A certd that distributes certificates, and others that pull them: two folders, one loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from certd.testing.processes import Child, Ports
from certd.x509 import fingerprint
from tests.site import Site


class Hub:
    """Its certificates are from its own CA; ``www`` and ``mail`` are there to be distributed."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self.port = ports.take()
        self.site = site = Site(folder / "hub", None)
        site.disk("out", path=str(site.folder / "out" / "{name}"))
        site.certificate("hub", "127.0.0.1")
        site.certificate("www", "www.example.com")
        site.certificate("mail", "mail.example.com")
        for machine in ("web1", "web2"):
            name = f"{machine}.example.com"
            site.certificate(machine, name, usage=["client"], targets=["out"])
        site.tables["distribution"] = {
            "listen": [f"127.0.0.1:{self.port}"],
            "certificate": "hub",
            "clients": "local",
        }
        self.allow("web1", "www")
        self.allow("web2", "mail")
        assert site.certd("ca", "init").returncode == 0
        site.renew()
        self.root = site.folder / "root.pem"
        self.root.write_text(site.certd("ca", "root").stdout)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def allow(self, machine: str, *names: str) -> None:
        name = f"{machine}.example.com"
        self.site.tables[f"client.{machine}"] = {"name": name, "certificates": list(names)}
        self.site.write()

    def start(self, **environment: str) -> Child:
        child = self.site.start("run", **environment)
        child.wait_until(self.answers)
        return child

    def answers(self) -> bool:
        """Whether it shakes hands: then it has looked at the store, and there is a context."""
        context = ssl.create_default_context(cafile=self.root)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1"),
        ):
            return True

    def fingerprint(self, name: str) -> str:
        bundle = self.site.bundle(name)
        assert bundle is not None
        return bundle.certificate.fingerprint

    def machine(self, name: str, *certificates: str, **settings: Any) -> Machine:
        return Machine(self, name, *certificates, **settings)


class Machine:
    """It has a client certificate of the hub's own CA, and pulls."""

    def __init__(self, hub: Hub, name: str, *certificates: str, **settings: Any) -> None:
        self._hub = hub
        self.folder = hub.site.folder.parent / name
        self.site = Site(self.folder, None)
        self.client = self.folder / "client"
        shutil.copytree(hub.site.folder / "out" / name / "current", self.client)
        self.site.tables["ca.hub"] = {
            "type": "certd",
            "server": hub.url,
            "ca_bundle": str(hub.root),
            "certificate": "client/fullchain.pem",
            "key": "client/privkey.pem",
            **settings,
        }
        self.site.disk()
        for one in certificates:
            self.want(one)

    def want(self, name: str, **settings: Any) -> None:
        names = settings.pop("names", [f"{name}.example.com"])
        self.site.certificate(name, *names, ca=["hub"], targets=["web"], **settings)

    def serves(self, name: str) -> bool:
        """Whether it has what the hub has."""
        return self.served(name) == self._hub.fingerprint(name)

    def served(self, name: str) -> str | None:
        """The fingerprint of what is in place."""
        path = self.folder / "web" / name / "current" / "fullchain.pem"
        return fingerprint(path.read_text()) if path.exists() else None


def within(seconds: float, happened: Callable[[], bool]) -> float:
    """Seconds until it has happened."""
    begun = time.monotonic()
    while not happened():
        assert time.monotonic() - begun < seconds
        time.sleep(0.02)
    return time.monotonic() - begun


@contextlib.contextmanager
def ask(hub: Hub, machine: Machine) -> Iterator[ssl.SSLSocket]:
    """A connection of the machine's to the hub."""
    context = ssl.create_default_context(cafile=hub.root)
    context.load_cert_chain(machine.client / "fullchain.pem", machine.client / "privkey.pem")
    with (
        socket.create_connection(("127.0.0.1", hub.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        yield tls
