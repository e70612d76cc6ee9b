"""Which line each table, key and list element of a TOML text stands on.

``tomllib`` checks the text but keeps no places, so this scanner walks it once more, only
when there is an error to show. It trusts that the text is valid, gives the nearest
enclosing place for what it does not know, and never fails.
"""

from __future__ import annotations

import bisect
import contextlib
import re
from collections.abc import Sequence

Location = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


class Places:
    """Lines, counted from 1, by location: ``("certificate", "www", "names", 0)``."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._starts = [0, *(match.end() for match in re.finditer(r"\n", self._text))]
        self._offsets: dict[Location, int] = {}
        self._lists: dict[Location, int] = {}  # how many elements an array of tables has
        # Lost or not, what was found so far helps.
        with contextlib.suppress(_Lost, RecursionError):
            self._scan()

    def line(self, location: Sequence[str | int]) -> int:
        """The line of the location, or of the nearest thing around it; 1 for none at all."""
        wanted = tuple(location)
        while wanted and wanted not in self._offsets:
            wanted = wanted[:-1]
        return bisect.bisect_right(self._starts, self._offsets[wanted]) if wanted else 1

    def _scan(self) -> None:
        table: Location = ()
        at = self._skip(_BLANK, 0)
        while at < len(self._text):
            if self._text[at] == "[":
                table, at = self._header(at)
            else:
                at = self._pair(table, at)
            at = self._skip(_BLANK, at)

    def _header(self, at: int) -> tuple[Location, int]:
        begin = at
        brackets = 2 if self._text.startswith("[[", at) else 1
        keys, at = self._keys(at + brackets)
        table: Location = self._enter(keys[:-1]) + keys[-1:]
        if brackets == 2:
            element = self._lists.get(table, 0)
            self._lists[table] = element + 1
            self._offsets.setdefault(table, begin)
            table = (*table, element)
        self._note(table, begin)
        # A table that was only implied so far gets the place where it is written itself.
        self._offsets[table] = begin
        return table, at + brackets

    def _enter(self, keys: Location) -> Location:
        """The keys of a header, with the element that each array of tables stands at."""
        table: Location = ()
        for key in keys:
            table = (*table, key)
            if table in self._lists:
                table = (*table, self._lists[table] - 1)
        return table

    def _pair(self, table: Location, at: int) -> int:
        """One ``key = value`` from its first character on; gives where it ends."""
        begin = at
        keys, at = self._keys(at)
        if not self._text.startswith("=", at):
            raise _Lost
        for depth in range(len(table) + 1, len(table) + len(keys) + 1):
            self._offsets.setdefault((table + keys)[:depth], begin)
        return self._value(table + keys, self._skip(_SPACE, at + 1))

    def _keys(self, at: int) -> tuple[Location, int]:
        keys: list[str] = []
        while True:
            at = self._skip(_SPACE, at)
            match = _STRING.match(self._text, at) or _BARE.match(self._text, at)
            if match is None:
                raise _Lost
            keys.append(_unquoted(match.group()))
            at = self._skip(_SPACE, match.end())
            if not self._text.startswith(".", at):
                return tuple(keys), at
            at += 1

    def _value(self, location: Location, at: int) -> int:
        opening = self._text[at : at + 1]
        if opening in ("[", "{"):
            return self._several(location, at + 1, "]" if opening == "[" else "}")
        match = _STRING.match(self._text, at) or _SCALAR.match(self._text, at)
        if match is None or match.end() == at:
            raise _Lost
        return match.end()

    def _several(self, location: Location, at: int, closing: str) -> int:
        """The elements of a list or the pairs of an inline table, up to its end."""
        element = 0
        while True:
            at = self._skip(_BLANK, at)
            if self._text.startswith(closing, at):
                return at + 1
            if closing == "]":
                self._offsets[(*location, element)] = at
                at = self._value((*location, element), at)
                element += 1
            else:
                at = self._pair(location, at)
            at = self._skip(_BLANK, at)
            if self._text.startswith(",", at):
                at += 1
            elif not self._text.startswith(closing, at):
                raise _Lost

    def _note(self, table: Location, offset: int) -> None:
        for depth in range(1, len(table) + 1):
            self._offsets.setdefault(table[:depth], offset)

    def _skip(self, blank: re.Pattern[str], at: int) -> int:
        match = blank.match(self._text, at)
        return match.end() if match else at


class _Lost(Exception):
    """The text is not what the scanner took it for."""


def _unquoted(key: str) -> str:
    if key.startswith("'"):
        return key[1:-1]
    if not key.startswith('"'):
        return key
    if "\\" not in key:
        return key[1:-1]
    # Escapes are rare in a key: let the real parser read them.
    import tomllib

    try:
        return str(next(iter(tomllib.loads(f"{key} = 0"))))
    except tomllib.TOMLDecodeError:
        raise _Lost from None
