"""Certificates as files in a folder, and a command that makes the server take them up.

    path/versions/7/{privkey,cert,chain,fullchain}.pem, and ``files`` in other formats
    path/current -> versions/7

A version is written under another name, forced to disk and renamed; then the one link is
switched by a rename. Whoever opens the files by ``current`` has the old pair or the new.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from certd.api import (
    FORMATS,
    Bundle,
    Pair,
    Secret,
    SecretReference,
    TargetError,
    check_program,
    failpoint,
    lack,
)
from certd_deploy import command, extra, folders, inplace, settings
from certd_deploy.extra import THE_FOUR, Extra
from certd_deploy.folders import Content
from certd_deploy.inplace import InPlace
from certd_deploy.settings import PLACEHOLDER, first_own
from certd_deploy.versions import FILE_OCTETS, VERSION_FILES, is_pair, keep, prune

_OTHERS_READ = 0o044  # what everybody may do with a certificate, which is public


def _setting(check: Callable[[Any], None], description: str, **more: Any) -> Mapping[str, Any]:
    return {"check": check, "description": description, **more}


@dataclass(frozen=True, slots=True)
class Disk:
    """PEM files in a folder, and a command that makes the server read them.

    ``mode`` is exactly that of the private key; certificates are readable by everyone.
    Without ``owner`` and ``group`` the files belong to certd's own.
    """

    path: Path = field(
        metadata=_setting(
            settings.check_path,
            "folder of one certificate's files; {name} is its name",
            example="/etc/ssl/certd/{name}",
            missing="every disk target needs a folder",
        )
    )
    mode: str = field(
        default="0600",
        metadata=_setting(settings.check_mode, "mode of the private key, in octal", example="0640"),
    )
    owner: str | None = field(
        default=None, metadata=_setting(settings.check_owner, "user of the files", example="root")
    )
    group: str | None = field(
        default=None,
        metadata=_setting(settings.check_group, "group of the files", example="ssl-cert"),
    )
    files: dict[str, str] = field(
        default_factory=dict,
        metadata=_setting(
            extra.check_files,
            "more files in each version's folder, and the format of each",
            example={"site.pem": "combined"},
        ),
    )
    password: SecretReference | None = field(
        default=None, metadata={"description": "where the password of PKCS#12 and JKS files is"}
    )
    reload: tuple[str, ...] = field(
        default=(),
        metadata=_setting(
            check_program, "program and arguments that make the server read them, never a shell"
        ),
    )
    reload_timeout: float = field(
        default=60.0,
        metadata=_setting(command.check_timeout, "seconds after which the command is killed"),
    )

    def __post_init__(self) -> None:
        extra.check_together(self.files, self.password)

    @property
    def keyless(self) -> bool:
        """It can put certificates without their keys, unless a file is to hold one."""
        return not any(FORMATS[format].key for format in self.files.values())

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
                failpoint("disk: old versions removed")
        self._reload(bundle)

    def serving(self, name: str) -> str | None:
        """The fingerprint of the certificate in place; "" if there is no working pair, or a
        file of it is not there, None if the folder cannot be read.
        """
        try:
            with self._folder(name, make=False) as folder:
                found = self._in_place(name, folder)
                if found is None or not self._extra.in_place(name, found, folder):
                    return ""
            if found.fullchain != found.leaf + found.chain:
                return ""
            if found.key is not None and not is_pair(self._path(name) / found.link):
                return ""
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.leaf)).hexdigest()
        except (OSError, ValueError) as error:
            return None if getattr(error, "errno", None) in _CANNOT_TELL else ""

    def recover(self, name: str) -> Pair | None:
        """What is in place, with its key, as it is there; None if that is nothing of ours.

        Raises:
            TargetError: there is something, and it cannot be read.
        """
        try:
            with self._folder(name, make=False) as folder:
                found = self._in_place(name, folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise TargetError(
                f"what is in {self.place(name)} cannot be read",
                getattr(error, "strerror", None) or str(error),
                "let certd's user read it",
            ) from error
        return Pair(found.fullchain, Secret(found.key or "")) if found else None

    def ready(self, name: str) -> None:
        """Whether there is room for another version.

        Raises:
            TargetError: there is none, or nothing can be written at all.
        """
        more = len(self.files)
        octets = FILE_OCTETS * (len(THE_FOUR) + more)
        if found := lack(self._path(name), octets, VERSION_FILES + more):
            raise TargetError(
                f"a deployment to {self.place(name)} would fail", found.why, found.next
            )

    def place(self, name: str) -> str:
        """This certificate's folder; without a placeholder it is that of any."""
        return str(self.path).replace(PLACEHOLDER, name)

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
        own = first_own(self.path)
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

    @property
    def _extra(self) -> Extra:
        return Extra(self.files, self.password)

    def _files(self, bundle: Bundle) -> dict[str, Content]:
        uid, gid, mode = settings.uid(self.owner), settings.gid(self.group), int(self.mode, 8)
        key = Content(bundle.key_pem.reveal().encode(), mode, uid, gid)
        public = Content(inplace.WHY_NO_KEY, mode | _OTHERS_READ, uid, gid)
        texts = {
            "cert.pem": bundle.leaf_pem,
            "chain.pem": bundle.chain_pem,
            "fullchain.pem": bundle.fullchain_pem,
        }
        return {
            **({inplace.NO_KEY: public} if bundle.keyless else {"privkey.pem": key}),
            **{name: replace(public, data=text.encode()) for name, text in texts.items()},
            **self._extra.contents(bundle, key, public),
        }

    def _in_place(self, name: str, folder: int) -> InPlace | None:
        """None: nothing, or another certificate's."""
        return inplace.read(folder) if self._lineage(folder) in (None, name) else None

    def _lineage(self, folder: int) -> str | None:
        """Whose folder this is, where the path does not say it."""
        return None if PLACEHOLDER in str(self.path) else folders.link(".lineage", folder)

    def _claim(self, name: str, folder: int, what: str) -> None:
        """Without a placeholder two certificates would take turns in one folder, for ever."""
        if PLACEHOLDER in str(self.path):
            return
        lineage = self._lineage(folder)
        if lineage is None:
            folders.switch(".lineage", folder, name)
        elif lineage != name:
            raise TargetError(
                what,
                f"{self.path} is the folder of certificate {lineage}",
                f'write path = "{self.path}/{PLACEHOLDER}", or remove {self.path}/.lineage',
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


# Of this process or machine, and not of what is there.
_CANNOT_TELL = frozenset(
    (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
)
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
