"""The disk target: the contract of every target, and what is its own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certd_deploy import folders
from certd_deploy.disk import Disk

from certd.api import Bundle, ConfigError, NotHere, Secret, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from certd.x509 import new_key
from tests.servers import DAMAGES, damaged, read_in_place

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tls" / "www"


@pytest.fixture
def target(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "tls" / "{name}")


class TestDiskContract(TargetContract):
    deployments = 20

    @pytest.fixture
    def target(self, tmp_path: Path) -> Disk:
        return Disk(tmp_path / "tls" / "{name}")

    def in_place(self, target: Disk, name: str) -> Pair | None:
        return read_in_place(Path(str(target.path).replace("{name}", name)))

    @contextlib.contextmanager
    def out_of_order(self, target: Disk) -> Iterator[None]:
        """The file system is full in the middle of a certificate."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_layout_is_one_folder_a_version_and_one_link(target: Disk, folder: Path) -> None:
    wanted = bundle("www", 7)
    target.deploy(wanted)
    assert os.readlink(folder / "current") == "versions/7"
    texts = {file.name: file.read_text() for file in (folder / "current").iterdir()}
    assert texts == {
        "privkey.pem": wanted.key_pem.reveal(),
        "cert.pem": wanted.leaf_pem,
        "chain.pem": wanted.chain_pem,
        "fullchain.pem": wanted.leaf_pem + wanted.chain_pem,
    }
    assert {path.name for path in folder.iterdir()} == {"current", "versions"}


@pytest.mark.parametrize(
    ("configured", "key", "public"), [("0600", 0o600, 0o644), ("0640", 0o640, 0o644)]
)
def test_modes_are_as_configured_whatever_the_umask(
    tmp_path: Path, configured: str, key: int, public: int
) -> None:
    umask = os.umask(0o077)
    try:
        Disk(tmp_path / "new" / "tls" / "{name}", mode=configured).deploy(bundle())
    finally:
        os.umask(umask)
    folder = tmp_path / "new" / "tls" / "www"
    current = folder / "current"
    assert mode(current / "privkey.pem") == key
    assert {mode(current / f"{x}.pem") for x in ("cert", "chain", "fullchain")} == {public}
    entered = (folder.parent.parent, folder.parent, folder, folder / "versions", current)
    assert {mode(each) for each in entered} == {0o755}


@AS_ROOT
def test_owner_and_group_may_be_names_or_numbers(tmp_path: Path) -> None:
    Disk(tmp_path / "{name}", owner="nobody", group="4321").deploy(bundle())
    status = (tmp_path / "www/current/privkey.pem").stat()
    assert (status.st_uid, status.st_gid) == (65534, 4321)


def test_a_changed_mode_is_applied_to_what_is_in_place(target: Disk, folder: Path) -> None:
    wanted = bundle()
    target.deploy(wanted)
    before = (folder / "current/privkey.pem").stat().st_ino
    replace(target, mode="0640").deploy(wanted)
    assert mode(folder / "current/privkey.pem") == 0o640
    assert (folder / "current/privkey.pem").stat().st_ino == before


def test_what_is_in_place_is_not_written_again_but_reloaded(tmp_path: Path) -> None:
    count = tmp_path / "count"
    target = Disk(tmp_path / "{name}", reload=("sh", "-c", f"echo x >> {count}"))
    wanted = bundle()
    target.deploy(wanted)
    files = {path: path.stat().st_ino for path in (tmp_path / "www").rglob("*")}
    target.deploy(wanted)
    assert {path: path.stat().st_ino for path in (tmp_path / "www").rglob("*")} == files
    assert count.read_text() == "x\nx\n"


def test_a_number_that_is_taken_by_another_certificate_is_left_alone(
    target: Disk, folder: Path
) -> None:
    before = [bundle("www", number) for number in (1, 2)]
    for each in before:
        target.deploy(each)
    target.deploy(bundle("www", 1))
    assert os.readlink(folder / "current") == "versions/3"
    assert (folder / "versions/1/cert.pem").read_text() == before[0].leaf_pem
    target.deploy(before[0])
    assert os.readlink(folder / "current") == "versions/1"


def test_a_version_that_was_tampered_with_is_not_taken_for_the_real_one(
    target: Disk, folder: Path
) -> None:
    wanted = bundle()
    target.deploy(wanted)
    (folder / "current/chain.pem").write_text("")
    target.deploy(wanted)
    assert os.readlink(folder / "current") == "versions/2"
    assert target.serving("www") == wanted.certificate.fingerprint


def test_old_versions_are_pruned_but_never_the_one_before(target: Disk, folder: Path) -> None:
    bundles = [bundle("www", number) for number in range(1, 8)]
    for each in bundles:
        target.deploy(each)
    assert {path.name for path in (folder / "versions").iterdir()} == {"5", "6", "7"}
    target.deploy(bundles[4])
    target.deploy(bundle("www", 8))
    target.deploy(bundle("www", 9))
    assert {path.name for path in (folder / "versions").iterdir()} == {"7", "8", "9"}


def test_what_a_killed_run_left_is_removed(target: Disk, folder: Path) -> None:
    target.deploy(bundle("www", 1))
    for leftover in (".2.tmp", ".5.tmp"):
        (folder / "versions" / leftover).mkdir()
        (folder / "versions" / leftover / "privkey.pem").touch()
    (folder / ".current.tmp").symlink_to("versions/9")
    target.deploy(bundle("www", 2))
    assert {path.name for path in (folder / "versions").iterdir()} == {"1", "2"}
    assert {path.name for path in folder.iterdir()} == {"current", "versions"}


DEPLOY = """
import sys
from pathlib import Path
from certd.testing.chains import bundle
from certd_deploy.disk import Disk
target = Disk(Path(sys.argv[1]))
target.deploy(bundle("www", int(sys.argv[2])))
"""


@pytest.mark.fault(row=41)
def test_killed_at_any_step_there_is_a_pair_and_the_next_run_goes_on(
    target: Disk, folder: Path
) -> None:
    target.deploy(bundle("www", 1))
    for step in range(1, 10):
        run = subprocess.run(
            [sys.executable, "-c", DEPLOY, str(target.path), str(step + 1)],
            env={**os.environ, "CERTD_KILL_AT": str(step)},
            check=False,
        )
        pair = read_in_place(folder)
        assert pair is not None
        assert target.serving("www") == pair.fingerprint
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL
    assert step == 8  # complete, named, made, switched, tested, pruned, reloaded; it survives


def _elsewhere(folder: Path, elsewhere: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.symlink_to(elsewhere)


def _versions_elsewhere(folder: Path, elsewhere: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "versions").symlink_to(elsewhere)


@pytest.mark.parametrize("trap", [_elsewhere, _versions_elsewhere])
def test_a_link_in_the_way_redirects_nothing(
    target: Disk, folder: Path, tmp_path: Path, trap: Any
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trap(folder, elsewhere)
    with pytest.raises(TargetError, match="a link or a file is where certd needs a folder"):
        target.deploy(bundle())
    assert list(elsewhere.iterdir()) == []


def test_a_link_above_the_certificates_own_folder_is_the_operators(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "tls").symlink_to("real")
    target = Disk(tmp_path / "tls" / "{name}")
    target.deploy(bundle())
    assert (tmp_path / "real/www/current/cert.pem").exists()


def test_links_swapped_during_deployments_redirect_nothing(
    target: Disk, folder: Path, tmp_path: Path
) -> None:
    elsewhere, aside = tmp_path / "elsewhere", tmp_path / "aside"
    elsewhere.mkdir()
    target.deploy(bundle("www", 1))
    done = threading.Event()

    def swap() -> None:
        versions = folder / "versions"
        while not done.is_set():
            try:
                versions.rename(aside)
                versions.symlink_to(elsewhere)
                time.sleep(0.0005)
                versions.unlink()
                aside.rename(versions)
            except OSError:  # a deployment has meanwhile made itself a new one
                shutil.rmtree(aside, ignore_errors=True)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for number in range(2, 30):
            with contextlib.suppress(TargetError):
                target.deploy(bundle("www", number))
    finally:
        done.set()
        swapper.join()
    assert list(elsewhere.iterdir()) == []


def test_certificates_that_make_the_folder_above_them_at_once_are_all_deployed(
    tmp_path: Path,
) -> None:
    """Eight threads meet before each missing folder; one makes it, the others go on with it."""
    for number in range(100):
        above = tmp_path / str(number) / "web" / "sites"
        start = threading.Barrier(8)

        def make(name: str, above: Path = above, start: threading.Barrier = start) -> None:
            start.wait(10)
            folders.make_all(above / name)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(make, map(str, range(8))))
        assert {path.name for path in above.iterdir()} == set(map(str, range(8)))


def test_a_folder_called_current_is_refused_before_anything_is_written(
    target: Disk, folder: Path
) -> None:
    (folder / "current").mkdir(parents=True)
    with pytest.raises(TargetError, match='"current" is there and is not a link'):
        target.deploy(bundle())
    assert [path.name for path in folder.iterdir()] == ["current"]


@pytest.mark.parametrize("path", ["/proc/absent/{name}", "/proc/absent/www", "/proc/www"])
def test_a_place_where_no_folder_can_be_made_has_a_remedy(path: str) -> None:
    with pytest.raises(TargetError, match="No such file or directory") as refused:
        Disk(Path(path)).deploy(bundle())
    assert "correct path" in refused.value.next


@pytest.mark.parametrize("name", ["", ".", "..", "../www", "a/b", ".hidden"])
def test_a_name_that_is_no_folder_is_refused(target: Disk, name: str) -> None:
    with pytest.raises(TargetError, match="is no name for a folder"):
        target.deploy(replace(bundle(), name=name))


def test_without_a_placeholder_the_folder_is_that_of_one_certificate(tmp_path: Path) -> None:
    target = Disk(tmp_path / "tls")
    first = bundle("www")
    target.deploy(first)
    target.deploy(first)
    with pytest.raises(TargetError, match="is the folder of certificate www") as refused:
        target.deploy(bundle("mail"))
    assert "tls/{name}" in refused.value.next
    assert target.serving("www") == first.certificate.fingerprint
    assert target.serving("mail") == ""


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda current: (current / "privkey.pem").unlink(), id="the key is gone"),
        pytest.param(
            lambda current: (current / "privkey.pem").write_text(new_key("ec-p256").reveal()),
            id="another key",
        ),
        pytest.param(lambda current: (current / "privkey.pem").write_text(""), id="empty key"),
        pytest.param(lambda current: (current / "cert.pem").write_text("x"), id="another leaf"),
        pytest.param(
            lambda current: (current / "fullchain.pem").write_text("x"), id="another chain"
        ),
        pytest.param(
            lambda current: (current / "cert.pem").write_bytes(b"\xff" * 2**21), id="huge"
        ),
    ],
)
def test_a_pair_that_does_not_work_is_not_in_place(target: Disk, folder: Path, damage: Any) -> None:
    wanted = bundle()
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint
    damage(folder / "current")
    assert target.serving("www") == ""


def test_what_cannot_be_read_back_is_no_nothing(target: Disk, folder: Path) -> None:
    """For nothing would be issued anew."""
    target.deploy(bundle())
    (folder / "current/privkey.pem").write_bytes(b"\xff")
    with pytest.raises(TargetError, match=f"what is in {folder} cannot be read"):
        target.recover("www")
    shutil.rmtree(folder / "versions")
    assert target.recover("www") is None


def test_another_certificates_folder_gives_nothing_back(tmp_path: Path) -> None:
    target = Disk(tmp_path / "tls")
    target.deploy(bundle("www"))
    assert target.recover("mail") is None
    assert target.recover("www") is not None


def test_a_fifo_in_place_of_a_key_is_not_waited_for(target: Disk, folder: Path) -> None:
    target.deploy(bundle())
    key = folder / "current/privkey.pem"
    key.unlink()
    os.mkfifo(key)
    assert target.serving("www") == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"owner": "nobody-of-that-name"}, "there is no user nobody-of-that-name"),
        ({"group": "none-of-that-name"}, "there is no group none-of-that-name"),
    ],
)
def test_who_is_not_known_is_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(TargetError, match=said):
        Disk(tmp_path / "{name}", **settings).deploy(bundle())


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from certd.api import TargetError
from certd.testing.chains import bundle
from certd_deploy.disk import Disk
wanted = bundle()
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Disk(Path(sys.argv[1]) / "{name}", owner=sys.argv[2] or None).deploy(wanted)
except TargetError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("modes", "owner", "said"),
    [
        pytest.param(0o555, "", "Permission denied; let certd's user write", id="no access"),
        pytest.param(0o777, "root", "may not give files to user 0", id="not given away"),
    ],
)
def test_what_an_unprivileged_user_may_not_do_is_explained(
    modes: int, owner: str, said: str
) -> None:
    # Not tmp_path, for that is closed to other users.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(modes)
        argv = [sys.executable, "-c", UNPRIVILEGED, str(folder), owner]
        run = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert said in run.stdout
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("path", Path("tls/{nam}")),
        ("path", Path("tls/{name")),
        ("path", Path("tls/{name}/..")),
        ("path", Path("/")),
        ("path", Path()),
        ("mode", "rw"),
        ("mode", "0644"),
        ("mode", "0777"),
        ("mode", "0000"),
        ("mode", "4600"),
        ("owner", ""),
        ("owner", "-1"),
        ("owner", "a\0b"),
        ("group", "-1"),
        ("group", "4294967295"),
        ("group", "9" * 5000),
        ("reload", ("",)),
        ("reload", (" ", "x")),
        ("reload", ("a\0b",)),
        ("reload_timeout", 0.0),
        ("reload_timeout", float("nan")),
    ],
)
def test_settings_that_cannot_be_are_refused(setting: str, value: object) -> None:
    [field] = [field for field in dataclasses.fields(Disk) if field.name == setting]
    with pytest.raises(ConfigError) as refused:
        field.metadata["check"](value)
    assert not isinstance(refused.value, NotHere)
    assert refused.value.next


def test_the_key_is_in_no_error(tmp_path: Path) -> None:
    wanted = replace(bundle(), key_pem=Secret("hunter2"))
    target = Disk(tmp_path / "{name}", reload=("sh", "-c", "exit 3"))
    with pytest.raises(TargetError) as failed:
        target.deploy(wanted)
    assert "hunter2" not in repr(failed.value)


def failing(tmp_path: Path, script: str, **settings: Any) -> tuple[TargetError, float, Bundle]:
    """The error of a deployment with this reload command, and how long it took."""
    target = Disk(tmp_path / "{name}", reload=("sh", "-c", script), **settings)
    wanted = bundle("www", 3)
    began = time.monotonic()
    with pytest.raises(TargetError) as failed:
        target.deploy(wanted)
    return failed.value, time.monotonic() - began, wanted


def test_the_reload_command_has_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    seen = tmp_path / "seen"
    script = f"env > {seen}; cat; ps -o sid= -p $$ >> {seen} 2>/dev/null; true"
    Disk(tmp_path / "{name}", reload=("sh", "-c", script)).deploy(bundle("www", 3))
    found = dict(re.findall(r"^(\w+)=(.*)$", seen.read_text(), re.MULTILINE))
    ours = {key: found.pop(key) for key in list(found) if key.startswith("CERTD_")}
    assert ours == {
        "CERTD_NAME": "www",
        "CERTD_VERSION": "3",
        "CERTD_PATH": str(tmp_path / "www"),
    }
    assert set(found) <= {"PATH", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}


def test_a_reload_that_fails_shows_its_last_words(tmp_path: Path) -> None:
    script = "seq 100; echo bad '\033[31mkey' >&2; exit 3"
    error, _, wanted = failing(tmp_path, script)
    assert error.why == 'sh ended with status 3: "97 / 98 / 99 / 100 / bad ?[31mkey"'
    assert error.next
    # It is the core that puts the version before back, and there is none here.
    target = Disk(tmp_path / "{name}")
    assert target.serving("www") == wanted.certificate.fingerprint


def test_a_reload_that_is_killed_is_told(tmp_path: Path) -> None:
    error, _, _ = failing(tmp_path, "kill -SEGV $$")
    assert error.why == "sh was ended by SIGSEGV"


@pytest.mark.fault(row=51)
def test_a_reload_that_hangs_ends_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! > {pids}; echo waiting; sleep 60"
    error, took, _ = failing(tmp_path, script, reload_timeout=2.0)
    assert error.why == 'sh did not end within 2 s and was killed: "waiting"'
    assert took < 20
    _until_gone(int(pids.read_text()))


def _until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            # A zombie whose new parent has not yet looked is dead enough.
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} is still there")


ENDING = """
import sys, threading, time
from pathlib import Path
from certd.testing.chains import bundle
from certd_deploy.disk import Disk
target = Disk(Path(sys.argv[1]) / "{name}", reload=("sh", "-c", sys.argv[2]))
threading.Thread(target=target.deploy, args=[bundle()], daemon=True).start()
deadline = time.monotonic() + 10
while not (Path(sys.argv[1]) / "pids").exists() and time.monotonic() < deadline:
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    "on_term", [pytest.param("echo ended >&3; exit 0", id="ends"), pytest.param("", id="ignores")]
)
def test_a_reload_ends_with_the_process_that_runs_it(tmp_path: Path, on_term: str) -> None:
    pids, said = tmp_path / "pids", tmp_path / "said"
    script = (
        f"exec 3> {said}; trap '{on_term}' TERM; sleep 60 & "
        f"echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
    )
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", ENDING, str(tmp_path), script], check=False, timeout=20
    )
    assert ended.returncode == 0
    assert time.monotonic() - began < 15
    assert said.read_text() == ("ended\n" if on_term else "")
    for pid in pids.read_text().split():
        _until_gone(int(pid))


@pytest.mark.fault(row=51)
def test_a_reload_that_floods_is_cut(tmp_path: Path) -> None:
    error, took, _ = failing(tmp_path, "head -c 50000000 /dev/zero; echo; echo end; exit 1")
    assert error.why.endswith('end"')
    assert len(error.why) < 1000
    assert took < 10


@pytest.mark.fault(row=51)
def test_a_reload_that_floods_for_ever_is_ended(tmp_path: Path) -> None:
    error, took, _ = failing(tmp_path, "exec yes", reload_timeout=0.3)
    assert "did not end within 0.3 s" in error.why
    assert took < 10


@pytest.mark.fault(row=51)
def test_a_server_that_the_reload_starts_is_not_waited_for(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 30 & echo $! > {pids}"  # it holds the pipe of the output
    target = Disk(tmp_path / "{name}", reload=("sh", "-c", script))
    began = time.monotonic()
    target.deploy(bundle())
    assert time.monotonic() - began < 10
    os.kill(int(pids.read_text()), signal.SIGKILL)  # and it was still there


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    target = Disk(tmp_path / "{name}", reload=("no-such-program",))
    with pytest.raises(TargetError, match="no-such-program cannot be started: No such file"):
        target.deploy(bundle())


@pytest.fixture
def tested(tmp_path: Path) -> Disk:
    """Its test passes while there is no file ``broken``; each command leaves a line in ``ran``."""
    ran, broken = tmp_path / "ran", tmp_path / "broken"
    script = f"echo test $CERTD_NAME $CERTD_VERSION $(readlink $CERTD_PATH/current) >> {ran}; "
    return Disk(
        tmp_path / "tls" / "{name}",
        test=("sh", "-c", script + f"[ ! -e {broken} ] || {{ echo line 7 is wrong; exit 3; }}"),
        reload=("sh", "-c", f"echo reload >> {ran}"),
    )


def test_the_test_looks_at_what_is_in_place_then_it_is_reloaded(
    tested: Disk, tmp_path: Path
) -> None:
    tested.deploy(bundle("www", 1))
    assert (tmp_path / "ran").read_text() == "test www 1 versions/1\nreload\n"


@pytest.mark.fault(row=47)
@pytest.mark.parametrize("first", [True, False], ids=["the first time", "later"])
def test_a_test_that_fails_switches_the_link_back(
    tested: Disk, folder: Path, tmp_path: Path, first: bool
) -> None:
    older, newer = bundle("www", 1), bundle("www", 2)
    if not first:
        tested.deploy(older)
    (tmp_path / "broken").touch()
    (tmp_path / "ran").unlink(missing_ok=True)
    with pytest.raises(TargetError) as failed:
        tested.deploy(newer)
    assert failed.value.what == "version 2 is not taken up: the server's test refuses it"
    assert 'sh ended with status 3: "line 7 is wrong"' in failed.value.why
    assert (tmp_path / "ran").read_text() == "test www 2 versions/2\n", "it was not reloaded"
    assert os.path.lexists(folder / "current") is not first
    assert tested.serving("www") == ("" if first else older.certificate.fingerprint)
    (tmp_path / "broken").unlink()
    tested.deploy(newer)
    assert tested.serving("www") == newer.certificate.fingerprint


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_is_no_pair_never_gets_in_place(tmp_path: Path, kind: str) -> None:
    """Some servers die of it, whatever their own test says."""
    seen = tmp_path / "seen"
    target = Disk(tmp_path / "{name}", test=("touch", str(seen)), reload=("touch", str(seen)))
    older = bundle("www", 1)
    target.deploy(older)
    seen.unlink()
    with pytest.raises(TargetError, match="for a pair"):
        target.deploy(damaged(kind))
    assert target.serving("www") == older.certificate.fingerprint
    assert not seen.exists()
