"""Commands on a terminal: lines end at words, names stay whole where there is room."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios
from datetime import UTC, datetime
from pathlib import Path

from certd import config
from certd.known import Failure
from certd.store import Store
from certd.testing.processes import NotInstalled
from tests.site import Site

COLUMNS = 80
LONG = "what did not go well is told in words enough for more than a line " * 2


class NoCA:
    """Stands for a CA in configurations of which none is asked."""

    directory = "https://127.0.0.1:9/dir"
    ca_bundle = Path("/nowhere")
    http_port = 9
    tls_port = 9
    resolver = None


def site_of(folder: Path) -> Site:
    site = Site(folder / "site", NoCA())
    del site.tables["ca.test"]["ca_bundle"]
    return site.disk().certificate("portal", "www.portal.example.com", targets=["web"])


def on_terminal(site: Site, *words: str) -> list[str]:
    """The lines that a terminal gets, without colours."""
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise NotInstalled("a terminal", str(error), "mount /dev/pts") from error
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    environment["TERM"] = "xterm"
    with subprocess.Popen(
        site.argv(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ):
        os.close(theirs)
        got = b""
        with contextlib.suppress(OSError):  # the last one has left the terminal
            while data := os.read(ours, 4096):
                got += data
        os.close(ours)
    return re.sub(r"\x1b\[[\d;]*m", "", got.decode()).replace("\r", "").splitlines()


def test_status_breaks_lines_at_words(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    wanted = config.load(site.path)
    now = datetime.now(UTC)
    failure = Failure(LONG.strip(), "why", "next", now)
    with contextlib.closing(Store.open(site.state)) as store:
        store.lineages.take_over(wanted.certificates, wanted.digest)
        store.leases.claim(["portal"])
        store.lineages.keep_failure("portal", failure, 1, now)
    lines = on_terminal(site, "status")
    assert max(map(len, lines)) <= COLUMNS
    assert f"portal: {LONG.strip()}: why; next" in re.sub(r"\n    ", " ", "\n".join(lines))
    assert f"\nportal: {LONG.strip()}: why; next\n" in site.certd("status").stdout


def test_names_in_the_table_stay_whole(tmp_path: Path) -> None:
    lines = on_terminal(site_of(tmp_path), "status")
    assert max(map(len, lines)) <= COLUMNS
    assert lines[1].startswith("portal  www.portal.example.com  new")


def test_check_breaks_lines_at_words(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    site.disk("mail", path="/srv/nothing/{stranger}", reloadd=["true"])
    lines = on_terminal(site, "check")
    assert max(len(line) for line in lines if " " in line.strip()) <= COLUMNS
    whole = site.certd("check").stderr
    assert len(lines) > len(whole.splitlines())
    assert re.sub(r"\n    ", " ", "\n".join(lines)) == whole.rstrip("\n")
