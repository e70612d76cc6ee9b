"""Values that must never be printed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class Secret:
    """A text that shows itself as ``***``; ``reveal()`` is the only way to it.

    Equal secrets compare equal, so that values holding one stay values; the text is
    in no ``repr``, ``str``, format, pickle or traceback.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: pass it, or a reference to it")


@contextmanager
def in_memory(secret: Secret) -> Iterator[str]:
    """A path to this text, for what takes files only: on no disk, and for no other user."""
    fd = os.memfd_create("certd", os.MFD_CLOEXEC)
    try:
        with open(fd, "w", encoding="ascii", closefd=False) as file:
            file.write(secret.reveal())
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
