"""Every address that a name resolves to, within a time."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading

from certd.errors import TargetError, Unseen

MOST = 64  # addresses of one name: each is asked at the same time


def addresses_of(host: str, port: int, seconds: float) -> list[str]:
    """The addresses, each once, in the order of the system's resolver.

    Raises:
        Unseen: it could not be looked up in time.
        TargetError: there is no such name, or it has too many.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    what = f"{host}:{port} could not be asked for its certificate"
    answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    # The resolver has time-outs of its own, which may be longer than anybody here waits.
    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        why = f"{host} was not looked up within {seconds:g} s"
        raise Unseen(what, why, "check this machine's DNS resolver") from None
    if isinstance(found, Exception):
        raise _not_found(what, host, found) from found
    if len(found) > MOST:
        why = f"{host} has {len(found)} addresses, more than the {MOST} that are looked at"
        raise TargetError(what, why, "list those that matter in addresses = […]")
    return found


def _not_found(what: str, host: str, error: Exception) -> TargetError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Unseen(what, f"{host} cannot be looked up: {why}", "check the name in verify = […]")
