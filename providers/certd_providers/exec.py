"""A program of the operator's, for a DNS server or a vendor that nothing else here knows.

    PROGRAM… add NAME VALUE       publish this value; the other values at that name MUST stay
    PROGRAM… remove NAME VALUE    remove this value only; an absent one is success

It is run without a shell, with nothing to read, in a session of its own. Its environment is
PATH, LANG and ``CERTD_ZONE`` (the zone that NAME is in), ``CERTD_LABEL`` (NAME within that, ""
at its apex) and ``CERTD_TTL`` (seconds). NAME is in lower case and has no final dot; VALUE has no
quotes, is of the letters of base64url and so may begin with "-". Either call may come again for
the same record, for after a time-out nobody knows what was done. Several may run at once, never
two for one name.

Its exit status says what became of it (sysexits.h has the names):

    0         done, or there was nothing to do
    75        EX_TEMPFAIL: a passing failure; tried again soon
    77        EX_NOPERM: the credential is refused; not asked again before somebody acts
    others    it failed, and would again

What it wrote last is shown where it failed. A secret has no place among its arguments, which
every user of the machine can see: let the program read it from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    TxtRecord,
    check_program,
    run_program,
    said,
)

BUSY, DENIED = 75, 77  # EX_TEMPFAIL and EX_NOPERM of sysexits.h
LONGEST = 3600.0  # seconds: an order does not live for much longer
_BY_HAND = "run the program by hand, as certd's user, to see what it lacks"


def _check_argv(argv: Sequence[str]) -> None:
    if not argv:
        todo = 'write program and arguments, as in ["/usr/local/bin/txt"]'
        raise ConfigError("there is no program in it", "", todo)
    check_program(argv)


def _check_timeout(seconds: float) -> None:
    if not 0 < seconds <= LONGEST:
        what = f"{seconds:g} is no time limit"
        raise ConfigError(what, "it is in seconds", f"write a number above 0, {LONGEST:g} at most")


@dataclass(frozen=True, slots=True)
class Exec:
    """A program of your own that adds and removes TXT records."""

    credential: ClassVar[str] = "the program has its own; it needs to change TXT records only"

    argv: tuple[str, ...] = field(
        metadata={
            "description": "program and arguments, never a shell; add NAME VALUE, or remove NAME"
            " VALUE, is put after them",
            "check": _check_argv,
            "example": ["/usr/local/bin/txt"],
            "missing": "it is what writes the records",
        }
    )
    program_timeout: float = field(
        default=60.0,
        metadata={
            "description": "seconds after which it and all that it started are killed",
            "check": _check_timeout,
        },
    )
    exclusive: Literal["name", "zone"] = field(
        default="name",
        metadata={
            "description": '"zone" where it changes more than the one name, as by writing a whole'
            " zone: then it is never run twice at once for a zone"
        },
    )

    def add_txt(self, record: TxtRecord) -> None:
        self._run("add", record)

    def remove_txt(self, record: TxtRecord) -> None:
        self._run("remove", record)

    def _run(self, verb: str, record: TxtRecord) -> None:
        what = f"{self.argv[0]} {verb} {record.name} failed"
        variables = {
            "CERTD_ZONE": record.zone,
            "CERTD_LABEL": record.label,
            "CERTD_TTL": str(record.ttl),
        }
        try:
            command = [*self.argv, verb, record.name, record.value]
            ended = run_program(command, variables, self.program_timeout)
        except OSError as error:
            why = f"it cannot be started: {error.strerror}"
            raise ProviderError(what, why, "correct argv = […], or install the program") from error
        if not ended.how:
            return
        why = f"it {ended.how}{said(ended.output + ended.errors)}"
        if not ended.by_itself:
            raise ProviderBusy(what, why, "see why it hangs, or raise program_timeout")
        if ended.status == BUSY:
            raise ProviderBusy(what, why, "it is tried again by itself")
        if ended.status == DENIED:
            raise ProviderDenied(what, why, "give the program a credential that may change TXT")
        raise ProviderError(what, why, _BY_HAND)
