"""The exec target with programs that keep its contract, and with some that do not."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certd_deploy.exec import Exec

from certd.api import ConfigError, NotHere, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract

PROGRAM = """\
import json, os, sys
folder, verb, name = sys.argv[1:4]
place = f"{folder}/{name}.json"
if verb == "serving":
    if os.path.exists(place):
        print(json.load(open(place))["fingerprint"])
    sys.exit()
open(f"{folder}/runs", "a").write("x")
given = json.load(sys.stdin)
assert given["version"] == int(sys.argv[4]) and given["name"] == name
if os.path.exists(f"{folder}/broken"):
    sys.exit("the disk is full")
json.dump(given, open(f"{place}.tmp", "w"))
os.replace(f"{place}.tmp", place)
"""

Script = Callable[..., Exec]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """``script(text)``: a target whose program is this shell script."""

    def make(text: str, program_timeout: float = 10, **more: tuple[str, ...]) -> Exec:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return Exec((str(path),), program_timeout=program_timeout, **more)

    return make


class TestExecContract(TargetContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Exec:
        program = (sys.executable, "-IS", "-c", PROGRAM, str(tmp_path))
        return Exec(program, look=(*program, "serving"))

    def in_place(self, target: Exec, name: str) -> Pair | None:
        time.sleep(0.001)
        try:
            there = json.loads((Path(target.argv[-1]) / f"{name}.json").read_text())
        except FileNotFoundError:
            return None
        return Pair(there["fullchain"], there["key"])

    @contextlib.contextmanager
    def out_of_order(self, target: Exec) -> Iterator[None]:
        mark = Path(target.argv[-1]) / "broken"
        mark.touch()
        yield
        mark.unlink()

    def writes(self, target: Exec) -> int:
        return len((Path(target.argv[-1]) / "runs").read_text())


def test_it_is_given_the_bundle_and_the_key_by_standard_input_only(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTD_TOKEN", "of the daemon's own environment")
    told, wanted = tmp_path / "told", bundle("www", 7, "www.example.com", "192.0.2.1")
    script(
        f'cat >"{told}.json"; printf "%s\\n" "$@" >"{told}"; env | grep ^CERTD | sort >>"{told}"\n'
        f'tr "\\0" "\\n" <"/proc/$$/environ" >"{told}.seen"; ps -ef >>"{told}.seen"'
    ).deploy(wanted)
    fingerprint = wanted.certificate.fingerprint
    assert told.read_text().splitlines() == [
        "deploy",
        "www",
        "7",
        f"CERTD_FINGERPRINT={fingerprint}",
        "CERTD_NAME=www",
        "CERTD_VERSION=7",
    ]
    assert json.loads(Path(f"{told}.json").read_text()) == {
        "name": "www",
        "version": 7,
        "fingerprint": fingerprint,
        "names": ["www.example.com", "192.0.2.1"],
        "not_before": wanted.certificate.not_before.isoformat(),
        "not_after": wanted.certificate.not_after.isoformat(),
        "fullchain": wanted.fullchain_pem,
        "cert": wanted.leaf_pem,
        "chain": wanted.chain_pem,
        "key": wanted.key_pem.reveal(),
    }
    seen = Path(f"{told}.seen").read_text()
    assert f"{tmp_path}/program deploy www 7" in seen
    assert not [line for line in wanted.key_pem.reveal().splitlines()[1:-1] if line in seen]


def test_the_bundle_may_be_read_twice_or_not_at_all(tmp_path: Path, script: Script) -> None:
    wanted = bundle()
    script(f'cat <&0 >"{tmp_path}/1"; cat /proc/self/fd/0 >"{tmp_path}/2"').deploy(wanted)
    assert (tmp_path / "1").read_text() == (tmp_path / "2").read_text() != ""
    script("exit 0").deploy(wanted)


def test_without_a_look_it_is_run_each_time(tmp_path: Path, script: Script) -> None:
    target = script(f'echo "$2" >>"{tmp_path}/runs"')
    for _ in range(2):
        target.deploy(bundle())
    assert target.serving("www") is None
    assert (tmp_path / "runs").read_text() == "www\nwww\n"


def test_a_look_may_be_openssls_own_words(tmp_path: Path) -> None:
    wanted = bundle()
    (tmp_path / "www").write_text(wanted.leaf_pem)
    look = f'openssl x509 -noout -fingerprint -sha256 -in "{tmp_path}/$0"'
    target = Exec(("false",), look=("sh", "-c", look))
    assert target.serving("www") == wanted.certificate.fingerprint
    target.deploy(wanted)  # it is there: nothing is run
    with pytest.raises(TargetError, match="ended with status 1"):
        target.serving("mail")


@pytest.mark.parametrize("text", ["abc", "x" * 64, "f" * 63, "f" * 200_000])
def test_a_look_that_says_something_else_is_told(text: str) -> None:
    target = Exec(
        ("true",), look=("sh", "-c", f"head -c {len(text)} /dev/zero | tr '\\0' {text[0]}")
    )
    with pytest.raises(TargetError, match="no SHA-256 in hexadecimal") as failed:
        target.serving("www")
    assert len(str(failed.value)) < 1000


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        pytest.param("echo later; exit 75", TargetBusy, "status 75", id="EX_TEMPFAIL"),
        pytest.param("echo no >&2; exit 77", TargetError, 'status 77: "no"', id="EX_NOPERM"),
        pytest.param("echo a bug; exit 1", TargetError, '"a bug"', id="any other status"),
        pytest.param("kill -9 $$", TargetError, "SIGKILL", id="a signal"),
        pytest.param("printf '\\033[2Jx'; exit 1", TargetError, '"?[2Jx"', id="for terminals"),
    ],
)
def test_how_it_ends_says_what_it_means(
    script: Script, text: str, kind: type[TargetError], why: str
) -> None:
    with pytest.raises(TargetError) as failed:
        script(text).deploy(bundle())
    assert type(failed.value) is kind
    assert why in failed.value.why
    assert failed.value.next


@pytest.mark.parametrize(
    "text", ["exit 1", "exit 77", "sleep 60"], ids=["fails", "denied", "hangs"]
)
def test_a_program_that_writes_what_it_was_given_does_not_show_the_key(
    script: Script, text: str
) -> None:
    wanted = bundle()
    with pytest.raises(TargetError) as failed:
        script(f"tail -c 300 >&2; {text}", program_timeout=2.0).deploy(wanted)
    assert "not shown" in failed.value.why
    lines = wanted.key_pem.reveal().splitlines()[1:-1]
    assert not [line for line in lines if line[-20:] in str(failed.value)]


@pytest.mark.fault(row=51)
def test_one_that_hangs_ends_with_all_that_it_has_forked(tmp_path: Path, script: Script) -> None:
    hanging = f'sleep 60 & echo $! >"{tmp_path}/child"; echo on; wait'
    began = time.monotonic()
    with pytest.raises(TargetBusy, match=r"within 2 s .*raise program_timeout"):
        script(hanging, program_timeout=2.0).deploy(bundle())
    assert time.monotonic() - began < 20
    process, deadline = Path("/proc") / (tmp_path / "child").read_text().strip(), began + 30
    while process.exists() and process.joinpath("stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.fault(row=51)
def test_one_that_leaves_a_server_running_is_not_waited_for(tmp_path: Path, script: Script) -> None:
    began = time.monotonic()
    script(f'sleep 60 & echo $! >"{tmp_path}/child"').deploy(bundle())
    assert time.monotonic() - began < 10
    os.kill(int((tmp_path / "child").read_text()), 9)


@pytest.mark.fault(row=51)
def test_what_floods_is_cut(script: Script) -> None:
    with pytest.raises(TargetBusy) as failed:
        script("yes flood", program_timeout=2.0).deploy(bundle())
    assert "flood" in failed.value.why
    assert len(failed.value.why) < 1000


def test_one_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be started: No such file"):
        Exec((str(tmp_path / "gone"),)).deploy(bundle())


@pytest.mark.parametrize(
    ("setting", "value", "kind"),
    [
        pytest.param("argv", (), ConfigError, id="no program"),
        pytest.param("argv", ("no-such-program",), NotHere, id="one that is not here"),
        pytest.param("look", ("no-such-program",), NotHere, id="a look that is not here"),
        pytest.param("program_timeout", 0.0, ConfigError, id="no time"),
        pytest.param("program_timeout", float("nan"), ConfigError, id="no number"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(
    setting: str, value: object, kind: type[ConfigError]
) -> None:
    with pytest.raises(kind) as refused:
        Exec.__dataclass_fields__[setting].metadata["check"](value)
    assert type(refused.value) is kind
    assert refused.value.next
