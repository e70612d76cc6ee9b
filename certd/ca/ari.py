"""Renewal information (RFC 9773): asking, and reading the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from certd.ca.issuer import Issuer
from certd.ca.net import is_url
from certd.ca.problem import Problem
from certd.errors import CAError, plain


@dataclass(frozen=True, slots=True)
class Window:
    """A CA's suggestion; ``retry_after`` is in seconds, None when the CA gave none."""

    start: datetime
    end: datetime
    explanation_url: str | None
    retry_after: float | None


class NoAnswer(CAError):
    """There is no usable window; ``silent`` when the CA could not be reached at all."""

    def __init__(self, why: str, *, silent: bool) -> None:
        super().__init__("no renewal information", why, "certd falls back to the lifetime")
        self.silent = silent


def ask(client: Issuer, ari_id: str) -> Window:
    """The window for one certificate.

    Raises:
        NoAnswer: the CA did not answer, or with nothing that RFC 9773 allows.
    """
    try:
        reply = client.renewal_info(ari_id)
        window = reply.json()["suggestedWindow"]
        start, end = _instant(window["start"]), _instant(window["end"])
        explanation = reply.json().get("explanationURL")
    except Problem as problem:
        raise NoAnswer(str(problem), silent=problem.transient or problem.untrusted) from problem
    except (CAError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # OverflowError: the first of January of year 1 in Asia is the year 0 in UTC.
        why = f"the answer is not what RFC 9773 says ({plain(str(error))})"
        raise NoAnswer(why, silent=False) from error
    if end <= start:
        raise NoAnswer("the window ends before it starts", silent=False)
    if not (is_url(explanation) and explanation.startswith("https://")):
        explanation = None  # it is kept, and shown
    return Window(start, end, explanation, reply.retry_after)


def _instant(text: str) -> datetime:
    """RFC 3339; one without an offset is taken as UTC."""
    instant = datetime.fromisoformat(text)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
