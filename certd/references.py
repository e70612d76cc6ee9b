"""Where a secret is: what the configuration says of it, and the secret fetched when it is used.

    { file = "token" }  { env = "TOKEN" }  { credential = "token" }  { command = ["pass", "token"] }

or the secret itself. Nothing is fetched when the configuration is read, and nothing is kept:
a secret that was changed counts from its next use on.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from certd.errors import ConfigError, NotHere, SecretError
from certd.program import MOST_OUTPUT, check_program, run_program, said
from certd.secrets import Secret

Kind = Literal["plain", "file", "env", "credential", "command"]
FORMS: Mapping[str, str] = {
    "file": '{ file = "/etc/certd/token" }',
    "credential": '{ credential = "token" }',
    "env": '{ env = "TOKEN" }',
    "command": '{ command = ["pass", "show", "token"] }',
}
LARGEST = 64 * 1024  # bytes of a secret
COMMAND_SECONDS = 30.0
_FOLDER = "CREDENTIALS_DIRECTORY"  # where systemd puts credentials: systemd.exec(5)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL = re.compile(r"(?!\.)[A-Za-z0-9._@:-]{1,255}")


@dataclass(frozen=True, slots=True, repr=False)
class SecretReference:
    """A place that holds a secret. ``place`` is what the operator wrote, a file's path absolute."""

    kind: Kind
    place: Secret | Path | str | tuple[str, ...]

    def fetch(self) -> Secret:
        """The secret as it is now: text, without the end of the last line.

        Takes as long as the command does, 30 s at most. Safe in threads.

        Raises:
            SecretError: it is not there, cannot be read, or is empty.
        """
        data = self._fetched()
        if len(data) > LARGEST:
            why, todo = f"there is more than {LARGEST // 1024} KiB", "correct the place"
            raise SecretError(self._not_fetched(), why, todo)
        try:
            text = data.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            # Not the exception's words: they hold what was read.
            raise SecretError(self._not_fetched(), "it is no text", "write it as UTF-8") from None
        if not text:
            raise SecretError(self._not_fetched(), "it is empty", "put the secret there")
        return Secret(text)

    def warning(self) -> tuple[str, str, str] | None:
        """What speaks against this place, though it is usable: what, why, what to do."""
        if self.kind == "plain":
            forms = f"{FORMS['credential']} or {FORMS['file']}"
            why = "whoever reads the file has it, and each copy of the file is as secret"
            return "the secret stands in the configuration itself", why, f"write {forms}"
        if self.kind == "file":
            try:
                mode = stat.S_IMODE(os.stat(str(self.place)).st_mode)
            except OSError:
                return None
            if mode & (stat.S_IROTH | stat.S_IWOTH):
                done = "read" if mode & stat.S_IROTH else "replace"
                why = f"its mode is {mode:04o}: everybody may {done} it"
                return f"{_shown(self.place)} is no secret", why, f"chmod 0600 {self.place}"
        return None

    def check(self) -> None:
        """Whether this machine has the place, as far as can be told without fetching.

        What systemd passes is not to be seen by a command at the terminal: not looked at.

        Raises:
            ConfigError: it cannot be a place, or (as NotHere) it is not there.
        """
        if self.kind == "command" and isinstance(self.place, tuple):
            check_program(self.place)
        if self.kind == "file" and not os.path.lexists(str(self.place)):
            raise NotHere(f"there is no file {_shown(self.place)}", "", _PUT)

    def __str__(self) -> str:
        """``{ file = "/etc/certd/token" }``; of a command its program, for an argument may be
        a secret itself.
        """
        if self.kind == "plain":
            return "***"
        if isinstance(self.place, tuple):
            rest = ", …" if len(self.place) > 1 else ""
            return f"{{ command = [{_shown(self.place[0])}{rest}] }}"
        return f"{{ {self.kind} = {_shown(self.place)} }}"

    def __repr__(self) -> str:
        return f"SecretReference({self})"

    def _not_fetched(self) -> str:
        return f"the secret {self} was not fetched"

    def _fetched(self) -> bytes:
        match self.kind, self.place:
            case "plain", Secret() as secret:
                return secret.reveal().encode()
            case "file", Path() as path:
                return self._read(path, _PUT)
            case "env", str(name):
                value = os.environ.get(name)
                if value is None:
                    why = f"certd's environment has no {name}"
                    raise SecretError(self._not_fetched(), why, f"set {name} before certd starts")
                return os.fsencode(value)
            case "credential", str(name):
                return self._credential(name)
            case "command", (*argv,):
                return self._run([str(word) for word in argv])
        raise AssertionError(self.kind)

    def _read(self, path: Path, todo: str) -> bytes:
        try:
            return read_file(path, LARGEST + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if isinstance(error, PermissionError):
                todo = "give certd's user the right to read it"
            raise SecretError(self._not_fetched(), reason, todo) from None

    def _credential(self, name: str) -> bytes:
        folder = os.environ.get(_FOLDER)
        load = f"add LoadCredential={name}:/etc/certd/{name} to the unit"
        if folder is None:
            why = f"${_FOLDER} is not set, as systemd does it for a unit with credentials"
            todo = f"{load}, or for a command at the terminal set {_FOLDER} to a folder with it"
            raise SecretError(self._not_fetched(), why, todo)
        return self._read(Path(folder) / name, load)

    def _run(self, argv: list[str]) -> bytes:
        by_hand = "run the command by hand, as certd's user, to see what it lacks"
        home = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
        try:
            ended = run_program(argv, home, COMMAND_SECONDS)
        except (OSError, ValueError) as error:
            why = f"{argv[0]} cannot be started: {getattr(error, 'strerror', None) or error}"
            raise SecretError(self._not_fetched(), why, by_hand) from None
        if ended.how:
            # What it wrote for people, unless that has what it wrote for us, or was told, in it.
            hidden = [ended.output.strip(), *(os.fsencode(word) for word in argv[1:])]
            words = said(ended.errors)
            if any(len(text) > 3 and text in ended.errors for text in hidden):
                words = ""
            raise SecretError(self._not_fetched(), f"{argv[0]} {ended.how}{words}", by_hand)
        if len(ended.output) == MOST_OUTPUT:
            raise SecretError(self._not_fetched(), "it writes too much for a secret", by_hand)
        return ended.output


def reference(value: object, folder: Path) -> SecretReference:
    """What the operator wrote; a file's path is relative to ``folder``.

    Raises:
        ConfigError: it is no reference; the value itself is in none of the words.
    """
    if isinstance(value, str):
        if not value:
            raise ConfigError("the secret is empty", "", f"write {FORMS['file']}, say")
        return SecretReference("plain", Secret(value))
    if not isinstance(value, dict):
        raise ConfigError("it is no place of a secret", "", f"write {FORMS['file']}, say")
    forms = ", ".join(FORMS.values())
    for key in value:
        if key not in FORMS:
            near = difflib.get_close_matches(str(key), FORMS, n=1)
            todo = f"did you mean {near[0]}?" if near else f"write one of {forms}"
            raise ConfigError(f"unknown key {_shown(key)}", "", todo)
    if len(value) != 1:
        why = "a secret is in one place"
        raise ConfigError(f"there are {len(value) or 'no'} places", why, f"write one of {forms}")
    [(kind, place)] = value.items()
    return _PARSED[kind](place, folder)


def read_file(path: Path, most: int) -> bytes:
    """At most so many bytes of a file. A pipe or a device may have no end, nor even a
    beginning, and a daemon that reloads could not read a pipe twice: they are refused.

    Raises:
        OSError, ValueError: it cannot be read, or is no file.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
        return file.read(most)


def _shown(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=not str(text).isprintable())


def _file(place: object, folder: Path) -> SecretReference:
    if not isinstance(place, str) or not place or "\0" in place:
        raise ConfigError("file is not a path", "", f"write {FORMS['file']}")
    if place.startswith("~"):
        why = "only a shell knows what ~ means"
        raise ConfigError(f"{_shown(place)} begins with ~", why, "write the whole path")
    return SecretReference("file", folder / place)


def _named(
    kind: Literal["env", "credential"], form: re.Pattern[str]
) -> Callable[[object, Path], SecretReference]:
    def parse(place: object, folder: Path) -> SecretReference:
        if not isinstance(place, str) or not form.fullmatch(place):
            # Not repeated: somebody may have put the secret itself there.
            raise ConfigError(f"{kind} is not a name", _NAMES[kind], f"write {FORMS[kind]}")
        return SecretReference(kind, place)

    return parse


def _command(place: object, folder: Path) -> SecretReference:
    good = isinstance(place, list) and place and all(isinstance(word, str) for word in place)
    if not good or not isinstance(place, list):
        why = "it is run as it is, without a shell"
        raise ConfigError(
            "command is no list of program and arguments", why, f"write {FORMS['command']}"
        )
    return SecretReference("command", tuple(place))


_PUT = "put the secret there, for certd's user only (mode 0600), or correct the path"
_NAMES = {
    "env": "a variable of the environment has letters, digits and _ in its name",
    "credential": "systemd knows it by a name, and certd finds the folder by itself",
}
_PARSED: Mapping[str, Callable[[object, Path], SecretReference]] = {
    "file": _file,
    "env": _named("env", _VARIABLE),
    "credential": _named("credential", _CREDENTIAL),
    "command": _command,
}
