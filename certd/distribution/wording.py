"""PURE: what a hub and its clients say to each other. HTTP/1.1 by TLS 1.3, and JSON.

``GET /v1/certificates?since=STATE&wait=SECONDS``
    ``{"state": …, "certificates": {NAME: FINGERPRINT}}``: all that this client may have and
    that is there. Where that is still STATE, the answer waits for up to SECONDS, and is 304
    if nothing has changed by then.

``GET /v1/certificates/NAME?since=FINGERPRINT``
    ``{"name": …, "version": …, "fullchain": PEM, "key": PEM}``, or 304 where the current one
    has that fingerprint. ``key`` is "" where the hub never had it.

Everything else is 404, whatever there is; and 403, where the certificate of the client is
good, but no table is for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from certd.model import Bundle
from certd.secrets import Secret

PATH = "/v1/certificates"
LONGEST_WAIT = 60.0  # seconds that a hub lets a question wait, whatever is asked for
MOST_REQUEST = 8 * 1024  # bytes of request line and headers
END = b"\r\n\r\n"

_LINE = re.compile(rb"GET (/[!-~]*) HTTP/1\.1\r\n")
_NAME = re.compile(r"/([A-Za-z0-9][A-Za-z0-9._-]{0,80})")
_BODY = re.compile(
    rb"\r\n(?:content-length|transfer-encoding|expect|upgrade)[ \t]*:", re.IGNORECASE
)
_LAST = re.compile(rb"\r\nconnection[ \t]*:[ \t]*close[ \t]*\r\n", re.IGNORECASE)
_WAIT = re.compile(r"[0-9]{1,4}")
_HEX = re.compile(r"[0-9a-f]{64}")
_REASONS = {200: "OK", 304: "Not Modified", 403: "Forbidden", 404: "Not Found"}


@dataclass(frozen=True, slots=True)
class Request:
    """``name`` None: for the list."""

    name: str | None
    since: str = ""
    wait: float = 0.0  # seconds
    last: bool = False  # on its connection


@dataclass(frozen=True, slots=True)
class Given:
    """A certificate as a hub gave it: nothing of it is checked but its form."""

    version: int  # there
    fullchain_pem: str
    key_pem: Secret


@dataclass(frozen=True, slots=True)
class Listed:
    """What a hub has for this client: fingerprints by name; ``state`` stands for all of it."""

    state: str
    certificates: Mapping[str, str]


class Malformed(ValueError):
    """An answer that is none; the text says what is wrong, and repeats nothing of it."""


def request(head: bytes) -> Request | None:
    """What is asked for by these headers, ``END`` included; None: nothing that there is."""
    line = _LINE.match(head)
    if line is None or _BODY.search(head):
        return None
    try:
        url = urlsplit(line[1].decode("ascii"))
        asked = dict(parse_qsl(url.query, strict_parsing=bool(url.query), max_num_fields=4))
    except ValueError:
        return None
    if not asked.keys() <= {"since", "wait"} or not url.path.startswith(PATH):
        return None
    rest = url.path.removeprefix(PATH)
    name = _NAME.fullmatch(rest)
    wait = asked.get("wait", "0")
    if (rest and not name) or not _WAIT.fullmatch(wait):
        return None
    seconds = min(float(wait), LONGEST_WAIT)
    last = bool(_LAST.search(head))
    return Request(name[1] if name else None, asked.get("since", ""), seconds, last)


def reply(status: int, body: bytes = b"", *, last: bool = False) -> bytes:
    """The octets of an answer; after the ``last`` one the connection is closed."""
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", "Cache-Control: no-store"]
    if body:
        lines.append("Content-Type: application/json")
    if status != 304:  # which has none by itself (RFC 9110 section 15.4.5)
        lines.append(f"Content-Length: {len(body)}")
    lines.append(f"Connection: {'close' if last else 'keep-alive'}")
    return "\r\n".join(lines).encode("ascii") + END + body


def listed(certificates: Mapping[str, str]) -> Listed:
    text = json.dumps(certificates, sort_keys=True)
    return Listed(hashlib.sha256(text.encode()).hexdigest(), certificates)


def list_body(found: Listed) -> bytes:
    return json.dumps({"state": found.state, "certificates": dict(found.certificates)}).encode()


def certificate_body(bundle: Bundle) -> bytes:
    return json.dumps(
        {
            "name": bundle.name,
            "version": bundle.version,
            "fullchain": bundle.fullchain_pem,
            "key": bundle.key_pem.reveal(),
        }
    ).encode()


def read_list(body: bytes) -> Listed:
    """
    Raises:
        Malformed: it is no list.
    """
    found = _object(body)
    state, certificates = found.get("state"), found.get("certificates")
    if not isinstance(state, str) or not _HEX.fullmatch(state):
        raise Malformed("it names no state")
    if not isinstance(certificates, dict) or not all(
        isinstance(value, str) and _HEX.fullmatch(value) for value in certificates.values()
    ):
        raise Malformed("it names no certificates")
    return Listed(state, certificates)


def read_certificate(body: bytes, name: str) -> Given:
    """
    Raises:
        Malformed: it is no certificate, or not that one.
    """
    found = _object(body)
    version, fullchain, key = (found.get(part) for part in ("version", "fullchain", "key"))
    if found.get("name") != name:
        raise Malformed("it is of another certificate than was asked for")
    if not isinstance(version, int) or not isinstance(fullchain, str) or not isinstance(key, str):
        raise Malformed("it has no version, no fullchain or no key")
    return Given(version, fullchain, Secret(key))


def _object(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("it is not JSON") from None  # it may hold a key
    if not isinstance(found, dict):
        raise Malformed("it is JSON of another kind")
    return found
