"""Record sets that are read, and written whole without a condition.

Who does the same at the same time may undo it with what was read before. So it is looked at again
after each write, and done again. Others' values that have gone meanwhile are not put back: mostly
their owner has removed them.
"""

from __future__ import annotations

from typing import Protocol

from certd.api import ProviderBusy
from certd_providers.rest import API

WRITES = 2


class Change(Protocol):
    def __call__(self, *, write: bool) -> bool: ...


def until_it_stays(api: API, change: Change) -> None:
    """``change`` reads the set, and says whether it is to be written; if it may, it does so.

    Raises:
        ProviderBusy: each write was undone.
    """
    for write in (*[True] * WRITES, False):
        if not change(write=write):
            return
    raise undone(api)


def undone(api: API) -> ProviderBusy:
    return api.busy("somebody else has undone the change each time")
