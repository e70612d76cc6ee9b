"""HTTP-01 through the folder of another web server: real files, a real server."""

from __future__ import annotations

import functools
import http.client
import http.server
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from certd.challenges.http01 import Webroot
from certd.errors import ChallengeError

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
KEY_AUTHORIZATION = TOKEN + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


@pytest.fixture(autouse=True)
def _as_the_unit_does() -> Iterator[None]:
    """UMask=0077, as in certd.service: the web server must be able to read all the same."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".well-known" / "acme-challenge"


def test_it_is_served_while_it_is_published(tmp_path: Path, folder: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    served = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()

        def got() -> tuple[int, bytes]:
            client = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
            client.request("GET", f"/.well-known/acme-challenge/{TOKEN}")
            answer = client.getresponse()
            body = answer.read()
            client.close()
            return answer.status, body

        try:
            Webroot(tmp_path).publish(TOKEN, KEY_AUTHORIZATION)
            assert got() == (200, KEY_AUTHORIZATION.encode())
            Webroot(tmp_path).withdraw(TOKEN)
            assert got()[0] == 404
        finally:
            server.shutdown()


def test_the_web_server_may_read_and_nobody_else_write(tmp_path: Path, folder: Path) -> None:
    Webroot(tmp_path).publish(TOKEN, KEY_AUTHORIZATION)

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, folder / TOKEN)]
    assert modes == [0o755, 0o755, 0o644]
    assert [path.name for path in folder.iterdir()] == [TOKEN]


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o2775)

    Webroot(tmp_path).publish(TOKEN, KEY_AUTHORIZATION)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o2775


@pytest.mark.parametrize("token", ["../../../etc/passwd", "a", "", TOKEN + "\n", "é" * 30])
def test_no_other_token_becomes_a_path(tmp_path: Path, token: str) -> None:
    for use in (
        functools.partial(Webroot(tmp_path).publish, token, KEY_AUTHORIZATION),
        functools.partial(Webroot(tmp_path).withdraw, token),
    ):
        with pytest.raises(ChallengeError, match="token that is not usable"):
            use()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [".well-known", ".well-known/acme-challenge"])
def test_no_link_leads_out_of_the_web_root(tmp_path: Path, link: str) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    (elsewhere / "acme-challenge").mkdir(parents=True)
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(elsewhere)

    with pytest.raises(ChallengeError, match="is a symbolic link"):
        Webroot(root).publish(TOKEN, KEY_AUTHORIZATION)

    assert [path.name for path in elsewhere.rglob("*")] == ["acme-challenge"]


def test_a_link_in_the_place_of_the_token_is_replaced_not_followed(
    tmp_path: Path, folder: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    folder.mkdir(parents=True)
    (folder / TOKEN).symlink_to(victim)

    Webroot(tmp_path).publish(TOKEN, KEY_AUTHORIZATION)

    assert victim.read_text() == "untouched"
    assert (folder / TOKEN).read_text() == KEY_AUTHORIZATION
    assert not (folder / TOKEN).is_symlink()


def test_only_our_own_file_is_removed(tmp_path: Path, folder: Path) -> None:
    webroot = Webroot(tmp_path)
    webroot.publish(TOKEN, KEY_AUTHORIZATION)
    foreign, link, pipe, below = (folder / (letter * 30) for letter in "ABCD")
    foreign.write_text("another's")
    link.symlink_to(folder / TOKEN)
    os.mkfifo(pipe)
    below.mkdir()

    for path in (foreign, link, pipe, below):
        webroot.withdraw(path.name)
    assert len(list(folder.iterdir())) == 5

    Webroot(tmp_path).withdraw(TOKEN)  # as after a crash: nothing is remembered
    assert not (folder / TOKEN).exists()


def test_what_is_gone_counts_as_removed(tmp_path: Path) -> None:
    Webroot(tmp_path).withdraw(TOKEN)
    Webroot(tmp_path / "gone").withdraw(TOKEN)

    assert list(tmp_path.iterdir()) == []


def test_a_missing_web_root_is_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ChallengeError, match="no such folder; correct webroot"):
        Webroot(tmp_path / "missing").publish(TOKEN, KEY_AUTHORIZATION)
    assert list(tmp_path.iterdir()) == []


def test_no_descriptor_is_left_behind(tmp_path: Path, folder: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    webroot = Webroot(tmp_path)
    (folder / ("D" * 30)).mkdir(parents=True)
    before = count()
    webroot.publish(TOKEN, KEY_AUTHORIZATION)
    webroot.withdraw("D" * 30)
    webroot.withdraw(TOKEN)
    folder.rename(tmp_path / "away")
    (tmp_path / ".well-known" / "acme-challenge").symlink_to(tmp_path)
    with pytest.raises(ChallengeError):
        webroot.publish(TOKEN, KEY_AUTHORIZATION)
    assert count() == before
