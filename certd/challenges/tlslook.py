"""Looking at a TLS-ALPN-01 challenge as a CA will (RFC 8737 section 3, RFC 8738 section 6)."""

from __future__ import annotations

from certd.challenges.hello import PROTOCOL, server_name
from certd.challenges.reaching import Miss, Progress, Way, anyones, connect, look_up
from certd.challenges.resolving import Threads
from certd.model import Identifier
from certd.secrets import Secret
from certd.x509 import objection

_WAY = (
    "let port 443 of the name's addresses lead to certd: what is in front of it must pass "
    "connections with the ALPN protocol acme-tls/1 on, without ending their TLS"
)
_OTHER = f"another server answers there: check the name's A and AAAA records, and {_WAY}"


class TLSLook:
    """At one name, or at one address."""

    def __init__(self, way: Way, host: Identifier, at: str, key_authorization: Secret) -> None:
        """``at``: the address or name where it is, mostly the host's own."""
        self.way = way
        self.host = host
        self._at = at
        self._key_authorization = key_authorization
        self.progress = Progress(_WAY)

    async def run(self, threads: Threads) -> None:
        """Ask, and judge the certificate that comes.

        Raises:
            Miss: it is not to be seen.
        """
        progress = self.progress
        found = await look_up(self._at, self.way, threads, progress)
        progress.doing, progress.step = f"asking {self.host} by TLS", _WAY
        context = anyones()
        context.set_alpn_protocols([PROTOCOL])
        _, writer = await connect(
            found, self.way.tls_port, progress, context, server_name(self.host)
        )
        try:
            tls = writer.get_extra_info("ssl_object")
            protocol, leaf = tls.selected_alpn_protocol(), tls.getpeercert(binary_form=True)
        finally:
            writer.transport.abort()
        if protocol != PROTOCOL:
            why = "the ALPN protocol acme-tls/1 was not agreed on"
        else:
            why = objection(leaf or b"", self.host, self._key_authorization)
        if why:
            raise Miss(f"{progress.doing}: {why}", _OTHER)
