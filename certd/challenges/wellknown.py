"""HTTP-01 on the wire: path, token, request and answers (RFC 8555 section 8.3). No I/O.

A token comes from the CA and ends up in paths and file names: nothing may use one that
has not been through ``checked``.
"""

from __future__ import annotations

import re

from certd.errors import ChallengeError

FOLDER = (".well-known", "acme-challenge")
PREFIX = "/" + "/".join(FOLDER) + "/"

# RFC 8555 asks for 128 bits in base64url, which takes 22 characters. The upper bound is
# ours: no CA comes near it, and it keeps a file name below every file system's limit.
TOKEN = r"[A-Za-z0-9_-]{22,128}"  # noqa: S105 - the shape of a token, not one
_TOKEN = re.compile(TOKEN)

# Matches the start of a request that gets a token: method, token.
REQUEST = re.compile(
    rb"(GET|HEAD) %b(%b) HTTP/1\.[01]\r\n" % (re.escape(PREFIX.encode()), TOKEN.encode())
)
END_OF_HEAD = b"\r\n\r\n"

# In the request of certd's own look at a challenge. The CA's fetch is still to come then.
OWN_LOOK = b"User-Agent: Mozilla/5.0 (compatible; certd self-check)\r\n"

# No body, so that it is right for HEAD too, and the same bytes for everything: a stranger
# learns nothing from it, not even whether a path was close.
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def nothing_else(received: bytes) -> bytes:
    """The answer to a whole request that is for no token, whatever it is."""
    return NOT_FOUND


def checked(token: str) -> str:
    """The token itself.

    Raises:
        ChallengeError: it is not one that RFC 8555 allows; it is not shown, for it may
            hold anything.
    """
    if _TOKEN.fullmatch(token):
        return token
    raise ChallengeError(
        "the CA sent a challenge token that is not usable",
        f"{len(token)} characters, not 22 to 128 of the base64url alphabet",
        "report this to the CA; nothing was written or served",
    )


def found(key_authorization: str) -> bytes:
    """The answer to a GET; for HEAD it is cut after END_OF_HEAD."""
    body = key_authorization.encode("ascii")
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    )
