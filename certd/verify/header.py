"""One HTTPS request, and the Strict-Transport-Security header of its answer (RFC 6797)."""

from __future__ import annotations

import ssl

from certd.config.authorities import joined
from certd.config.hsts import HSTS, parse
from certd.errors import ConfigError, TargetError, Unfit, Unseen, plain
from certd.verify.probing import Way, channel
from certd.verify.talking import Refusal, Talk

_MOST_LINES = 200
_NAME = "strict-transport-security"


def header(way: Way, host: str) -> HSTS:
    """What a browser that asks for ``https://host/`` is told there.

    The first of several counts (section 8.1), whatever the status: an error page or a redirect
    has it too where it is set as it should be.

    Raises:
        Unseen: there was no answer.
        Unfit: there is no such header, or none that a browser would heed.
        TargetError: it is no HTTPS server.
    """
    what = f"{way.where} could not be asked for its HSTS header"
    if way.port != 443:
        host = joined(host, way.port)
    elif ":" in host:
        host = f"[{host}]"
    with channel(way, what) as (shaken, deadline):
        try:
            fields = _ask(Talk(shaken, deadline), host)
        except Refusal as error:
            raise TargetError(what, error.why, error.next) from error
        except (ssl.SSLError, OSError) as error:
            why = f"no answer within {way.seconds:.2g} s"
            if not isinstance(error, TimeoutError):
                why = "the connection was closed before it had answered"
            raise Unseen(what, why, "look into the server's log") from error
    where = f"{way.where} does not serve the HSTS header that is wanted"
    todo = "correct the header in the server's configuration, or hsts in verify = […]"
    found = [value for name, value in fields if name == _NAME]
    if not found:
        raise Unfit(where, "it serves none", todo)
    try:
        return parse(found[0])
    except ConfigError as error:
        raise Unfit(where, f"browsers ignore {plain(found[0])}: {error.what}", todo) from error


def _ask(talk: Talk, host: str) -> list[tuple[str, str]]:
    """The header fields of the answer: names in lower case, and values."""
    talk.send(
        f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: certd\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode()
    )
    status = talk.line()
    if not status.startswith("HTTP/1."):
        raise Refusal(f"it does not speak HTTP: {plain(status, 100)}", "leave hsts out there")
    fields: list[tuple[str, str]] = []
    for _ in range(_MOST_LINES):
        line = talk.line()
        if not line:
            return fields
        name, _, value = line.partition(":")
        fields.append((name.strip().lower(), value.strip()))
    raise Refusal(f"its answer has more than {_MOST_LINES} header fields")
