"""PURE: the header Strict-Transport-Security (RFC 6797 section 6.1), as wanted and as served."""

from __future__ import annotations

import re
from dataclasses import dataclass

from certd.config.findings import shown
from certd.errors import ConfigError, plain

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_DIRECTIVE = re.compile(rf'\s*(?:({_WORD})\s*(?:=\s*({_WORD}|"(?:[^"\\]|\\.)*")\s*)?)?(?:;|$)')
_FLAGS = {"includesubdomains": "includeSubDomains", "preload": "preload"}
_LONGEST = 1000  # characters
_FORM = 'write it as "max-age=31536000; includeSubDomains"'


@dataclass(frozen=True, slots=True)
class HSTS:
    """``flags`` are those of includeSubDomains and preload that are there."""

    max_age: int  # seconds
    flags: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return "; ".join([f"max-age={self.max_age}", *sorted(self.flags)])

    def lacks(self, served: HSTS) -> str:
        """In which way what is served is not this; "" if it is. A longer max-age is."""
        if served.max_age < self.max_age:
            return f"max-age is {served.max_age}, and {self.max_age} is wanted"
        if missing := self.flags - served.flags:
            return f"{' and '.join(sorted(missing))} is missing"
        if more := served.flags - self.flags:
            return f"{' and '.join(sorted(more))} is there, and not wanted"
        return ""


def parse(text: str) -> HSTS:
    """The header's value. What is none of its three directives is passed over, as browsers do.

    Raises:
        ConfigError: a browser would take no notice of it; says why.
    """
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _DIRECTIVE.match(text, at) if len(text) <= _LONGEST else None
        if match is None:
            raise ConfigError(f"{shown(plain(text))} is no such header", "", _FORM)
        name, value = (match[1] or "").lower(), match[2] or ""
        if name in found:
            raise ConfigError(f"{name} is there twice", "browsers ignore all of it then", _FORM)
        if name:
            found[name] = value.strip('"')
        at = match.end()
    age = found.get("max-age")
    if age is None:
        raise ConfigError("max-age is missing", "browsers ignore all of it then", _FORM)
    if not re.fullmatch(r"[0-9]{1,18}", age):
        raise ConfigError(f"max-age is no number of seconds: {shown(age)}", "", _FORM)
    return HSTS(int(age), frozenset(_FLAGS[name] for name in found if name in _FLAGS))


def wanted(text: str) -> HSTS:
    """What the operator wants: nothing in it may be misspelt.

    Raises:
        ConfigError: it is no such header, or has an unknown directive.
    """
    made = parse(text)
    names = {part.partition("=")[0].strip().lower() for part in text.split(";")} - {""}
    if unknown := names - {"max-age", *_FLAGS}:
        known = "known are max-age, includeSubDomains and preload"
        raise ConfigError(f"unknown directive {shown(min(unknown))}", known, _FORM)
    return made
