"""Every error that certd raises on purpose: what happened, why, what to do next.

The type says who must act. Anything else that reaches the boundary of a job is a
bug of ours, and is shown as one.
"""

from __future__ import annotations

from datetime import datetime

MOST_WORDS = 500  # characters of a stranger's own words that are shown


class CertdError(Exception):
    """What happened (``what``), why (``why``), and what to do next (``next``).

    ``why`` and ``next`` may be empty; none of the three may hold a secret.
    """

    def __init__(self, what: str, why: str = "", next: str = "") -> None:
        super().__init__(what, why, next)
        self.what = what
        self.why = why
        self.next = next

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}; {self.next}" if self.next else text


class ConfigError(CertdError):
    """The operator must change the configuration; trying again is useless."""


class NotHere(ConfigError):
    """The setting may be right, but this machine lacks what it names.

    What a machine lacks can vanish after the configuration was found right, and come back:
    the daemon goes on in spite of it, for every other certificate's sake.
    """


class CAError(CertdError):
    """The CA, or the way to it, failed. ``certd.ca.net.Problem`` holds its own words."""


class BadCertificate(CAError):
    """The CA sent something that is not the certificate that was asked for."""


class ExpiredCertificate(BadCertificate):
    """It was good until ``at`` by this machine's clock."""

    def __init__(self, what: str, why: str, next: str, at: datetime) -> None:
        super().__init__(what, why, next)
        self.at = at


class ChallengeError(CertdError):
    """A challenge could not be set up, or was not visible from here; tried again later."""


class ProviderError(CertdError):
    """A DNS provider failed, and would fail again; tried again after a back-off."""


class ProviderBusy(ProviderError):
    """It, or the way to it, failed for a passing reason; the same is tried again soon.

    ``retry_after``: the seconds that it asks to wait; None: it does not say.
    """

    def __init__(
        self, what: str, why: str = "", next: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(what, why, next)
        self.retry_after = retry_after


class ProviderDenied(ProviderError):
    """It refuses the credential, for this or for all: nobody asks it before somebody acts.

    ``zone``: the only one that it is about, where the provider can tell.
    """

    account = ""  # the [dns] table that it is about, once that is known

    def __init__(self, what: str, why: str = "", next: str = "", zone: str = "") -> None:
        super().__init__(what, why, next)
        self.zone = zone


class TargetError(CertdError):
    """A target could not be brought to serve the certificate; tried again later."""


class Unseen(TargetError):
    """It could not be told what a target serves: no reason to believe that it is another."""


class Unread(Unseen):
    """What is in place at a target could not be read: what was deployed there stays."""


class Untouched(TargetError):
    """Nothing was changed at the target, so there is nothing to put back."""


class TargetBusy(Untouched):
    """It, or the way to it, failed for a passing reason (throttled, 5xx, a time-out).

    Nothing is put back for it: what was served is, most probably, served still.
    ``retry_after``: the seconds that it asks to wait; None: it does not say.
    """

    def __init__(
        self, what: str, why: str = "", next: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(what, why, next)
        self.retry_after = retry_after


class Unfit(TargetError):
    """The certificate is served, but not as the policy of its endpoint wants (``tls``, ``hsts``),
    or that could not be judged.

    The version before would not be served in any other way.
    """


class SecretError(CertdError):
    """A secret could not be fetched from where the configuration says; tried again later."""


class StoreError(CertdError):
    """The machine: disk, database, locks."""


def plain(text: str, most: int = MOST_WORDS) -> str:
    """A stranger's words as they may be shown: one line of bounded length, which no
    terminal obeys.
    """
    shown = "".join(char if char.isprintable() else " " for char in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[:most]}…"


def bug(error: Exception) -> CertdError:
    """What to show of an exception that nobody expected: its text may hold anything."""
    return CertdError(
        "certd, or a plugin, made a mistake",
        f"{type(error).__name__}; the traceback is in the log",
        "please report it",
    )
