"""Mozilla's guidelines for TLS, https://wiki.mozilla.org/Security/Server_Side_TLS.

They are judged by sslyze, an extra that is run and never imported: it opens some hundred
connections and takes memory for all that it knows, and need not share certd's libraries (see
docs/decisions.md). It brings the guidelines with it, and asks nobody but the endpoint.
"""

from __future__ import annotations

import re

from certd.errors import Unseen, plain
from certd.program import located, run_program, said
from certd.verify.probing import Way

PROGRAM = "sslyze"
SECONDS = 60.0  # for the whole of it: about two, where the endpoint is near
_MOST = 12  # violations that are shown

_GOOD, _BAD = ": OK - Compliant.", ": FAILED - Not compliant."
_ISSUE = re.compile(r"^ +\* (\w+): (.*)$", re.MULTILINE)
_ERROR = re.compile(r"=> ERROR: ([^\n]*)")
# Whether the chain is trusted is judged by ``roots`` and ``pins``: a CA of one's own is no
# violation.
_NOT_OURS = {"certificate_path_validation"}


def violations(way: Way, policy: str) -> list[str]:
    """In which ways the server there is not as the policy ("modern", "intermediate") wants it.

    Raises:
        Unseen: it could not be found out.
    """
    what = f"{way.where} could not be judged by Mozilla's guideline"
    address = f"[{way.address}]" if ":" in way.address else way.address
    argv = [located(PROGRAM) or PROGRAM, f"--mozilla_config={policy}"]
    argv += [f"--sni={way.sni}"] if way.sni else []
    argv += [f"--starttls={way.starttls}"] if way.starttls else []
    argv += [f"{address}:{way.port}"]
    try:
        ended = run_program(argv, {}, SECONDS)
    except OSError as missing:
        raise Unseen(what, f"there is no program {PROGRAM}", "install it") from missing
    output = ended.output.decode(errors="replace")
    # Both: it ends with 0 where it could not connect too, and what a stranger's certificate is
    # named is in its words.
    if ended.status == 0 and _GOOD in output:
        return []
    if ended.status != 1 or _BAD not in output:
        error = _ERROR.search(output)
        words = plain(error[1], 200) if error else f"{ended.how}{said(ended.errors)}"
        why = f"{PROGRAM}: {words or 'no judgement'}"
        raise Unseen(what, why, f"see what `{' '.join(argv)}` says")
    issues = _ISSUE.findall(output.rpartition(_BAD)[2])
    listed = [plain(f"{key}: {text}") for key, text in issues if key not in _NOT_OURS]
    return [*listed[:_MOST], *([f"and {len(listed) - _MOST} more"] if listed[_MOST:] else [])]
