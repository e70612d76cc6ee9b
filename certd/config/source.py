"""The configuration's file: its bytes, its text, and the one thing that is read cheaply.

Nothing here may import pydantic.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from certd.config.findings import BadConfig, Finding, shown
from certd.config.values import DEFAULT_STATE
from certd.references import read_file

LARGEST = 64 * 1024 * 1024  # bytes: some 300,000 certificates
_LAST_LINE = "(at end of document)"
_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_OCTAL = re.compile(r"\s*([\w.-]+)\s*=\s*(0[0-7]+)\s*(?:#.*)?")

_CERTD_HEADER = re.compile(r"[ \t]*\[[ \t]*certd[ \t]*\][ \t]*(?:#.*)?")
_NEXT_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)
# Other ways to write the same table: "certd".state = …, certd = {…}, ["certd"].
_OTHER_FORM = re.compile(r"""[ \t]*(?:\[[ \t]*)?(?:certd[ \t]*[.=]|['"]certd)""")
_ESCAPED_KEY = re.compile(r"""^[ \t]*(?:\[[ \t]*)?"[^"\n]*\\""", re.MULTILINE)

# The time that tomllib takes grows with the square of a key's parts. No DNS name has more
# labels than this, so that nothing that means anything looks like such a key.
MOST_PARTS = 128
_PART = r"""[\w'"-]++[ \t]*+\.[ \t]*+"""
_ENDLESS_KEY = re.compile(rf"""(?<![\w'"-])(?:{_PART}){{{MOST_PARTS}}}""")


@dataclass(frozen=True, slots=True)
class Source:
    """One reading of the file. ``name`` is how findings call it."""

    name: str
    folder: Path  # absolute: what relative paths are relative to
    text: str
    digest: str
    tables: dict[str, Any] | None = None  # in place of a text

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Source:
        """What a program says instead of a file. Paths are relative to where it runs.

        Raises:
            BadConfig: something in it could not stand in a file.
        """
        try:
            text = json.dumps(tables, default=_path_text, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadConfig([Finding("", None, "not a configuration", str(error))]) from None
        digest = hashlib.sha256(text.encode()).hexdigest()
        return cls("", Path.cwd(), "", digest, json.loads(text))

    def parse(self) -> dict[str, Any]:
        """The text as TOML.

        Raises:
            BadConfig: it is not TOML, or has a key that nobody meant.
        """
        if self.tables is not None:
            return self.tables
        for number, line in enumerate(self.text.split("\n"), 1):
            if line.count(".") >= MOST_PARTS and _ENDLESS_KEY.search(line):
                why = f"it has a key of more than {MOST_PARTS} parts"
                finding = Finding(self.name, number, "not a configuration", why, "correct the line")
                raise BadConfig([finding])
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise BadConfig([self._syntax(str(error))]) from None
        except ValueError as error:  # a number of more digits than Python converts
            raise BadConfig([Finding(self.name, 1, "not TOML", str(error))]) from None
        except RecursionError:
            raise BadConfig(
                [Finding(self.name, 1, "not a configuration", "it is nested too deeply")]
            ) from None

    def _syntax(self, message: str) -> Finding:
        lines = self.text.split("\n")
        number, column = len(lines), ""
        if place := _PLACE.search(message):
            number, column = int(place[1]), f" (column {place[2]})"
        reason = message.removesuffix(_LAST_LINE)
        reason = _PLACE.sub("", reason).strip()
        reason = reason if reason.isprintable() else shown(reason)[1:-1]
        line = lines[number - 1] if 0 < number <= len(lines) else ""
        if octal := _OCTAL.fullmatch(line):
            key, digits = octal.groups()
            return Finding(
                self.name,
                number,
                "not TOML",
                "a number does not begin with 0",
                f'write it in quotes: {key} = "{digits}"',
            )
        where = column or " (end of the file)"
        return Finding(self.name, number, "not TOML", reason + where, "correct the line")


def read(path: Path) -> Source:
    """The file's text.

    Raises:
        BadConfig: it is missing, cannot be read, is too large or is not UTF-8.
    """
    name = str(path)
    try:
        data = read_file(path, LARGEST + 1)
    except FileNotFoundError:
        what = f"no configuration at {_plain(name)}"
        why = "create it, see docs/configuration.md, or name another with -c"
        if name.startswith("~"):
            why = "only a shell knows what ~ means; write the whole path"
        raise BadConfig([Finding(name, None, what, why)]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        what = f"{_plain(name)} cannot be read"
        todo = "give certd's user the right to read it, or name another with -c"
        if isinstance(error, IsADirectoryError):
            todo = "name the file in it with -c"
        elif getattr(error, "errno", None) == errno.EINVAL:
            todo = "name a file with -c"
        why = f"{reason}; {todo}"
        raise BadConfig([Finding(name, None, what, why)]) from None
    if len(data) > LARGEST:
        raise BadConfig(
            [Finding(name, 1, "too large", f"a configuration ends by {LARGEST // 2**20} MiB")]
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        why = f"byte 0x{data[error.start]:02x}: {error.reason}"
        finding = Finding(name, line, "not UTF-8", why, "save the file as UTF-8")
        raise BadConfig([finding]) from None
    if text.startswith("\ufeff"):
        why = "the file begins with a byte order mark"
        raise BadConfig([Finding(name, 1, "not TOML", why, "save it as UTF-8 without one")])
    return Source(_plain(name), _folder(path), text, hashlib.sha256(data).hexdigest())


def state_at_a_glance(source: Source) -> Path | None:
    """The state folder, from the text of ``[certd]`` alone; None: it cannot be told."""
    table = certd_at_a_glance(source)
    state = None if table is None else table.get("state", DEFAULT_STATE)
    if not isinstance(state, str) or not state or "\0" in state or state.startswith("~"):
        return None
    return source.folder / state


def certd_at_a_glance(source: Source) -> dict[str, Any] | None:
    """The table ``[certd]`` as it is written; None: it cannot be told.

    Parsing 10,000 certificates takes half a second, in which ``certd status`` has long
    been printed. Only the plain forms of the table are understood, so that what is told
    is what a whole parse would tell.
    """
    text = source.text.replace("\r\n", "\n")
    # A long string may hold the look of a header, an escape may hide one.
    if '"""' in text or "'''" in text or ("\\" in text and _ESCAPED_KEY.search(text)):
        return None
    headers: list[int] = []
    # Find the word first: an expression tried on each of 70,000 lines would take longer.
    at = text.find("certd")
    while at >= 0:
        begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        line = text[begin : end if end >= 0 else len(text)]
        if _CERTD_HEADER.fullmatch(line):
            headers.append(begin + len(line))
        elif _OTHER_FORM.match(line):
            return None
        at = text.find("certd", begin + len(line))
    if len(headers) > 1:
        return None
    if not headers:
        return {}
    begin = headers[0]
    following = _NEXT_HEADER.search(text, begin)
    try:
        return tomllib.loads(text[begin : following.start() if following else len(text)])
    except (ValueError, RecursionError):
        return None


def _path_text(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no type of a configuration")


def _folder(path: Path) -> Path:
    return Path(os.path.abspath(path)).parent


def _plain(name: str) -> str:
    return name if name.isprintable() else shown(name)
