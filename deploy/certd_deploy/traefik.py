"""Traefik, by a file of its dynamic configuration: it looks at that, never at certificates.

    # traefik.yml                            # what certd writes: /etc/traefik/dynamic/www.yml
    providers:                               tls:
      file:                                    certificates:
        directory: /etc/traefik/dynamic          - certFile: …/www/versions/7/fullchain.pem
                                                   keyFile: …/www/versions/7/privkey.pem

The file names a version, not ``current``, so that Traefik reads both files of one whenever it
looks. One that is the operator's (its first line is not certd's) names ``current`` and is touched:
https://github.com/traefik/traefik/issues/3272. Traefik then reads certificates again, after
``providersThrottleDuration``; one it cannot load is left out, and a default of its own served.
https://doc.traefik.io/traefik/https/tls/ and …/providers/file/
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from certd.api import Bundle, ConfigError, TargetError, failpoint
from certd_deploy.disk import Disk
from certd_deploy.settings import PLACEHOLDER
from certd_deploy.troubles import nothing_at

_OURS = "# Written by certd for "
_SUFFIXES = (".yml", ".yaml")


def _check(configuration: Path) -> None:
    if configuration.suffix not in _SUFFIXES:
        raise ConfigError(
            f'"{configuration}" is no YAML file', "", "end its name with .yml, as Traefik needs it"
        )


@dataclass(frozen=True, slots=True)
class Traefik(Disk):
    """Files, and one of Traefik's dynamic configuration that names them."""

    configuration: Path = field(
        default=Path("/etc/traefik/dynamic/{name}.yml"),
        metadata={
            "description": "file of the dynamic configuration that certd writes, or touches if "
            "somebody else has written it; {name} is the certificate's name",
            "check": _check,
        },
    )

    @property
    def keyless(self) -> bool:
        return False  # the file names a key

    def serving(self, name: str) -> str:
        """The fingerprint in place; "" if the configuration does not lead there.

        Of a file that somebody else has written nothing is known but that it is there.
        """
        there = Disk.serving(self, name)
        if not there:
            return there
        try:
            text = self._file(name).read_text()
        except (OSError, ValueError) as error:
            return nothing_at(self._file(name), error)
        leads = text == self._text(name) if text.startswith(_OURS) else bool(text)
        return there if leads else ""

    def _file(self, name: str) -> Path:
        return Path(str(self.configuration).replace(PLACEHOLDER, name))

    def _text(self, name: str) -> str:
        version = Path(os.path.realpath(self._path(name) / "current"))
        return f"{_OURS}{name}\n{_tls(version)}"

    def _try(self, bundle: Bundle, *, replaces: bool) -> None:
        Disk._try(self, bundle, replaces=replaces)
        file = self._file(bundle.name)
        try:
            head = file.read_text().partition("\n")[0] if file.exists() else ""
            if head and not head.startswith(_OURS):
                os.utime(file)
            elif head in ("", _OURS + bundle.name):
                _write(file, self._text(bundle.name))
            else:
                raise TargetError(
                    f"version {bundle.version} is not in place",
                    f"{file} is that of certificate {head.removeprefix(_OURS)}",
                    f"write {PLACEHOLDER} in configuration, or remove the file",
                )
        except (OSError, ValueError) as error:
            raise TargetError(
                f"version {bundle.version} is not in place: Traefik cannot be told",
                f"{file}: {getattr(error, 'strerror', None) or error}",
                "make the folder, and let certd's user write there; under systemd also name it "
                "in ReadWritePaths=",
            ) from error
        failpoint("traefik: configuration written")


def _tls(version: Path) -> str:
    """JSON, which is YAML too: no name needs quoting of another kind."""
    pair = {"certFile": f"{version}/fullchain.pem", "keyFile": f"{version}/privkey.pem"}
    return json.dumps({"tls": {"certificates": [pair]}}, indent=2) + "\n"


def _write(file: Path, text: str) -> None:
    """At one instant; the unfinished one has a name that Traefik does not read."""
    unfinished = file.with_name(f".{file.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        unfinished.unlink()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)  # whatever the umask: Traefik is another user
        os.fsync(descriptor)
    unfinished.replace(file)
