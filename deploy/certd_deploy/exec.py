"""A program of the operator's, for a place that nothing else here knows.

    PROGRAM… deploy NAME VERSION    make the bundle on standard input the one in place
    LOOK… NAME                      print the fingerprint of the one in place; nothing if none is

The bundle is a JSON document (``certd_deploy.document`` has its keys), and the only way by which
the key is handed over: arguments and environments are for others to see, and files outlive their
use. Standard input is no pipe but a file in memory, which may be read twice.

Both are run without a shell, in a session of their own. The environment is PATH, LANG,
``CERTD_NAME`` and, for ``deploy``, ``CERTD_VERSION`` and ``CERTD_FINGERPRINT``. It may come again
for what is in place (after a time-out nobody knows what was done) and with an older version
(that is the way back); until the new pair works the old one has to. With ``look`` it is not run
for what that says is in place. A fingerprint is the SHA-256 of the leaf's DER in hexadecimal, also
as ``openssl x509 -noout -fingerprint -sha256`` writes it.

The exit status says what became of it (sysexits.h has the names):

    0         done
    75        EX_TEMPFAIL: a passing failure; nothing is put back, and it is tried again
    77        EX_NOPERM: the program's own credential is refused
    others    it failed

What it wrote last is shown where it failed, unless the key is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from certd.api import (
    Bundle,
    ConfigError,
    TargetBusy,
    TargetError,
    check_program,
    failpoint,
    run_program,
    said,
)
from certd_deploy import command
from certd_deploy.document import document, told_fingerprint

BUSY, DENIED = 75, 77  # EX_TEMPFAIL and EX_NOPERM of sysexits.h
_PART = 16  # characters of a key that nothing else has
_BY_HAND = "run the program by hand, as certd's user, to see what it lacks"


def _check_argv(argv: Sequence[str]) -> None:
    if not argv:
        todo = 'write program and arguments, as in ["/usr/local/bin/put"]'
        raise ConfigError("there is no program in it", "", todo)
    check_program(argv)


@dataclass(frozen=True, slots=True)
class Exec:
    """A program of your own that puts certificates in their place."""

    credential: ClassVar[str] = "the program has its own; it needs to change certificates only"

    argv: tuple[str, ...] = field(
        metadata={
            "description": "program and arguments, never a shell; deploy NAME VERSION is put after"
            " them",
            "check": _check_argv,
            "example": ["/usr/local/bin/put"],
            "missing": "it is what puts certificates in their place",
        }
    )
    look: tuple[str, ...] = field(
        default=(),
        metadata={
            "description": "program and arguments that print the fingerprint in place; NAME is put"
            " after them",
            "check": check_program,
            "example": ["/usr/local/bin/put", "serving"],
        },
    )
    program_timeout: float = field(
        default=60.0,
        metadata={
            "description": "seconds after which it and all that it started are killed",
            "check": command.check_timeout,
        },
    )

    def deploy(self, bundle: Bundle) -> None:
        fingerprint = bundle.certificate.fingerprint
        if self.serving(bundle.name) == fingerprint:
            return
        what = f"{self.argv[0]} deploy {bundle.name} {bundle.version} failed"
        variables = {"CERTD_VERSION": str(bundle.version), "CERTD_FINGERPRINT": fingerprint}
        argv = [*self.argv, "deploy", bundle.name, str(bundle.version)]
        self._run(argv, bundle.name, variables, what, bundle)
        failpoint("exec: deployed")

    def serving(self, name: str) -> str | None:
        if not self.look:
            return None
        what = f"{self.look[0]} did not say what is in place for {name}"
        text = self._run([*self.look, name], name, {}, what).decode(errors="replace")
        try:
            return told_fingerprint(text) if text.strip() else ""
        except ValueError as error:
            raise TargetError(what, f"{error}{said(text.encode())}", _BY_HAND) from None

    def _run(
        self,
        argv: Sequence[str],
        name: str,
        variables: Mapping[str, str],
        what: str,
        given: Bundle | None = None,
    ) -> bytes:
        """What it wrote to its standard output, the last of it."""
        variables = {"CERTD_NAME": name, **variables}
        try:
            ended = run_program(
                argv,
                variables,
                self.program_timeout,
                document(given) if given is not None else None,
            )
        except OSError as error:
            why = f"it cannot be started: {error.strerror}"
            raise TargetError(what, why, "correct argv and look, or install the program") from error
        if not ended.how:
            return ended.output
        written = ended.output + ended.errors
        if given is not None and _shows(written, given):
            why = f"it {ended.how}; what it wrote is not shown, for it has the key in it"
        else:
            why = f"it {ended.how}{said(written)}"
        if not ended.by_itself:
            raise TargetBusy(what, why, "see why it hangs, or raise program_timeout")
        if ended.status == BUSY:
            raise TargetBusy(what, why, "it is tried again by itself")
        if ended.status == DENIED:
            raise TargetError(what, why, "give the program a credential that may do it")
        raise TargetError(what, why, _BY_HAND)


def _shows(written: bytes, bundle: Bundle) -> bool:
    """Whether a line of the key is in there, whole or in part: output is cut at its start."""
    lines = bundle.key_pem.reveal().encode().splitlines()[1:-1]
    parts = [line[at : at + _PART] for line in lines for at in range(0, len(line), _PART)]
    return any(part in written for part in parts if len(part) == _PART)
