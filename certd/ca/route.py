"""How a CA is reached: from which address of this machine, and through which proxy.

The environment (``HTTPS_PROXY``) counts for nothing here: see docs/decisions.md.
"""

from __future__ import annotations

import base64
import socket
import time
from dataclasses import dataclass

from certd.ca.reading import Reading, WireError
from certd.errors import SecretError, plain
from certd.references import SecretReference

_CHUNK = 1 << 12  # bytes read at once of what a proxy says
_MOST = 1 << 16  # bytes of it in all


@dataclass(frozen=True, slots=True)
class Route:
    """``proxy`` is an HTTP proxy that knows CONNECT (RFC 9110 section 9.3.6); ``user`` and
    ``password`` are for it, and the password is fetched for each connection. ``table`` is
    what the operator calls it all.
    """

    source: str | None = None
    proxy: tuple[str, int] | None = None
    user: str | None = None
    password: SecretReference | None = None
    table: str = "[ca.NAME]"

    def connect(self, address: tuple[str, int], deadline: float, silence: float) -> socket.socket:
        """A connection that ends at this host and port. ``deadline`` is monotonic,
        ``silence`` in seconds.

        Raises:
            OSError: there is none.
            WireError: the same, and it is for the operator of this machine to mend.
        """
        if self.proxy is None:
            return self._dial(address, deadline, silence)
        connection = self.connect_to_proxy(self.proxy, deadline, silence)
        try:
            self._open_tunnel(connection, address, deadline, silence)
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_to_proxy(
        self, proxy: tuple[str, int], deadline: float, silence: float
    ) -> socket.socket:
        """A connection that ends at the proxy itself, as plain http wants it.

        Raises:
            WireError: there is none.
        """
        try:
            return self._dial(proxy, deadline, silence)
        except OSError as error:
            timed_out = isinstance(error, TimeoutError)
            why = "no connection in time" if timed_out else error.strerror or str(error)
            raise WireError(
                f"its proxy {self.name} cannot be reached ({why})",
                f"check proxy in {self.table}, and that it runs",
            ) from error

    @property
    def name(self) -> str:
        """Of the proxy, for words."""
        host, port = self.proxy or ("", 0)
        return _joined(host, port)

    def _dial(self, address: tuple[str, int], deadline: float, silence: float) -> socket.socket:
        """To the first address that takes a connection; each gets its share of the time."""
        addresses = self.addresses(address)
        for left, (family, kind, protocol, _, found) in zip(
            range(len(addresses), 0, -1), addresses, strict=True
        ):
            connection = socket.socket(family, kind, protocol)
            try:
                self._bind(connection)
                share = (deadline - time.monotonic()) / left
                connection.settimeout(min(patience(deadline, silence), share))
                connection.connect(found)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except BaseException as error:
                connection.close()
                if left == 1 or not isinstance(error, OSError):
                    raise
            else:
                return connection
        raise AssertionError("unreachable: no addresses are an error")

    def addresses(
        self, address: tuple[str, int]
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
        """Those of a host at a port that can be connected to from here, as getaddrinfo has them."""
        family = socket.AF_UNSPEC
        if self.source is not None:
            family = socket.AF_INET6 if ":" in self.source else socket.AF_INET
        try:
            found = socket.getaddrinfo(*address, family, socket.SOCK_STREAM)
        except socket.gaierror as error:
            if self.source is None:
                raise
            kind = "IPv6" if family == socket.AF_INET6 else "IPv4"
            raise WireError(
                f"there is no way from {self.source} to {address[0]}: no {kind} address is known "
                f"of it ({error.strerror})",
                f"check source_address in {self.table}, and DNS",
            ) from error
        return found  # type: ignore[return-value] # AF_INET6's addresses have more in them

    def _bind(self, connection: socket.socket) -> None:
        if self.source is None:
            return
        try:
            connection.bind((self.source, 0))
        except OSError as error:
            raise WireError(
                f"{self.source} cannot be asked from ({error.strerror})",
                f"source_address in {self.table} must be an address of this machine",
            ) from error

    # -- the proxy -----------------------------------------------------------------------------

    def _open_tunnel(
        self, connection: socket.socket, address: tuple[str, int], deadline: float, silence: float
    ) -> None:
        where = _joined(*address)
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", *self.credentials()]
        reading, received = Reading(head_only=True), 0
        try:
            connection.settimeout(patience(deadline, silence))
            connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
            while not reading.done:
                connection.settimeout(patience(deadline, silence))
                data = connection.recv(_CHUNK)
                received += len(data)
                if not data or received > _MOST:
                    raise reading.cut()
                reading.feed(data)
        except WireError as error:
            why = f"its proxy {self.name} cannot be used: {error}"
            raise WireError(why, f"proxy in {self.table} must be an HTTP proxy") from error
        except TimeoutError as error:
            why = f"its proxy {self.name} did not answer in time"
            raise WireError(why, f"check proxy in {self.table}, and what it does") from error
        except OSError as error:
            why = f"its proxy {self.name} hung up ({error.strerror or error})"
            raise WireError(why, f"check proxy in {self.table}, and what it does") from error
        if not 200 <= reading.status < 300:
            raise self.refused(reading, where)

    def credentials(self) -> list[str]:
        """For the proxy: RFC 7617, in the header of RFC 9110 section 11.7.1."""
        if self.user is None:
            return []
        password = ""
        if self.password is not None:
            try:
                password = self.password.fetch().reveal()
            except SecretError as error:
                raise WireError(f"{error.what}: {error.why}", error.next) from error
        pair = base64.b64encode(f"{self.user}:{password}".encode()).decode("ascii")
        return [f"Proxy-Authorization: Basic {pair}"]

    def refused(self, reading: Reading, where: str) -> WireError:
        """What it is that the proxy does not let us through to this host."""
        said = f"HTTP {reading.status}"
        if reading.status != 407:
            return WireError(
                f"its proxy {self.name} does not let us through to {where} ({said})",
                f"have it let through to there, or correct proxy in {self.table}",
            )
        schemes = plain(reading.headers.get("proxy-authenticate", ""))
        if schemes and "basic" not in schemes.lower():
            why = f"its proxy {self.name} wants to know who we are by other means than Basic"
            return WireError(f"{why} ({said}; {schemes})", "have it let this machine through")
        if self.user is None:
            return WireError(
                f"its proxy {self.name} wants to know who we are ({said})",
                f'write proxy = "http://USER@{self.name}" and proxy_password in {self.table}',
            )
        return WireError(
            f"its proxy {self.name} does not take the user and password ({said})",
            f"correct the user in proxy, or proxy_password, in {self.table}",
        )


DIRECT = Route()


def patience(deadline: float, silence: float) -> float:
    """Seconds for which the next byte may be waited for.

    Raises:
        TimeoutError: the deadline, which is monotonic, is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(left, silence)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
