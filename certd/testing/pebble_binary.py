"""Where Pebble comes from: PATH if new enough, else a newer Debian suite, kept in a cache."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from certd.testing import debian
from certd.testing.processes import ComponentError, NotInstalled

# ARI moved to its final form, and profiles came, with 2.7.
OLDEST = (2, 7)

_NAMES = ("pebble", "pebble-challtestsrv")


@dataclass(frozen=True, slots=True)
class Binaries:
    pebble: Path
    challtestsrv: Path
    version: tuple[int, int]


def locate() -> Binaries:
    """Pebble on PATH if it is new enough, else the cached one, else one fetched now.

    Any number of processes may ask at once: one fetches, the others wait for it.

    Raises:
        NotInstalled: none of the three; says why and what to do.
    """
    found = _on_path()
    if found is not None:
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "certd"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "pebble.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _cached(cache / "pebble") or _fetch(cache)
    except (ComponentError, OSError) as error:
        raise NotInstalled(
            "pebble",
            str(error),
            f"put pebble and pebble-challtestsrv >= {_dotted(OLDEST)} on PATH, or name a running"
            " one by CERTD_TEST_PEBBLE_DIRECTORY (see compose.yaml)",
        ) from error


def _on_path() -> Binaries | None:
    paths = [shutil.which(name) for name in _NAMES]
    if paths[0] is None or paths[1] is None:
        return None
    return _accept(Path(paths[0]), Path(paths[1]), _version(Path(paths[0])))


def _cached(folder: Path) -> Binaries | None:
    note = folder / "version"
    version = _parse(note.read_text()) if note.is_file() else None
    return _accept(folder / _NAMES[0], folder / _NAMES[1], version)


def _fetch(cache: Path) -> Binaries:
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
        for package in debian.unpack("pebble", Path(work)):
            # Debian's build calls itself "dev": only the package knows its version.
            ready = Path(work) / f"ready-{package.suite}"
            ready.mkdir()
            for name in _NAMES:
                shutil.copy2(package.root / "usr/bin" / name, ready / name)
            (ready / "version").write_text(package.version + "\n")
            if _cached(ready) is not None:
                shutil.rmtree(cache / "pebble", ignore_errors=True)
                ready.rename(cache / "pebble")
                break
    binaries = _cached(cache / "pebble")
    if binaries is None:
        raise ComponentError(f"no suite has a pebble >= {_dotted(OLDEST)} that runs here")
    return binaries


def _accept(pebble: Path, challtestsrv: Path, version: tuple[int, int] | None) -> Binaries | None:
    """These binaries, if new enough and able to run here (a newer libc may be asked for)."""
    if version is None or version < OLDEST:
        return None
    for binary in (pebble, challtestsrv):
        try:
            subprocess.run([binary, "-help"], capture_output=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
    return Binaries(pebble, challtestsrv, version)


def _version(binary: Path) -> tuple[int, int] | None:
    """Its own word, else the package's that owns it, else Go's build information inside it."""
    own = subprocess.run(
        [binary, "-version"], capture_output=True, text=True, timeout=20, check=False
    )
    stated = _parse(own.stdout + own.stderr)
    if stated is not None:
        return stated
    if shutil.which("dpkg-query") is not None:
        query = ["dpkg-query", "--search", str(binary.resolve())]
        owner = subprocess.run(query, capture_output=True, text=True, check=False).stdout.partition(
            ":"
        )[0]
        if owner:
            show = ["dpkg-query", "--show", "--showformat=${Version}", owner]
            return _parse(subprocess.run(show, capture_output=True, text=True, check=False).stdout)
    built = re.search(rb"\tgithub\.com/letsencrypt/pebble/v2\tv(\d+\.\d+)", binary.read_bytes())
    return _parse(built[1].decode()) if built else None


def _parse(text: str) -> tuple[int, int] | None:
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
