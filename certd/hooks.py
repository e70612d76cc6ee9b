"""The operator's programs before and after each deployment to a target.

They get PATH, LANG and these variables: CERTD_HOOK (pre or post), CERTD_NAME, CERTD_VERSION,
CERTD_NAMES (separated by spaces), CERTD_NOT_AFTER (RFC 3339), CERTD_FINGERPRINT (SHA-256 of the
leaf), CERTD_TARGET, and CERTD_RESULT, afterwards: verified, failed or rolled-back.
"""

from __future__ import annotations

from collections.abc import Sequence

from certd.errors import Untouched
from certd.model import Bundle
from certd.program import run_program, said


class HookFailed(Untouched):
    """It could not be started, took too long, or its exit status was not 0."""


def run(
    which: str,
    argv: Sequence[str],
    bundle: Bundle,
    target: str,
    timeout_seconds: float,
    result: str = "",
) -> None:
    """Run ``pre_hook`` or ``post_hook`` to its end, if there is one.

    Raises:
        HookFailed: it could not be started, took too long, or its exit status is not 0.
    """
    if not argv:
        return
    facts = bundle.certificate
    variables = {
        "CERTD_HOOK": which.removesuffix("_hook"),
        "CERTD_NAME": bundle.name,
        "CERTD_VERSION": str(bundle.version),
        "CERTD_NAMES": " ".join(name.value for name in facts.identifiers),
        "CERTD_NOT_AFTER": f"{facts.not_after:%Y-%m-%dT%H:%M:%SZ}",
        "CERTD_FINGERPRINT": facts.fingerprint,
        "CERTD_TARGET": target,
        "CERTD_RESULT": result,
    }
    what = f"{which} of {target} has failed"
    try:
        ended = run_program(argv, variables, timeout_seconds)
    except OSError as error:
        why = f"{argv[0]} cannot be started: {error.strerror}"
        raise HookFailed(what, why, f"correct {which}, or install the program") from error
    if ended.how:
        todo = "run it by hand to see what it lacks"
        if not ended.by_itself:
            todo = "see why it hangs, or raise hook_timeout"
        why = f"{argv[0]} {ended.how}{said(ended.output + ended.errors)}"
        raise HookFailed(what, why, todo)
