"""Files out of a package of a newer Debian suite, without root and without installing it.

The archive, its signing keys and any proxy are those that this machine's apt already
uses; only the suite differs. Everything apt writes goes into a folder of our own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from certd.testing.processes import ComponentError

SUITES = ("testing", "unstable", "stable")

_DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PATIENCE = 300.0  # seconds for one command


@dataclass(frozen=True, slots=True)
class Archive:
    """Where apt of this machine gets its own release from, and how it trusts it."""

    uri: str
    keyring: Path | None  # None: apt's global keys


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package's files below ``root``."""

    root: Path
    version: str
    suite: str


def archive() -> Archive:
    """The archive of the running Debian release.

    Raises:
        ComponentError: this is no Debian, or its apt has no such source.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ComponentError("no apt on this machine")
    release = _os_release()
    # Without release information the answer is there before the first `apt-get update` too.
    listing = _run("apt-get", "indextargets", "--no-release-info")
    names = {release.get("VERSION_CODENAME", ""), "stable", "oldstable", "testing", "unstable"}
    for stanza in listing.split("\n\n"):
        target = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        if (
            release.get("ID") == "debian"
            and target.get("Created-By") == "Packages"
            and target.get("Component") == "main"
            and target.get("Release") in names
        ):
            return Archive(target["Repo-URI"], _keyring(target.get("Sourcesentry", "")))
    raise ComponentError("apt has no source for the main component of a Debian release")


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _keyring(entry: str) -> Path | None:
    """The key file that the source names (``entry`` is ``FILE:LINE``), or the distribution's."""
    source = Path(entry.rpartition(":")[0])
    text = source.read_text(errors="replace") if source.is_file() else ""
    named = re.findall(r"signed-by\s*[:=]\s*(/[^\s\],]+)", text, re.IGNORECASE)
    candidates = [*map(Path, named), _DEBIAN_KEYRING]
    return next((path for path in candidates if path.is_file()), None)


def unpack(package: str, folder: Path, suites: Sequence[str] = SUITES) -> Iterator[Unpacked]:
    """Unpack ``package`` of each suite in turn below ``folder``; the caller stops at one it likes.

    A suite that cannot be had (a mirror may not carry it) is passed over.

    Raises:
        ComponentError: there is no archive, or no suite of it could be had; says why for each.
    """
    source, failures = archive(), list[str]()
    for suite in suites:
        try:
            yield _unpack_from(source, suite, package, folder / suite)
        except ComponentError as error:
            failures.append(f"{suite}: {error}")
    if len(failures) == len(suites):
        raise ComponentError(f"{package} could not be had from {source.uri}", "\n".join(failures))


def _unpack_from(source: Archive, suite: str, package: str, folder: Path) -> Unpacked:
    state, root = folder / "apt", folder / "root"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True)
    signed = f"[signed-by={source.keyring}] " if source.keyring else ""
    (state / "sources.list").write_text(f"deb {signed}{source.uri} {suite} main\n")
    options = {
        "Dir::Etc::SourceList": f"{state}/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": f"{state}",
        "Dir::State::Lists": f"{state}/lists",
        "Dir::State::Status": "/var/lib/dpkg/status",
        "Dir::Cache": f"{state}/cache",
        "Acquire::Languages": "none",
        "Acquire::http::Timeout": "30",
        "Acquire::https::Timeout": "30",
        "APT::Update::Error-Mode": "any",  # a failed download is not a warning to us
    }
    if os.geteuid() == 0:
        # Else root's apt downloads as another user, who may not write in our folder.
        options["APT::Sandbox::User"] = "root"
    arguments = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    _run("apt-get", *arguments, "-q", "update")
    _run("apt-get", *arguments, "-q", "download", package, cwd=folder)
    deb = next(folder.glob("*.deb"), None)
    if deb is None:
        raise ComponentError(f"apt downloaded no {package}")
    _run("dpkg-deb", "-x", str(deb), str(root))
    return Unpacked(root, _run("dpkg-deb", "-f", str(deb), "Version").strip(), suite)


def _run(*argv: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        words = f"{argv[0]} {argv[-1]} failed ({error.returncode})"
        raise ComponentError(words, str(error.stderr).strip()[-2000:]) from error
    except subprocess.TimeoutExpired as error:
        raise ComponentError(f"{argv[0]} took longer than {_PATIENCE:g} s") from error
    return done.stdout
