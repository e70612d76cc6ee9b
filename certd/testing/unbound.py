"""Unbound: a recursive resolver in front of the name servers of a test. It remembers nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from certd.testing.nameserver import answers, program
from certd.testing.processes import Child, ComponentError, Ports, Stopped

_SERVER = """\
server:
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    logfile: ""
    use-syslog: no
    do-daemonize: no
    do-ip6: no
    num-threads: 1
    interface: 127.0.0.1@{port}
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "{modules}"
    target-fetch-policy: "0 0 0 0 0"
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    infra-host-ttl: 0
    # What is in no zone of the test does not exist: nobody asks the Internet.
    local-zone: "." static
    local-data: ". SOA localhost. nobody.invalid. 1 0 0 0 0"
remote-control:
    control-enable: no
"""
_ZONE = """\
server:
    local-zone: "{zone}." transparent
stub-zone:
    name: "{zone}."
    stub-no-cache: yes
"""


class Unbound(Stopped):
    """A resolver at ``dns`` (``host:port``, UDP and TCP) that knows the zones given to it.

    ``zones`` has the name servers of each zone, ``host:port``; each zone that another one
    delegates is in it too, for a delegation says nothing of ports. Other names do not exist.

    ``anchors`` (``example.test. DS …`` or ``DNSKEY``): what is below them is validated, and not
    answered for (SERVFAIL) where its signatures are wrong.

    Raises:
        NotInstalled: there is no Unbound.
        ComponentError: it did not start.
    """

    def __init__(
        self,
        zones: Mapping[str, Collection[str]],
        folder: Path | None = None,
        *,
        anchors: Collection[str] = (),
    ) -> None:
        binary = program("unbound", "unbound")
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="certd-unbound-"))
        self._ports = Ports()
        port = self._ports.take()
        self.dns = f"127.0.0.1:{port}"
        configuration = self.folder / "unbound.conf"
        modules = "validator iterator" if anchors else "iterator"
        parts = [_SERVER.format(folder=self.folder, port=port, modules=modules)]
        parts += [f'server:\n    trust-anchor: "{anchor}"\n' for anchor in anchors]
        for zone, servers in zones.items():
            parts.append(_ZONE.format(zone=zone))
            parts += [f"    stub-addr: {server.replace(':', '@')}\n" for server in servers]
        configuration.write_text("".join(parts))
        self._child = Child([binary, "-d", "-p", "-c", configuration], self.folder / "unbound.log")
        try:
            self._child.wait_until(lambda: answers(self.dns))
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._ports.close()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
