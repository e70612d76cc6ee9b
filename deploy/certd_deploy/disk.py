"""Certificates as files in a folder, and a command that makes the server take them up.

    path/versions/7/{privkey,cert,chain,fullchain}.pem, and ``files`` in other formats
    path/current -> versions/7

A version is written under another name, forced to disk and renamed; then the one link is
switched by a rename. Whoever opens the files by ``current`` has the old pair or the new.

The targets of one server (nginx.py and its neighbours) are this one with other defaults.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
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
from certd_deploy.settings import PLACEHOLDER, first_own, setting
from certd_deploy.troubles import explained, nothing_at
from certd_deploy.versions import FILE_OCTETS, VERSION_FILES, contents, is_pair, keep, prune


@dataclass(frozen=True, slots=True)
class Disk:
    """PEM files in a folder, and a command that makes the server read them.

    ``mode`` is exactly that of the private key; certificates are readable by everyone.
    Without ``owner`` and ``group`` the files belong to certd's own.
    """

    path: Path = field(
        metadata=setting(
            settings.check_path,
            "folder of one certificate's files; {name} is its name",
            example="/etc/ssl/certd/{name}",
            missing="the files need a folder",
        )
    )
    mode: str = field(
        default="0600",
        metadata=setting(settings.check_mode, "mode of the private key, in octal", example="0640"),
    )
    owner: str | None = field(
        default=None, metadata=setting(settings.check_owner, "user of the files", example="root")
    )
    group: str | None = field(
        default=None,
        metadata=setting(settings.check_group, "group of the files", example="ssl-cert"),
    )
    files: dict[str, str] = field(default_factory=dict, metadata=extra.FILES)
    password: SecretReference | None = field(default=None, metadata=extra.PASSWORD)
    test: tuple[str, ...] = field(
        default=(),
        metadata=setting(
            check_program,
            "program and arguments that test the server's configuration, before reload",
        ),
    )
    reload: tuple[str, ...] = field(
        default=(),
        metadata=setting(
            check_program, "program and arguments that make the server read them, never a shell"
        ),
    )
    reload_timeout: float = field(
        default=60.0,
        metadata=setting(command.check_timeout, "seconds after which either command is killed"),
    )

    def __post_init__(self) -> None:
        extra.check_together(self.files, self.password)

    @property
    def keyless(self) -> bool:
        """It can put certificates without their keys, unless a file is to hold one."""
        return not any(FORMATS[format].key for format in self.files.values())

    def deploy(self, bundle: Bundle) -> None:
        """Put the bundle in place and run the commands, also if it is in place already.

        Raises:
            TargetError: the files cannot be written, they are no pair, the test failed (the
                link is then where it was), or the reload, after which the core puts the
                version before back by deploying that.
        """
        what = f"version {bundle.version} is not in place"
        with (
            explained(what, self._path(bundle.name)),
            self._folder(bundle.name, make=True) as folder,
        ):
            files = self._files(bundle)
            self._claim(bundle.name, folder, what)
            before = folders.link("current", folder)
            inplace.refuse_what_is_not_ours(folder, what)
            folders.make("versions", folder)
            with folders.opened("versions", folder) as versions:
                number = keep(versions, bundle.version, files)
                os.fsync(versions)
                failpoint("disk: version written")
                now = f"versions/{number}"
                if not bundle.keyless and not is_pair(self._path(bundle.name) / now):
                    raise TargetError(what, *_NO_PAIR)
                if before != now:
                    folders.switch("current", folder, now)
                os.fsync(folder)
                failpoint("disk: link switched")
                with folders.back_if_it_fails("current", folder, before):
                    self._try(bundle, replaces=before not in (None, now))
                prune(versions, in_use={before, now})
                failpoint("disk: old versions removed")
        self._reload(bundle)

    def serving(self, name: str) -> str:
        """The fingerprint in place; "" if there is no working pair, or a file is missing.

        Raises:
            TargetBusy: the folder cannot be read just now.
        """
        try:
            with self._folder(name, make=False) as folder:
                found = self._in_place(name, folder)
                if found is None:
                    return ""
                there = inplace.others(found, folder, self.files)
            if found.fullchain != found.leaf + found.chain:
                return ""
            if not self._extra.made_of(name, found.fullchain, found.key, there):
                return ""
            if found.key is not None and not is_pair(self._path(name) / found.link):
                return ""
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.leaf)).hexdigest()
        except (OSError, ValueError) as error:
            return nothing_at(self.place(name), error)

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
        uid, gid = settings.uid(self.owner), settings.gid(self.group)
        return contents(bundle, self._extra, int(self.mode, 8), uid, gid)

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

    def _try(self, bundle: Bundle, *, replaces: bool) -> None:
        """Let the server look at what is in place, perhaps of another version; TargetError puts
        back what was.

        A test that is this type's own is for root: others may not open the server's logs and
        other keys, which most tests do. The reload, which root does, is then the test.
        """
        [own] = [one.default for one in fields(self) if one.name == "test"]
        if self.test and (self.test != own or os.geteuid() == 0):
            what = f"version {bundle.version} is not taken up: the server's test refuses it"
            self._run("test", bundle, what)
        failpoint("disk: tested")

    def _reload(self, bundle: Bundle) -> None:
        if self.reload:
            self._run("reload", bundle, f"version {bundle.version} is in place but not taken up")
        failpoint("disk: reloaded")

    def _run(self, setting: str, bundle: Bundle, what: str) -> None:
        variables = {
            "CERTD_NAME": bundle.name,
            "CERTD_VERSION": str(bundle.version),
            "CERTD_PATH": str(self._path(bundle.name)),
        }
        command.run(setting, getattr(self, setting), variables, self.reload_timeout, what)


def preset(name: str, default: Any) -> Any:
    """A setting of Disk's with another default: for the targets of one server."""
    [there] = [one for one in fields(Disk) if one.name == name]
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=there.metadata)
    return field(default=default, metadata=there.metadata)


_NO_PAIR = (
    "OpenSSL does not take the private key, the leaf and its chain for a pair",
    "the store holds a damaged version: `certd renew NAME --force` gets another",
)
