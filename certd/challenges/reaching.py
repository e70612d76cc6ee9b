"""Getting to where a CA would look: what the two kinds of look have in common. For asyncio."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from os import strerror

from certd.challenges.resolving import Threads, Unresolved, addresses
from certd.errors import plain

SECONDS = 8.0  # for a name, redirects included; a CA gives up after some ten
CONNECT_SECONDS = 3.0  # for one address, so that there is time for another

NAME = "correct the name's A and AAAA records, or set resolver in [certd] to a server that knows"


@dataclass(frozen=True, slots=True)
class Way:
    """How a CA gets here: by which DNS server's word, to which ports, and how soon."""

    resolver: tuple[str, int] | None = None  # None: the system's
    port: int = 80  # where the first question is asked, and what http means in a redirect
    tls_port: int = 443  # where TLS-ALPN-01 is asked, and what https means in a redirect
    seconds: float = SECONDS


class Miss(Exception):
    """It is not to be seen: why, and what to do."""

    def __init__(self, why: str, step: str) -> None:
        super().__init__(why)
        self.step = step


class Progress:
    """What a look waits for (``doing``), and what may help (``step``), as they are told.

    ``time`` is what it has; it is set when its turn comes.
    """

    time: asyncio.Timeout

    def __init__(self, step: str) -> None:
        self.doing, self.step = "", step


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def look_up(host: str, way: Way, threads: Threads, progress: Progress) -> list[str]:
    """The addresses of this name, as ``resolving.addresses`` has them.

    Raises:
        Miss: there are none.
    """
    progress.doing, progress.step = f"looking {host} up", NAME
    try:
        return await addresses(host, way.resolver, threads, progress.time)
    except Unresolved as error:
        raise Miss(f"{host} cannot be resolved: {plain(str(error))}", NAME) from error


async def connect(
    found: list[str],
    port: int,
    progress: Progress,
    tls: ssl.SSLContext | None = None,
    name: str | None = None,
) -> Streams:
    """To the first address that takes a connection; with ``tls``, for that ``name``.

    Like Let's Encrypt: IPv6 first, and IPv4 only where there is no connection. A wrong
    answer by IPv6 is what the CA would see, whatever the other address says.

    Raises:
        Miss: none takes one.
    """
    whys = []
    for address in found:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                opened = await asyncio.open_connection(address, port, ssl=tls, server_hostname=name)
        except (OSError, ValueError) as error:  # TimeoutError is one too
            whys.append(f"{address} port {port}: {reason(error)}")
        else:
            progress.doing = f"{progress.doing} at {address} port {port}"
            return opened
    raise Miss(f"{progress.doing}: {', '.join(whys)}", progress.step)


def reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no connection in time"
    number = getattr(error, "errno", None)
    if isinstance(error, ssl.SSLError) or not number:
        return plain(str(error))
    return strerror(number)


def anyones() -> ssl.SSLContext:
    """Whatever certificate is there: it is what is to be replaced, and CAs do not look."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
