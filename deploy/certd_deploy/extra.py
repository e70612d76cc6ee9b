"""The files of a version besides the four that each has: the same in other formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from certd.api import (
    FORMATS,
    ConfigError,
    Parts,
    Secret,
    SecretReference,
    format_named,
    is_rendered,
    render,
)
from certd_deploy import inplace
from certd_deploy.folders import Content
from certd_deploy.settings import setting

THE_FOUR = ("privkey.pem", "cert.pem", "chain.pem", "fullchain.pem")
_END = "-----END CERTIFICATE-----\n"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,199}")


@dataclass(frozen=True, slots=True)
class Extra:
    """Names of files and their formats; where the password of those that need one is."""

    files: Mapping[str, str]
    password: SecretReference | None

    def contents(self, source: Parts, key: Content, public: Content) -> dict[str, Content]:
        """What each file is to hold, as readable as the key, or as what is public.

        Raises:
            SecretError: the password cannot be had.
            ConfigError, TargetError: it cannot be had in that format.
        """
        password = self._fetched()
        found = {}
        for name, format in self.files.items():
            like = key if FORMATS[format].key else public
            same = partial(is_rendered, bundle=source, format=format, password=password)
            data = render(source, format, password)
            found[name] = Content(data, like.mode, like.uid, like.gid, same)
        return found

    def made_of(
        self, name: str, fullchain: str, key: str | None, there: Mapping[str, bytes]
    ) -> bool:
        """Whether they are there, and made of this pair.

        Raises:
            SecretError, TargetError: it cannot be told.
        """
        if not self.files:
            return True
        leaf, end, chain = fullchain.partition(_END)
        source = _Found(name, f"{leaf}{end}", chain, Secret(key or ""))
        password = self._fetched()
        return all(
            file in there and is_rendered(there[file], source, format, password)
            for file, format in self.files.items()
        )

    def _fetched(self) -> Secret | None:
        return self.password.fetch() if self.password is not None else None


@dataclass(frozen=True, slots=True)
class _Found:
    """Parts that were read back."""

    name: str
    leaf_pem: str
    chain_pem: str
    key_pem: Secret

    @property
    def keyless(self) -> bool:
        return not self.key_pem.reveal()


def check_files(files: Mapping[str, str]) -> None:
    for name, format in files.items():
        if name in (*THE_FOUR, inplace.NO_KEY):
            why = "each version has a file of that name, whatever this says"
            raise ConfigError(f'"{name}" is there already', why, "choose another name")
        if not _PLAIN.fullmatch(name):
            raise ConfigError(
                f"{name!r} is no plain file name",
                "they are in the folder of the version, beside the four; letters, digits and ._@+-",
                'write { "site.pem" = "combined" }, say',
            )
        try:
            format_named(format)
        except ConfigError as error:
            raise ConfigError(f'"{name}": {error.what}', error.why, error.next) from None


def check_together(files: Mapping[str, str], password: SecretReference | None) -> None:
    locked = [name for name, format in files.items() if FORMATS[format].password]
    if locked and password is None:
        raise ConfigError(
            "password is missing",
            f"{locked[0]} is {files[locked[0]]}, which holds the key under one",
            'write password = { file = "/etc/certd/keystore-password" }, say',
        )
    if password is not None and not locked:
        kinds = ", ".join(name for name, format in FORMATS.items() if format.password)
        why = f"only files of the formats {kinds} have one"
        raise ConfigError("password has no use", why, "leave it out, or name such a file in files")


FILES = setting(
    check_files,
    "more files in each version's folder, and the format of each",
    example={"site.pem": "combined"},
)
PASSWORD = setting(None, "where the password of PKCS#12 and JKS files is")
