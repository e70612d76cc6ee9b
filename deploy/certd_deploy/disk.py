"""Certificates as files in a folder, and a command that makes the server take them up.

    path/versions/7/{privkey,cert,chain,fullchain}.pem
    path/current -> versions/7

A version is written under another name, forced to disk and renamed; then the one link is
switched by a rename. Whoever opens the files by ``current`` has the old pair or the new.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import math
import os
import pwd
import re
import ssl
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from certd.api import Bundle, ConfigError, TargetError, failpoint
from certd_deploy import command, folders
from certd_deploy.folders import Content
from certd_deploy.versions import is_pair, keep, prune

_PLACEHOLDER = "{name}"
_CURRENT = re.compile(r"versions/([1-9][0-9]*)")
_OTHERS_READ = 0o044  # what everybody may do with a certificate, which is public
_KEY_MODES = 0o660  # all that a private key's mode may have


def _setting(description: str, example: str) -> Mapping[str, str]:
    return {"description": description, "example": example}


@dataclass(frozen=True, slots=True)
class Disk:
    """Settings of a ``type = "disk"`` target.

    ``mode`` is exactly that of the private key; certificates are readable by everyone.
    Without ``owner`` and ``group`` the files belong to certd's own.
    """

    path: Path = field(
        metadata={
            **_setting(
                "folder of one certificate's files; {name} is its name", "/etc/ssl/certd/{name}"
            ),
            "missing": "every disk target needs a folder",
        }
    )
    mode: str = field(
        default="0600", metadata=_setting("mode of the private key, in octal", "0640")
    )
    owner: str | None = field(default=None, metadata=_setting("user of the files", "root"))
    group: str | None = field(default=None, metadata=_setting("group of the files", "ssl-cert"))
    reload: tuple[str, ...] = field(
        default=(),
        metadata={
            "description": "program and arguments that make the server read them, never a shell"
        },
    )
    reload_timeout: float = field(
        default=60.0, metadata={"description": "seconds after which the command is killed"}
    )

    def __post_init__(self) -> None:
        _check_path(self.path)
        _check_mode(self.mode)
        if isinstance(self.reload, str) or self.reload[:1] == ("",) or "\0" in "".join(self.reload):
            raise ConfigError(
                f"reload = {self.reload!r} is no command",
                "it is run as it is, without a shell",
                'write program and arguments, as in ["systemctl", "reload", "nginx"]',
            )
        if not 0 < self.reload_timeout < math.inf:
            raise ConfigError(
                f"reload_timeout = {self.reload_timeout} is no time limit",
                "it is in seconds",
                "write a number above 0",
            )

    def deploy(self, bundle: Bundle) -> None:
        """Put the bundle in place and run the reload command, also if it is in place already.

        Raises:
            TargetError: the files cannot be written, or the command failed. The core puts
                the version before back by deploying that.
        """
        what = f"version {bundle.version} is not in place"
        with self._explained(what, bundle.name), self._folder(bundle.name, make=True) as folder:
            files = self._files(bundle)
            self._claim(bundle.name, folder, what)
            before = folders.link("current", folder)
            _refuse_what_is_not_ours(folder, what)
            folders.make("versions", folder)
            with folders.opened("versions", folder) as versions:
                number = keep(versions, bundle.version, files)
                os.fsync(versions)
                failpoint("disk: version written")
                now = f"versions/{number}"
                if before != now:
                    folders.switch("current", folder, now)
                os.fsync(folder)
                failpoint("disk: link switched")
                prune(versions, in_use={before, now})
        self._reload(bundle)

    def serving(self, name: str) -> str | None:
        """The fingerprint of the certificate in place; None if there is no working pair."""
        try:
            with self._folder(name, make=False) as folder:
                current = folders.link("current", folder) or ""
                number = _CURRENT.fullmatch(current)
                if number is None or self._lineage(folder) not in (None, name):
                    return None
                with (
                    folders.opened("versions", folder) as versions,
                    folders.opened(number[1], versions) as version,
                ):
                    leaf, chain = (folders.read(f"{x}.pem", version) for x in ("cert", "chain"))
                    if folders.read("fullchain.pem", version) != leaf + chain:
                        return None
                    folders.read("privkey.pem", version)
            if not is_pair(self._path(name) / current):
                return None
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf.decode())).hexdigest()
        except (OSError, ValueError):
            return None

    def place(self, name: str) -> str:
        """This certificate's folder; without a placeholder it is that of any."""
        return str(self.path).replace(_PLACEHOLDER, name)

    def _path(self, name: str) -> Path:
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise TargetError(f"{name!r} is no name for a folder", "", "rename the certificate")
        return Path(self.place(name))

    @contextlib.contextmanager
    def _folder(self, name: str, *, make: bool) -> Iterator[int]:
        """The descriptor of this certificate's folder.

        Links are followed on the operator's part of the path only, not from the first
        segment on that is the certificate's own.
        """
        own = _first_own(self.path)
        parts, above = self._path(name).parts[own:], Path(*self.path.parts[:own])
        if make:
            folders.make_all(above)
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(folders.opened(str(above)))
            for part in parts:
                if make:
                    folders.make(part, folder)
                folder = opened.enter_context(folders.opened(part, folder))
            yield folder

    def _files(self, bundle: Bundle) -> dict[str, Content]:
        uid, gid, mode = _uid(self.owner), _gid(self.group), int(self.mode, 8)
        texts = {
            "cert": bundle.leaf_pem,
            "chain": bundle.chain_pem,
            "fullchain": bundle.fullchain_pem,
        }
        return {
            "privkey.pem": Content(bundle.key_pem.reveal().encode(), mode, uid, gid),
            **{
                f"{name}.pem": Content(text.encode(), mode | _OTHERS_READ, uid, gid)
                for name, text in texts.items()
            },
        }

    def _lineage(self, folder: int) -> str | None:
        """Whose folder this is, where the path does not say it."""
        return None if _PLACEHOLDER in str(self.path) else folders.link(".lineage", folder)

    def _claim(self, name: str, folder: int, what: str) -> None:
        """Without a placeholder two certificates would take turns in one folder, for ever."""
        if _PLACEHOLDER in str(self.path):
            return
        lineage = self._lineage(folder)
        if lineage is None:
            folders.switch(".lineage", folder, name)
        elif lineage != name:
            raise TargetError(
                what,
                f"{self.path} is the folder of certificate {lineage}",
                f'write path = "{self.path}/{_PLACEHOLDER}", or remove {self.path}/.lineage',
            )

    def _reload(self, bundle: Bundle) -> None:
        if self.reload:
            variables = {
                "CERTD_NAME": bundle.name,
                "CERTD_VERSION": str(bundle.version),
                "CERTD_PATH": str(self._path(bundle.name)),
            }
            what = f"version {bundle.version} is in place but not taken up"
            command.run(self.reload, variables, self.reload_timeout, what)
        failpoint("disk: reloaded")

    @contextlib.contextmanager
    def _explained(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            named = f"{error.filename}: " if isinstance(error.filename, str) else ""
            why = f"{self._path(name)}: {named}{error.strerror or error}"
            raise TargetError(what, why, _NEXT.get(error.errno or 0, "")) from error


_NEXT = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "let certd's user write there; under systemd also name it in ReadWritePaths=",
    ),
    errno.ENOENT: "no folder can be made there: correct path, or make the folder above it by hand",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room on that file system"),
    **dict.fromkeys(
        (errno.ELOOP, errno.ENOTDIR, errno.EEXIST),
        "a link or a file is where certd needs a folder: move it away, or change path",
    ),
}


def _first_own(path: Path) -> int:
    """The index of the first segment that is a certificate's own: with {name}, or the last."""
    having = [at for at, part in enumerate(path.parts) if _PLACEHOLDER in part]
    return having[0] if having else len(path.parts) - 1


def _check_path(path: Path) -> None:
    shown = f'path = "{path}"'
    if re.search(r"[{}]", str(path).replace(_PLACEHOLDER, "")):
        raise ConfigError(
            f"{shown} has braces that mean nothing",
            "the only placeholder is {name}, for the name of the certificate",
            "write {name}, or leave the braces out",
        )
    own = path.parts[max(_first_own(path), 0) :]
    if not own or path.parts[-1] == path.anchor or ".." in own:
        raise ConfigError(
            f"{shown} is no folder of one certificate", "", "end it with a folder, as in tls/{name}"
        )


def _check_mode(mode: str) -> None:
    bits = int(mode, 8) if re.fullmatch(r"[0-7]{3,4}", mode) else -1
    if bits < 0 or bits & ~_KEY_MODES or not bits & stat.S_IRUSR:
        raise ConfigError(
            f'mode = "{mode}" is no mode of a private key',
            "its owner must be able to read it, its group may, others may not",
            'write "0600", or "0640" and the group of the server',
        )


def _uid(owner: str | None) -> int:
    if owner is None:
        return -1
    try:
        return int(owner) if owner.isdecimal() else pwd.getpwnam(owner).pw_uid
    except KeyError as error:
        raise TargetError(
            f"there is no user {owner} on this machine", "", "create it, or correct owner"
        ) from error


def _gid(group: str | None) -> int:
    if group is None:
        return -1
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise TargetError(
            f"there is no group {group} on this machine", "", "create it, or correct group"
        ) from error


def _refuse_what_is_not_ours(folder: int, what: str) -> None:
    try:
        status = os.stat("current", dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISLNK(status.st_mode):
        raise TargetError(
            what,
            '"current" is there and is not a link of certd\'s',
            "move it away, or give certd a folder of its own by path",
        )
