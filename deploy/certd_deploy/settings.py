"""What the settings of a disk target may be: each is checked by itself, whatever the others are.

Nothing here looks at the target's folder: that may well be made later.
"""

from __future__ import annotations

import grp
import pwd
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from certd.api import ConfigError, NotHere, TargetError

PLACEHOLDER = "{name}"

_KEY_MODES = 0o660  # all that a private key's mode may have
_MOST = 2**32 - 2  # of user and group numbers: the next stands for "as it is" in chown(2)


def setting(
    check: Callable[[Any], None] | None, description: str, **more: Any
) -> Mapping[str, Any]:
    """The metadata of a field."""
    checked = {} if check is None else {"check": check}
    return {**checked, "description": description, **more}


def first_own(path: Path) -> int:
    """The index of the first segment that is a certificate's own: with {name}, or the last."""
    having = [at for at, part in enumerate(path.parts) if PLACEHOLDER in part]
    return having[0] if having else len(path.parts) - 1


def check_path(path: Path) -> None:
    if re.search(r"[{}]", str(path).replace(PLACEHOLDER, "")):
        raise ConfigError(
            f'"{path}" has braces that mean nothing',
            "the only placeholder is {name}, for the name of the certificate",
            "write {name}, or leave the braces out",
        )
    own = path.parts[max(first_own(path), 0) :]
    if not own or path.parts[-1] == path.anchor or ".." in own:
        raise ConfigError(
            f'"{path}" is no folder of one certificate',
            "",
            "end it with a folder, as in tls/{name}",
        )


def check_path_elsewhere(where: str, path: str) -> None:
    if not path.startswith("/"):
        why = f"it is {where}, where nothing is relative to this configuration"
        raise ConfigError(f'"{path}" is relative', why, "write the whole path")
    check_path(Path(path))


def check_id_elsewhere(number: int) -> None:
    if not 0 <= number <= _MOST:
        raise ConfigError(f"{number} is no number of a user or group", "", "`id` there says it")


def check_port(port: int) -> None:
    if not 0 < port < 65536:
        raise ConfigError(f"{port} is no port", "", "write a number from 1 to 65535")


def check_mode(mode: str) -> None:
    bits = int(mode, 8) if re.fullmatch(r"[0-7]{3,4}", mode) else -1
    if bits < 0 or bits & ~_KEY_MODES or not bits & stat.S_IRUSR:
        raise ConfigError(
            f'"{mode}" is no mode of a private key',
            "its owner must be able to read it, its group may, others may not",
            'write "0600", or "0640" and the group of the server',
        )


def check_owner(owner: str) -> None:
    _check("user", owner, lambda name: pwd.getpwnam(name).pw_uid)


def check_group(group: str) -> None:
    _check("group", group, lambda name: grp.getgrnam(name).gr_gid)


def check_has(files: Mapping[str, str], name: str, format: str, why: str) -> None:
    """A server's own file must not be lost to an operator's others."""
    if files.get(name) != format:
        raise ConfigError(f'files = … has no "{name}" = "{format}"', f"it is {why}", "add it")


def uid(owner: str | None) -> int:
    """The user's number; -1, as in chown(2), for none.

    Raises:
        TargetError: there is none of that name any more.
    """
    return _number("owner", "user", owner, lambda name: pwd.getpwnam(name).pw_uid)


def gid(group: str | None) -> int:
    """The group's number, as :func:`uid`."""
    return _number("group", "group", group, lambda name: grp.getgrnam(name).gr_gid)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _check(kind: str, text: str, number_of: Callable[[str], int]) -> None:
    if _is_number(text) and len(text) <= len(str(_MOST)) and int(text) <= _MOST:
        return
    if not text or "\0" in text or _is_number(text.removeprefix("-")):
        raise ConfigError(
            f'"{text}" is no {kind}',
            f"a {kind} is a name, or a number from 0 to {_MOST}",
            "correct it, or leave it out: the files are then certd's own",
        )
    try:
        number_of(text)
    except (KeyError, OSError):  # a directory service that does not answer is as good as none
        raise NotHere(
            f'there is no {kind} "{text}" on this machine', "", f"create the {kind}, or correct it"
        ) from None


def _number(setting: str, kind: str, text: str | None, number_of: Callable[[str], int]) -> int:
    if text is None:
        return -1
    try:
        return int(text) if _is_number(text) else number_of(text)
    except KeyError as error:
        raise TargetError(
            f"there is no {kind} {text} on this machine", "", f"create it, or correct {setting}"
        ) from error
