"""A conversation with HAProxy's Runtime API: one command, and one connection, at a time.

Its answers are for people, and a failure is one of them: each is compared with what a success
says. https://docs.haproxy.org/2.6/management.html#9.3
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certd.api import TargetBusy, TargetError, said

_PATIENCE = 10.0  # seconds for an answer, and for another certd thread to be done
_PAUSE = 0.02
_MOST = 1024 * 1024  # octets of an answer


@dataclass(frozen=True, slots=True)
class Shown:
    """What ``show ssl cert`` says of one; ``sha1`` is "" of an empty store."""

    there: bool
    sha1: str
    chain: bool

    def has(self, sha1: str, chain: bool) -> bool:
        return self.sha1 == sha1 and self.chain == chain


@dataclass(frozen=True, slots=True)
class Runtime:
    """``what`` opens the errors."""

    path: Path
    what: str

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other certd, and no other thread of this, has a transaction meanwhile.

        HAProxy has one transaction for all certificates: a second ``set`` for another
        name would change what the first one commits.
        """
        deadline = time.monotonic() + _PATIENCE
        with self._explained():
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while True:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        why = "another deployment to it is not done"
                        raise TargetBusy(self.what, why, "") from None
                    time.sleep(_PAUSE)
            yield
        finally:
            os.close(folder)

    def ask(self, command: str) -> str:
        """The answer, whatever it says.

        Raises:
            TargetBusy: none came in time.
            TargetError: there is nobody to ask, or the socket may not do this.
        """
        with self._explained(), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(str(self.path))
            connection.sendall(f"{command}\n".encode())
            connection.shutdown(socket.SHUT_WR)
            answer = bytearray()
            while len(answer) < _MOST and (chunk := connection.recv(65536)):
                answer += chunk
        text = answer.decode(errors="replace").strip()
        # The second is what HAProxy 2.6 says to `show ssl cert` at `level user`.
        if text.startswith(("Permission denied", "Can't allocate memory!")):
            why = f"{self.path}: Permission denied"
            raise TargetError(self.what, why, "give the socket `level admin`")
        return text

    def expect(self, verb: str, about: str, success: str, payload: str = "") -> None:
        """Raise TargetError unless the answer has ``success`` in it."""
        answer = self.ask(f"{verb} {about} <<\n{payload}\n" if payload else f"{verb} {about}")
        if success not in answer:
            how = f"was answered{said(answer.encode())}" if answer else "was not answered"
            raise TargetError(self.what, f"`{verb} {about}` {how}", "see its log")

    def show(self, stored: str) -> Shown:
        answer = self.ask(f"show ssl cert {stored}")
        there = answer.startswith(f"Filename: {stored}\n")
        sha1 = re.search(r"^SHA1 FingerPrint: ([0-9A-F]{40})$", answer, re.MULTILINE)
        chain = re.search(r"^Chain Subject: ", answer, re.MULTILINE)
        return Shown(there, sha1[1].lower() if there and sha1 else "", bool(chain))

    def words(self, command: str) -> set[str]:
        """The first word of each line."""
        return {line.split()[0] for line in self.ask(command).splitlines() if line.split()}

    def refuse_foreign(self, stored: str) -> None:
        """Raise TargetBusy if somebody has a transaction for another certificate."""
        for word in self.words("show ssl cert"):
            if word.startswith("*") and word != f"*{stored}":
                raise TargetBusy(
                    self.what,
                    f"a transaction of {word[1:]} is neither committed nor aborted",
                    f"if nobody is at it any more: `abort ssl cert {word[1:]}` on its socket",
                )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise TargetBusy(self.what, f"{self.path} does not answer", "see its log") from error
        except OSError as error:
            raise TargetError(
                self.what,
                f"{self.path}: {error.strerror or error}",
                "start HAProxy, and let certd's user into the group of its `stats socket`",
            ) from error
