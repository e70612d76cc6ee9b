"""The addresses of a name, from one DNS server or as this machine finds them. For asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable

TRY_SECONDS = 2.0  # for one datagram; a second one is sent, for the first may be lost
TRIES = 2
MAX_THREADS = 256  # lookups by the system at once


class Unresolved(Exception):
    """No address was found; the text says why."""


class Refused(Unresolved):
    """The servers do answer, but not this (SERVFAIL)."""


class Silent(Unresolved):
    """The servers do not answer in time."""


class Threads:
    """Those in which the system looks names up, so many. Within one event loop only."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MAX_THREADS)

    async def run(self, work: Callable[[], None], time: asyncio.Timeout) -> None:
        """Begin this in a thread, once there is one to be had. ``time`` stands still until then."""
        loop = asyncio.get_running_loop()
        end, since = time.when(), loop.time()
        time.reschedule(None)
        await self._free.acquire()
        time.reschedule(end + loop.time() - since if end is not None else None)

        def run() -> None:
            work()
            # Not when nobody waits any more: that it has ended is what makes room.
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._free.release)

        threading.Thread(target=run, name="self-check-lookup", daemon=True).start()


async def addresses(
    name: str, server: tuple[str, int] | None, threads: Threads, time: asyncio.Timeout
) -> list[str]:
    """IPv6 before IPv4, one of each: a CA too takes one, and asks the older one second.

    ``server`` is asked, or the system if there is none, which may also know names that are in
    no DNS, in one of ``threads``, for which ``time`` does not run. An address is its own.

    Raises:
        Unresolved: there is none to be had.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(name))]
    if server is not None:
        return _one_each(await _asked(name, *server))
    return _one_each(await _looked_up(name, threads, time))


def _one_each(found: Iterable[str]) -> list[str]:
    firsts: dict[bool, str] = {}
    for address in found:
        firsts.setdefault(":" in address, address)
    return [firsts[older] for older in (True, False) if older in firsts]


async def _looked_up(name: str, threads: Threads, time: asyncio.Timeout) -> list[str]:
    """In a daemon thread: a lookup may take longer than anyone waits, and cannot be ended."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[str]] = loop.create_future()

    def keep(found: list[str] | None, why: str) -> None:
        if not future.done():
            if found is None:
                future.set_exception(Unresolved(why))
            else:
                future.set_result(found)

    def look_up() -> None:
        found, why = None, ""
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            found = [str(address[0]) for *_, address in answers]
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
        with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(keep, found, why)

    await threads.run(look_up, time)
    return await future


async def _asked(name: str, host: str, port: int) -> list[str]:
    server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    both = [_records(name, kind, host, port, server) for kind in ("AAAA", "A")]
    found: list[str] = []
    whys: list[str] = []
    for answer in await asyncio.gather(*both, return_exceptions=True):
        if isinstance(answer, Unresolved):
            whys.append(str(answer))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found += answer
    if not found:
        raise Unresolved(whys[0] if whys else f"{server} knows no address of it")
    return found


async def _records(name: str, kind: str, host: str, port: int, server: str) -> list[str]:
    # Only here and late: most look names up by the system.
    import dns.asyncbackend
    import dns.asyncquery
    import dns.exception
    import dns.message
    import dns.rcode

    backend = dns.asyncbackend.get_backend("asyncio")
    why = ""
    for _ in range(TRIES):
        try:
            query = dns.message.make_query(name, kind)
            answer, _ = await dns.asyncquery.udp_with_fallback(
                query, host, timeout=TRY_SECONDS, port=port, backend=backend
            )
        except dns.exception.Timeout:
            why = f"{server} does not answer"
            continue
        except OSError as error:
            why = f"{server}: {error.strerror or error}"
            continue
        except (dns.exception.DNSException, ValueError, EOFError) as error:
            raise Unresolved(f"{server} was asked in vain: {type(error).__name__}") from error
        if answer.rcode() != dns.rcode.NOERROR:
            raise Unresolved(f"{server} says {dns.rcode.to_text(answer.rcode())}")
        # Whatever aliases lead there: following them is the server's part.
        return [
            str(item.address)
            for records in answer.answer
            for item in records
            if records.rdtype.name == kind
        ]
    raise Unresolved(why)
