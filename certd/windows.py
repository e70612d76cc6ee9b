"""A CA's renewal window (RFC 9773): the instant drawn from it, and when it is asked for again.

PURE: reads no clock, rolls no dice.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from certd.known import RenewalInfo

ASK_SOON = timedelta(minutes=1)
ASK_SELDOM = timedelta(days=1)
ASK_AFTER_SILENCE = timedelta(hours=6)  # RFC 9773 section 4.3.3


class BadRenewalInfo(ValueError):
    """The window ends before it starts (RFC 9773 section 4.2)."""


def renewal_instant(start: datetime, end: datetime, draw: float) -> datetime:
    """The instant to renew at, uniform in the CA's window (RFC 9773 section 4.2).

    ``draw`` is in [0, 1): the caller rolls the dice once and keeps the result, for a new
    draw on every tick would favour early renewal.

    Raises:
        BadRenewalInfo: the window ends before it starts.
    """
    if end <= start:
        raise BadRenewalInfo("the renewal window ends before it starts")
    return start + (end - start) * draw


def renewal_info(
    start: datetime,
    end: datetime,
    explanation_url: str | None,
    kept: RenewalInfo | None,
    draw: float,
    hold: datetime | None = None,
) -> RenewalInfo:
    """What to remember of an answer: the kept instant, unless the window has changed.

    ``hold``: not before this, whatever the window says (``MOST_A_DAY``).
    """
    if kept is not None and (kept.start, kept.end) == (start, end):
        selected = kept.selected
    else:
        selected = renewal_instant(start, end, draw)
        selected = max(selected, hold) if hold else selected
    return RenewalInfo(start, end, selected, explanation_url)


def ask_again(now: datetime, retry_after: float | None, failures: int) -> datetime:
    """When to ask for renewal information again.

    ``retry_after`` is in seconds, None when the CA gave none; it is held between a minute
    and a day. ``failures`` counts the questions that got no answer at all (time-outs,
    5xx): they are repeated with an exponential back-off up to six hours.
    """
    if failures:
        return now + min(ASK_SOON * (1 << min(failures - 1, 9)), ASK_AFTER_SILENCE)
    if retry_after is None:
        return now + ASK_AFTER_SILENCE
    return now + min(max(timedelta(seconds=retry_after), ASK_SOON), ASK_SELDOM)
