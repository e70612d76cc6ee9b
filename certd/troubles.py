"""What goes wrong within one attempt before it has failed: how often, and in a row."""

from __future__ import annotations

from certd.react import TRIES

MOST = 4 * TRIES  # refusals in a row of whatever is asked for, within one attempt


class Troubles:
    """Counts them; ``progress`` is whether the order has got further in this attempt.

    Each resource of the CA is given ``TRIES`` repetitions: of a CA that answers every other
    request, an attempt needs a dozen answers.
    """

    def __init__(self) -> None:
        self._url = ""
        self._row = self._all = 0
        self.progress = False

    def count(self, url: str = "") -> int:
        """One more, of what is there; how many in a row these are."""
        self._row = self._row + 1 if url == self._url else 1
        self._url = url
        self._all += 1
        return self._row if self._all <= MOST else self._all

    def over(self) -> None:
        """Something went well."""
        self._row = self._all = 0
