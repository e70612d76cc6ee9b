"""Whose turn it is where many want something of which there is only so much. For asyncio."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """``most`` at once, of one owner ``each``; who waits is let in owner by owner.

    So an owner with a hundred that last does not hold up another's one. Within one event
    loop only.
    """

    def __init__(self, most: int, each: int) -> None:
        self._free = most
        self._each = each
        self._taken: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def one(self, owner: str) -> AsyncIterator[None]:
        """A turn, for as long as the context lasts."""
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(mine)
        self._let_in()
        try:
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():  # it was let in while it was given up
                self._back(owner)
            raise
        try:
            yield
        finally:
            self._back(owner)

    def _back(self, owner: str) -> None:
        self._free += 1
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]
        self._let_in()

    def _let_in(self) -> None:
        for owner in list(self._waiting) if self._free else ():
            line = self._waiting[owner]
            while line and line[0].cancelled():
                line.popleft()
            if line and self._free and self._taken[owner] < self._each:
                line.popleft().set_result(None)
                self._free -= 1
                self._taken[owner] += 1
                self._waiting.move_to_end(owner)
            if not line:
                del self._waiting[owner]
