"""What is wrong with a configuration, and where: one finding a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from certd.errors import ConfigError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, shown as ``file:line: [table] key: what: why; next``.

    ``line`` is None where the file as a whole is meant; ``table`` and ``key`` are empty
    where they say nothing. None of it may hold a secret.
    """

    file: str
    line: int | None
    what: str
    why: str = ""
    next: str = ""
    table: str = ""
    key: str = ""

    def __str__(self) -> str:
        text = str(ConfigError(self.what, self.why, self.next))
        if self.key:
            text = f"{self.key}: {text}"
        if self.table:
            text = f"[{self.table}] {text}" if self.key else f"[{self.table}]: {text}"
        return _printable(text if self.line is None else f"{self.file}:{self.line}: {text}")


class BadConfig(ConfigError):
    """Everything that is wrong with a configuration, in the order of its lines."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(sorted(findings, key=lambda finding: finding.line or 0))
        super().__init__("\n".join(map(str, self.findings)))


def shown(text: str) -> str:
    """The text in quotes, on one line, without anything that a terminal would obey."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def dotted(keys: Iterable[object]) -> str:
    """Keys as TOML writes them: ``certificate.www``, ``target."my web"``."""
    return ".".join(
        key if isinstance(key, str) and _BARE_KEY.fullmatch(key) else shown(str(key))
        for key in keys
    )


def _printable(text: str) -> str:
    """A stranger's words may have anything in them: one finding stays one line."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
