"""Named places at which a test kills the process.

``CERTD_KILL_AT=n`` ends the process with SIGKILL at the n-th failpoint that it passes,
``CERTD_KILL_AT=name`` at the first one of that name. Unset, a failpoint is one comparison.
The tests sweep n = 1, 2 … until a run survives, so a new transition only needs its
``failpoint("room: what has just happened")`` to be covered.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

_KILL_AT = os.environ.get("CERTD_KILL_AT")
_passed = itertools.count(1)


def failpoint(name: str) -> None:
    if _KILL_AT is None:
        return
    number = next(_passed)
    if _KILL_AT in (str(number), name):
        print(f"failpoint {number}: {name}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
