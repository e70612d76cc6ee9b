"""Problem documents and other refusals of a CA (RFC 8555 section 6.7), and Retry-After.

What a CA says is a stranger's text: it is bounded and made plain before it is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from certd.errors import CAError, plain
from certd.react import Asked, Refusal, passing

MOST_SUBPROBLEMS = 20  # of a refusal, shown

_TERMS = re.compile(r"""<([!-~]{1,2048}?)>\s*;[^,<]*rel=["']?terms-of-service""")
_ERROR = "urn:ietf:params:acme:error:"


class Problem(CAError):
    """The CA said no (RFC 8555 section 6.7), or something in its place did not answer.

    ``status`` is None when there was no HTTP answer at all; ``type`` is the ACME error
    without its URN prefix, or "" when the answer was no problem document.
    ``retry_after`` is in seconds from now, as the server asked, or None. ``untrusted``:
    its HTTPS certificate is not what our roots lead to, which only the operator can mend.
    """

    def __init__(
        self,
        url: str,
        status: int | None,
        type: str,
        detail: str,
        *,
        retry_after: float | None = None,
        subproblems: tuple[Mapping[str, Any], ...] = (),
        instance: str | None = None,
        next: str = "",
        untrusted: bool = False,
        asked: Asked | None = None,
        algorithms: tuple[str, ...] = (),
    ) -> None:
        """``asked`` tells what was asked for, where the caller could not know it;
        ``algorithms`` are those that a ``badSignatureAlgorithm`` offers instead.
        """
        shown = plain(url)
        super().__init__(f"the CA refused {shown}" if status else f"could not ask {shown}")
        self.why = plain(detail)
        if status:
            self.why += f" ({plain(type) or 'no problem document'}, HTTP {status})"
        for sub in subproblems[:MOST_SUBPROBLEMS]:
            detail_of_one = str(sub.get("detail", sub.get("type", "")))
            self.why += f"; {plain(_identifier(sub))}: {plain(detail_of_one)}"
        self.next = f"see {plain(instance)}" if instance else next
        self.url = url
        self.status = status
        self.type = type
        self.detail = detail
        self.retry_after = retry_after
        self.subproblems = subproblems
        self.instance = instance
        self.untrusted = untrusted
        self.asked = asked
        self.algorithms = algorithms

    @property
    def refusal(self) -> Refusal:
        kinds = tuple(str(sub.get("type", "")).removeprefix(_ERROR) for sub in self.subproblems)
        return Refusal(
            self.type,
            self.status,
            self.retry_after,
            kinds,
            untrusted=self.untrusted,
            page=_names_a_page(self.instance, self.detail),
        )

    @property
    def transient(self) -> bool:
        """True when the same request may well succeed later, with nothing changed."""
        return passing(self.refusal)


def _names_a_page(instance: str | None, detail: str) -> bool:
    """Not that on which the limits are explained, beside the time at which one is over."""
    timed = "retry after" in detail.lower()
    return not timed and "https://" in (instance or detail)


class NoJSON(CAError):
    """A good status, and a body of somebody in between: the same request may well succeed."""


def _identifier(subproblem: Mapping[str, Any]) -> str:
    identifier = subproblem.get("identifier")
    return str(identifier.get("value")) if isinstance(identifier, dict) else "?"


def problem_of(url: str, status: int, headers: Mapping[str, str], body: bytes) -> Problem:
    wait = retry_after(headers.get("retry-after"), datetime.now(UTC))
    if status < 400:
        return Problem(url, status, "", "it redirects, which an ACME server must not")
    try:
        document = json.loads(body)
        kind = document.get("type", "")
        subproblems = document.get("subproblems") or ()
        instance = document.get("instance") or _terms(kind, headers)
        algorithms = document.get("algorithms") or ()
        return Problem(
            url,
            status,
            kind.removeprefix(_ERROR),
            str(document.get("detail") or document.get("title") or "no detail given"),
            retry_after=wait,
            subproblems=tuple(sub for sub in subproblems if isinstance(sub, dict)),
            instance=instance if isinstance(instance, str) else None,
            algorithms=tuple(name for name in algorithms if isinstance(name, str)),
        )
    except (ValueError, AttributeError, TypeError, RecursionError):
        return Problem(url, status, "", glimpse(body), retry_after=wait)


def _terms(kind: str, headers: Mapping[str, str]) -> str | None:
    """Where terms have changed, where they are (RFC 8555 section 7.3.3)."""
    found = _TERMS.search(headers.get("link", "")) if kind.endswith("userActionRequired") else None
    return found[1] if found else None


def glimpse(body: bytes) -> str:
    """What the body is, in a few words, for an error message."""
    if not body:
        return "the body is empty"
    text = body[:200].decode("utf-8", "replace")
    kind = "an HTML page" if "<html" in text.lower() or "<!doctype" in text.lower() else "it"
    shown = "".join(char if char.isprintable() else " " for char in text[:80]).strip()
    return f"{kind} begins with {shown!r}"


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110 section 10.2.3).

    None when the header is absent or is neither; never negative, at most a day, so that
    no CA can stop a certificate for good.
    """
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        seconds = float(header.lstrip("0")[:9] or 0)
    else:
        try:
            instant = parsedate_to_datetime(header)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        try:
            seconds = (instant - now).total_seconds()
        except OverflowError:
            return None
    return min(max(seconds, 0.0), 86400.0)
