"""The trust stores of this machine: the system's, and those of browsers (NSS).

Each step says what it does before it is done. Nothing is looked for that is not there
already: a browser that was never started has no store yet.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from certd.errors import CertdError

SECONDS = 60.0  # for one command
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Root:
    """``name`` is its common name, by which browsers know it; ``mark`` is in its file's."""

    name: str
    mark: str  # the beginning of its fingerprint
    pem: str


@dataclass(frozen=True, slots=True)
class Step:
    """What is done in the end, in words; ``act`` does it, and tells whether it changed the root.

    Raises:
        CertdError: by ``act``: it cannot be done.
    """

    text: str
    act: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Anchors:
    """Where a family of systems wants additional roots, and what it does with them."""

    folder: str
    suffix: str
    update: tuple[str, ...]


# From update-ca-trust(8), update-ca-certificates(8) and trust(1).
_SYSTEMS = (
    _Anchors("etc/pki/ca-trust/source/anchors", ".pem", ("update-ca-trust", "extract")),  # RHEL
    _Anchors("usr/local/share/ca-certificates", ".crt", ("update-ca-certificates",)),  # Debian
    _Anchors("etc/ca-certificates/trust-source/anchors", ".crt", ("trust", "extract-compat")),
    _Anchors("usr/share/pki/trust/anchors", ".pem", ("update-ca-certificates",)),  # SUSE
)
# Folders of NSS databases below a home: Chromium's one, and Firefox's, one a profile.
_STORES = (
    ".pki/nssdb",
    "snap/chromium/current/.pki/nssdb",
    ".mozilla/firefox/*",
    ".config/mozilla/firefox/*",
    "snap/firefox/common/.mozilla/firefox/*",
    ".var/app/org.mozilla.firefox/.mozilla/firefox/*",
)


@dataclass(frozen=True, slots=True)
class Person:
    """Whose browsers are meant. ``uid`` is None for whoever runs this."""

    home: Path
    uid: int | None = None
    gid: int | None = None


def person(environment: Mapping[str, str]) -> Person:
    """Who runs this; under sudo, who called it: root's browsers are nobody's."""
    caller = environment.get("SUDO_UID", "")
    if os.geteuid() == 0 and caller.isdigit() and caller != "0":
        try:
            entry = pwd.getpwuid(int(caller))
        except KeyError:
            pass
        else:
            return Person(Path(entry.pw_dir), entry.pw_uid, entry.pw_gid)
    return Person(Path(environment.get("HOME") or "/root"))


def system(
    root: Root, *, install: bool, top: Path = Path("/"), programs: str = _PATH
) -> Iterator[Step]:
    """Into the system's store or out of it.

    ``top`` is where the system's files are; ``programs`` the PATH of its tools.

    Raises:
        CertdError: this system has none that is known here.
    """
    for known in _SYSTEMS:
        folder = top / known.folder
        if folder.is_dir() and (program := shutil.which(known.update[0], path=programs)):
            break
    else:
        raise CertdError(
            "this system's trust store is not known",
            "there is neither update-ca-certificates nor update-ca-trust with its folder",
            "install ca-certificates, or hand over what `certd ca root` prints as it wants it",
        )
    # Whoever put it there may have known the CA's name, and written that into the file's.
    there = sorted(folder.glob(f"certd-*{root.mark}{known.suffix}"))
    if install:
        path = there[0] if there else folder / f"certd-{root.mark}{known.suffix}"
        yield Step(f"write {path}", lambda: _write(path, root.pem))
    for each in () if install else there:
        yield Step(f"remove {each}", lambda each=each: _remove(each))  # type: ignore[misc]
    if not (install or there):
        yield Step(f"find nothing to remove in {folder}", lambda: False)
    command = [program, *known.update[1:]]
    yield Step(f"run {' '.join(command)}", lambda: _update(command))


def browsers(root: Root, whose: Person, *, install: bool) -> Iterator[Step]:
    """Into each NSS store of this person, or out of it; without one there is no step."""
    for folder in sorted(set(_stores(whose.home))):
        name = ["-d", f"sql:{folder}", "-n", root.name]
        shown = f"certutil {{}} -d sql:{folder} -n '{root.name}'"
        if install:
            yield Step(
                f"run {shown.format('-A')} -t C,,",
                lambda name=name: _add(name, root.pem, whose),  # type: ignore[misc]
            )
        else:
            yield Step(
                f"run {shown.format('-D')}",
                lambda name=name: _delete(name, whose),  # type: ignore[misc]
            )


def _stores(home: Path) -> Iterator[Path]:
    for pattern in _STORES:
        for folder in home.glob(pattern):
            if (folder / "cert9.db").is_file():
                yield folder


def _add(name: list[str], pem: str, whose: Person) -> bool:
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        os.fchmod(file.fileno(), 0o644)  # for the person that certutil runs as
        return _run([_certutil(), "-A", *name, "-t", "C,,", "-i", file.name], whose)


def _delete(name: list[str], whose: Person) -> bool:
    certutil = _certutil()
    there = _run([certutil, "-L", *name], whose, must=False)
    return there and _run([certutil, "-D", *name], whose)


def _certutil() -> str:
    found = shutil.which("certutil", path=f"{os.environ.get('PATH', '')}:{_PATH}")
    if found is None:
        raise CertdError(
            "the browsers' trust stores cannot be changed",
            "there is no certutil",
            "install libnss3-tools (Debian, Ubuntu) or nss-tools (RHEL, Fedora), or leave the "
            "browsers out with --only system",
        )
    return found


def _write(path: Path, text: str) -> bool:
    try:
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text, encoding="ascii")
        temporary.chmod(0o644)
        temporary.rename(path)
    except OSError as error:
        raise _refused(f"{path} was not written", error) from error
    return True


def _remove(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(f"{path} was not removed", error) from error
    return True


def _update(command: list[str]) -> bool:
    _run(command)
    return False  # the root itself came or went before


def _refused(what: str, error: OSError) -> CertdError:
    todo = "run it as root (sudo), or leave the system out with --only nss"
    return CertdError(what, error.strerror or str(error), todo)


def _run(command: list[str], whose: Person | None = None, *, must: bool = True) -> bool:
    """Whether it went well; where it ``must``, anything else is raised."""
    environment = {"PATH": _PATH, "LC_ALL": "C", "HOME": str(whose.home if whose else "/")}
    try:
        done = subprocess.run(
            command,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            user=whose.uid if whose else None,
            group=whose.gid if whose else None,
            extra_groups=[] if whose and whose.uid is not None else None,
        )
        said = (done.stderr or done.stdout).strip().splitlines()
        why = said[-1] if said else f"exit status {done.returncode}"
        good = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        why, good = str(error), False
    if must and not good:
        raise CertdError(f"{Path(command[0]).name} failed", why, f"try it: {' '.join(command)}")
    return good
