"""The commands that an ssh target runs on the other machine: test and reload."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from certd_deploy.ssh import SSH

from certd.api import SecretReference, TargetError
from certd.testing.chains import bundle
from certd.testing.openssh import OpenSSH
from tests.servers import read_in_place
from tests.sshtargets import folder, to, unused


@pytest.fixture(scope="module")
def server() -> Iterator[OpenSSH]:
    with OpenSSH() as running:
        yield running


@pytest.fixture
def target(server: OpenSSH) -> SSH:
    return to(server)


def test_a_test_that_fails_leaves_the_old_pair_in_place(target: SSH) -> None:
    told = folder(target).parent / "told"
    older, newer = bundle("www", 1), bundle("www", 2)
    script = f'readlink "$CERTD_PATH/current" >> {told}; [ "$CERTD_VERSION" != 2 ]'
    tested = replace(target, test=("sh", "-c", script), reload=("sh", "-c", f"echo on >> {told}"))
    for first in (bundle("www", 2), older):
        if first.version == 2:
            with pytest.raises(TargetError):
                tested.deploy(first)
            assert tested.serving("www") == "", "there was nothing before"
        else:
            tested.deploy(first)
    with pytest.raises(TargetError, match=r"version 2 is not taken up: the test on 127") as failed:
        tested.deploy(newer)
    assert "sh ended with 1" in failed.value.why
    assert tested.serving("www") == older.certificate.fingerprint
    links = ["versions/2", "versions/1", "on", "versions/3"]
    assert told.read_text().split() == links, "tested with what is new, and not reloaded"


@pytest.mark.fault(row=51)
def test_a_test_that_hangs_leaves_the_old_pair_in_place(target: SSH) -> None:
    """Its connection is closed over it: the way back needs another."""
    older = bundle("www", 1)
    target.deploy(older)
    hangs = replace(target, test=("sleep", "60"), reload_timeout=0.3)
    with pytest.raises(TargetError, match="not end within"):
        hangs.deploy(bundle("www", 2))
    pair = read_in_place(folder(target))
    assert pair is not None
    assert pair.fingerprint == older.certificate.fingerprint


def test_the_command_gets_its_words_as_they_are_and_is_run_each_time(target: SSH) -> None:
    told = folder(target).parent / "told"
    odd = "$(touch /tmp/no); 'a' \"b\" *"
    script = f'echo "$1 $CERTD_NAME $CERTD_VERSION $CERTD_PATH" >> {told}'
    reloading = replace(target, reload=("sh", "-c", script, "sh", odd))
    wanted = bundle("www", 7)
    for _ in range(2):
        reloading.deploy(wanted)
    assert told.read_text() == f"{odd} www 7 {folder(target)}\n" * 2


@pytest.mark.fault(row=51)
@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("echo bad pair >&2; exit 3", 'sh ended with 3: "bad pair"', id="fails"),
        pytest.param("kill -TERM $$", "sh ended with 143", id="ended by a signal"),
        pytest.param("echo on; exec sleep 60", 'within 2 s: "on"', id="hangs"),
        pytest.param("while :; do echo flood; done", 'within 2 s: "', id="floods"),
    ],
)
def test_a_command_that_goes_wrong_is_told(target: SSH, script: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(TargetError, match=r"in place on 127\.0\.0\.1 but not taken up") as failed:
        replace(target, reload=("sh", "-c", script), reload_timeout=2.0).deploy(bundle())
    assert said in failed.value.why
    assert len(failed.value.why) < 1000
    assert time.monotonic() - began < 20


@pytest.mark.fault(row=51)
def test_a_command_that_hangs_is_ended_there(target: SSH) -> None:
    there = folder(target).parent / "pid"
    hanging = ("sh", "-c", f"echo $$ > {there}; exec sleep 60")
    with pytest.raises(TargetError, match="raise reload_timeout"):
        replace(target, reload=hanging, reload_timeout=2.0).deploy(bundle())
    process, deadline = Path("/proc") / there.read_text().strip(), time.monotonic() + 10
    while process.exists() and "Z" not in (process / "stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.fault(row=51)
def test_a_command_that_cannot_be_ended_there_is_not_waited_for(
    target: SSH, server: OpenSSH
) -> None:
    """OpenSSH passes no signal to a forced command, nor to one that sudo has made root's."""
    name = unused("forced")
    public = server.make_key(name)
    with (server.folder / "authorized_keys").open("a") as file:
        sftp = "internal-sftp*) exec /usr/lib/openssh/sftp-server"
        rest = '*) eval \\"$SSH_ORIGINAL_COMMAND\\"'
        file.write(f'\ncommand="case $SSH_ORIGINAL_COMMAND in {sftp};; {rest};; esac" {public}\n')
    forced = replace(target, key=SecretReference("file", server.folder / name))
    began = time.monotonic()
    with pytest.raises(TargetError, match="raise reload_timeout"):
        replace(forced, reload=("sleep", "60"), reload_timeout=0.5).deploy(bundle())
    assert time.monotonic() - began < 20
