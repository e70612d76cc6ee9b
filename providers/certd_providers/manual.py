"""By hand: what is to be published is printed, and waited for.

For a first try, or a zone that no program may change: the record is printed where the command
runs, somebody publishes it, and certd goes on when the zone's name servers have it (``timeout`` of
the table, ten minutes if nothing is said). Nothing renews by itself so: the daemon passes such
certificates over, and says so. An alias (CNAME) of ``_acme-challenge`` into a zone that a program
may change, or dns-persist-01, is for good.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

from certd.api import TxtRecord
from certd_providers.txt import quoted


@dataclass(frozen=True, slots=True)
class Manual:
    """Records that you publish yourself, while `certd renew` waits."""

    credential: ClassVar[str] = "none: you publish what is printed, and take it away again"
    by_hand: ClassVar[bool] = True

    def add_txt(self, record: TxtRecord) -> None:
        _print(f"publish  {record.name}. {record.ttl} IN TXT {quoted(record.value)}")

    def remove_txt(self, record: TxtRecord) -> None:
        _print(f"remove   {record.name}. {record.ttl} IN TXT {quoted(record.value)}")


def _print(line: str) -> None:
    # Not among the results of the command, which may go into a pipe.
    if sys.stderr is not None:
        sys.stderr.write(f"{line}\n")  # at once, or lines of several threads would be mixed
        sys.stderr.flush()
